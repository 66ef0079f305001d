"""How well pictures are read: measured for any encoder, refitted for a model."""
