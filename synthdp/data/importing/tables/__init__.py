"""Other people's tables, and mappings of public collections."""
