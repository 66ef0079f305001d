"""Harmony and melody of the rule-based composer."""
