"""Where every fact of a pool lives."""
