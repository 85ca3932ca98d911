"""What may leave the house, copied out of a run, a data set or a study, and nothing else.

`release` makes the folder of `copies`, with a `card` that says how a model is used. `files` looks
at every file once more. `contents` is the folder's own list, with a digest of each file, and its
check; `record` is what a data set of patients knows of all that left. `hub` shows and uploads it.
"""
