"""Component: the digest that `current` means today; never cached, so that a scheduled run sees new data."""

from typing import NamedTuple

from components import component


@component
def resolve(digest: str, remote: str, cache_days: int) -> NamedTuple("Resolved", digest=str, period=str):
    """Resolve the data version, and say what period of the cache this is.

    Args:
        digest: md5 of a data version, or `current`: the one that was published last.
        remote: s3://bucket/prefix, or a folder.
        cache_days: days after which the cache is used no more.

    Returns:
        The digest; and the period, on which all that is cached depends.
    """
    from huesong.component_io import inputs
    from huesong.data import versions as remotes

    inputs.started()
    return remotes.resolve(digest, remote), inputs.cache_period(cache_days)
