"""Object storage: S3 and local folders behind four verbs, and the mirror of training checkpoints."""
