"""How a command line is read, described, completed and answered."""
