"""Raw data: tables, importers, the sample set, validation, splits, training pairs."""
