"""Plans beside those of people: annotated pieces, how well the analysis does on them, and what the planner learns."""
