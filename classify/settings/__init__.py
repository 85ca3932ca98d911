"""Settings of the classifier's stages."""
