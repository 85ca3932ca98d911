"""Whose images are: ids and their spellings, persons with several ids, split and cohort of each."""
