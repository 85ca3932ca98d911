"""One release: who takes part, bounded vectors, exact sums on a lattice, the noise."""
