"""MLflow runs: the store, one run a stage, what a run was made from."""
