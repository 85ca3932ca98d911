"""A study's figures as files of a journal's size, with captions."""
