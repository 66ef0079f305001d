"""What a piece is written to: kinds of file, their names, and its page in a notebook."""
