"""Stage 1: raw data in, validated tables, picture features and tokens out."""
