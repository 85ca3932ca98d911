"""Settings of the generator's stages."""
