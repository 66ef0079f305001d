"""The Kubeflow pipeline: wiring, resources, compiling, running here; authoring code, not installed."""
