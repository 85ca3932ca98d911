"""How close a synthetic set is to the real one."""
