"""What a training on patients begins with: their images, a classifier, its first weights."""
