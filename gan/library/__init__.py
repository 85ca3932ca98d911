"""What a Python user holds in hand of the generator; public under `synthdp` (docs/library.md)."""
