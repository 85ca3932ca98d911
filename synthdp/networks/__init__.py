"""Frozen public networks of timm, once for all who need one, and the cache of what they give.

`weights` fits public weights to a network. `frozen` holds what every such network is, and two
kinds: one vector of an image, to measure distances, and maps at several scales, to guide a
generator.
`backbone` is the network under a classifier. `cache` keeps features beside the data set.
"""
