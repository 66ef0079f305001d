"""Sets in their own layouts, turned into the raw layout."""
