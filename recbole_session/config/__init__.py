"""Keys and their values: defaults, precedence, checks."""
