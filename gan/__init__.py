"""The malignancy-conditioned generator of mammography mass patches."""

#: By which `synthdp.own_packages` knows this package from others of its name.
PART_OF = "synthdp"
