"""Public networks of timm, once for all who need one, and the cache of what they give.

`frozen` holds what every frozen network is, and two kinds: one vector of an image, to measure
distances, and maps at several scales, to guide a generator. `backbone` is the network under a
classifier, `volume_network` one that sees volumes as `slices`; `resnet9` is a network of our own.
`settings` says which network is taken. `alone` keeps images of a batch apart to the last bit.
`cache` keeps features beside the data set.
`public` has the weights and whose they are, `exported` models as single files.
"""
