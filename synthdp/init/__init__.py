"""`synthdp init`: settings for one's own images, and the commands to run them in order."""
