"""Component: the raw data of one version, by digest, from S3 or a folder in DVC's layout."""

from kfp import dsl

from components import component


@component
def fetch(digest: str, remote: str, period: str, out: dsl.Output[dsl.Dataset], summary: dsl.Output[dsl.Markdown]):
    """Fetch the data.

    Args:
        digest: md5 of the data version, as in data.dvc.
        remote: s3://bucket/prefix, or a folder.
        period: of the cache; in another one the data are fetched anew, and so all is made anew that is made of them.
        out: the data folder.
        summary: what was fetched.
    """
    from pathlib import Path

    from huesong.component_io import inputs, outputs
    from huesong.data import versions as remotes

    inputs.started()
    report = remotes.fetch(digest, remote, Path(out.path))
    out.metadata.update({inputs.LINEAGE: report.digest, "files": report.files, "bytes": report.bytes})
    outputs.write(summary, f"# fetch\n\n{report}\n")
