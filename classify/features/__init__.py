"""What frozen networks give for patients' images."""
