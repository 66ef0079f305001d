"""The sample set: painted pictures and composed pieces."""
