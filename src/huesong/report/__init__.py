"""Pages, plots and tables that people read."""
