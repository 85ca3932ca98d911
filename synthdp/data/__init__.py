"""What a data set is, and every way to make one."""
