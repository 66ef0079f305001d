"""Component: the digest that `current` means today; never cached, so that a scheduled run sees new data."""

from components import component


@component
def resolve(digest: str, remote: str) -> str:
    """Resolve the data version.

    Args:
        digest: md5 of a data version, or `current`: the one that was published last.
        remote: s3://bucket/prefix, or a folder.

    Returns:
        The digest.
    """
    from huesong.component_io import inputs
    from huesong.data import versions as remotes

    inputs.started()
    return remotes.resolve(digest, remote)
