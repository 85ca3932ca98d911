"""What stands in folders and archives, and what names of files tell."""
