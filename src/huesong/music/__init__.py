"""Symbolic music: reading, tokens and grammar, features and statistics, rendering."""
