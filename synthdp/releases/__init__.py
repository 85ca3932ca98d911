"""What may leave the house, copied out of a run, a data set or a study, and nothing else.

`release` makes the folder: `models`, `studies` and `datasets` copy one kind each. `runs` are the
parts of any run, `networks` the public networks that a classifier stands on, `card` how to use it;
`rows` are those of a study that leave, and what is blank in them; `promise` is what the statement
then says. `files` looks at every file once more. `contents` is the folder's own list, with a digest
of each file, and its check; `record` is what a data set of patients knows of all that left.
"""
