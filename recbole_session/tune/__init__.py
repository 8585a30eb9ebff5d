"""A search over runs, on validation alone."""
