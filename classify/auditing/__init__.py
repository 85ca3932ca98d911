"""Attacks on a fine-tuned head."""
