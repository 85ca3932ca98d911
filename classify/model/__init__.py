"""A trained classifier, and the folder that it is kept in."""
