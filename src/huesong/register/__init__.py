"""Stage 5: the model registry, the promotion gate, the model card."""
