"""Attacks on the private training of a network, or of its last blocks."""
