"""Random views of an image: which are made, as settings alone, and how."""
