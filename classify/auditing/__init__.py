"""Attacks on what a finished training promised."""
