"""What every part stands on: errors, files, progress, signals, worker processes, object storage."""
