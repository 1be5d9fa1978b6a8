"""The rating page and its votes."""
