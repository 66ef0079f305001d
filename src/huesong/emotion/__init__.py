"""Valence and arousal: the space, the labellers, pairing, the independent judge."""
