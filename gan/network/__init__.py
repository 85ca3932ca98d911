"""The networks of a generator and how images are drawn from them: the folder that packages copy.

It stands by itself: torch and numpy alone (medigan's function also takes Pillow), and its own files
by relative imports. Settings, files and data sets are the business of the rooms around it.
"""
