"""Run folders, made into tables."""
