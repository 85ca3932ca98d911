"""From a hospital's files to a data set."""
