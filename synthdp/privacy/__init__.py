"""The guarantee: mechanism, noise, clipping, ledger and statement."""
