"""What notes show of a plan: the grid of bars, chords and keys, what returns, phrases, cadences."""
