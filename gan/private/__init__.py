"""Generators with a guarantee."""
