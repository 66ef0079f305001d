"""Valence and arousal of pictures and music: people's labels, the models that are fitted to them, and how these are scored."""
