"""Stage 2: valence and arousal for everything, and the pairs that training reads."""
