"""Experiments over whole runs of the pipeline's stages."""
