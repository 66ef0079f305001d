"""The CNN-Transformer, its critic, the training loop, sampling, the model folder."""
