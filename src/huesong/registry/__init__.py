"""MLflow: runs, the model registry, the promotion gate, serving."""
