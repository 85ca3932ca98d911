"""What image files say of their samples: a file for each format, and what samples mean as grey."""
