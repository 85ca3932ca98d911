"""Copies as they may leave: of a model, a study or a data set, whole and of their parts.

`models`, `studies` and `datasets` copy one kind each. `runs` are the parts of any run, `networks`
the public networks that a classifier stands on; `rows` are those of a study that leave, and what is
blank in them.
"""
