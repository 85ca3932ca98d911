"""What a set's table holds: its words, bounded CSV, classes, named files, the hub's form."""
