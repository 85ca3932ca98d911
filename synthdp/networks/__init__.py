"""Frozen public networks: built, read and cached once for all."""
