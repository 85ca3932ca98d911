"""What frozen networks give for patients' images, and how it becomes a head's input."""
