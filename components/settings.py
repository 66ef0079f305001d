"""Component: check all settings before anything costs time, and cut them into one section a stage."""

from typing import NamedTuple

from components import component


@component
def settings(params: dict, tracking_uri: str) -> NamedTuple(
    "Settings", preprocess=dict, label=dict, train=dict, evaluate=dict, register=dict, tracking=dict
):
    """Check the settings.

    Args:
        params: params.yaml as one dict.
        tracking_uri: the MLflow store; empty: MLFLOW_TRACKING_URI of the pod.

    Returns:
        One section a stage, and `tracking`: the store and the experiment.
    """
    from huesong.component_io import inputs

    inputs.started()
    cut = inputs.sections(params)
    return (*cut, {"uri": tracking_uri, "experiment": cut[-1]["experiment"]})
