"""The five stages of the pipeline: one `run` each."""
