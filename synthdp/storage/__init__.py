"""Files on disk: atomic writes, bounded reads, locks, digests, names without folders."""
