"""Radiomic features of flat images, and the Frechet distance between two sets by them."""
