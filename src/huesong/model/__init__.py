"""The CNN-Transformer: network, objectives, training loop, sampling."""
