"""How often bars are found where they are known."""
