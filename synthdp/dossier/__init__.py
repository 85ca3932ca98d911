"""The file for a data-protection officer: what commands wrote down, read and set in one page."""
