"""A finished generator: written, read, and packed for others."""
