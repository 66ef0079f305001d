"""Raw data: tables, splits, versions, importers, the sample set."""
