"""Attacks on the promise of a trained generator."""
