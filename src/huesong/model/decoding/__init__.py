"""The network token by token: what it has read is kept (cache.py), and a step reads what is new (decoder.py)."""
