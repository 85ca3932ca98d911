"""The generator of patches, conditioned on their class."""

#: By which `synthdp.own_packages` knows this package from others of its name.
PART_OF = "synthdp"
