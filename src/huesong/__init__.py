"""huesong makes music that feels like a picture."""

__version__ = "0.1.0"
