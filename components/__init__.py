"""One Kubeflow component a stage, each a few lines around `huesong.stages.<stage>.run`; authoring code, not installed."""

from huesong import __version__


def image(component: str) -> str:
    """The image of a component as components/docker-bake.json tags it; a release names it by digest instead."""
    return f"huesong/{component}:{__version__}"
