"""Where the bars of a piece are: read from its file or from people's tables, else estimated from its notes."""
