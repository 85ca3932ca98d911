"""Images of an import: read once, in parallel, surveyed."""
