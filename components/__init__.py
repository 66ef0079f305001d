"""One Kubeflow component a stage, each a few lines around `huesong.<stage>.stage.run`; authoring code, not installed."""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from huesong import __version__


def image(component: str) -> str:
    """The image of a component as components/docker-bake.json tags it; a release names it by digest instead."""
    return f"huesong/{component}:{__version__}"


def component(function: Callable[..., Any]) -> Any:
    """A component of our own image, which holds everything: nothing is installed when a pod starts."""
    made = dsl.component(base_image=image(function.__name__), install_kfp_package=False)(function)
    container = made.component_spec.implementation.container
    # KFP starts Python below a shell, which as a container's first process lets no SIGTERM through.
    shell = "_KFP_RUNTIME=true "
    assert sum(shell in word for word in container.command) == 1, "KFP starts its components in another way"
    container.command = [word.replace(shell, f"{shell}exec ") for word in container.command]
    return made
