"""Where lesions lie in full images, and how they are cut."""
