"""Built-in data, free of privacy cost."""
