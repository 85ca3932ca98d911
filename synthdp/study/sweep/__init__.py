"""A grid of settings, run."""
