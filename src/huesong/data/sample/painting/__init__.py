"""Canvas, scenes and abstract compositions of the sample pictures."""
