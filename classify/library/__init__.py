"""What a Python user holds in hand of the classifier; public under `synthdp` (docs/library.md)."""
