"""Stage 4: pieces for held-out pictures and a grid of emotions, before independent judges."""
