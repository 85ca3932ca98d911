"""What an import is told: settings classes, which load nothing that reads images."""
