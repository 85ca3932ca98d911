"""Lower bounds on what a release gives away, from attacks on it."""
