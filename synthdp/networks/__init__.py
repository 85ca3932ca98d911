"""Frozen public networks of timm, once for all who need one, and the cache of what they give.

`weights` fits public weights to a network, `frozen` holds what every such network is and the two
that the generator's side looks through, `backbone` is the one under a classifier, `cache` keeps
features beside the data set.
"""
