"""Facts about a labelled set: near-duplicates, leaks, and what scores go along with."""
