"""Attacks on the private training of a head on features."""
