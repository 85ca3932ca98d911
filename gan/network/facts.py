"""Facts of the networks that a description of them needs, without torch."""

from typing import Literal

#: The side in pixels that every generator begins with.
FIRST_SIDE = 4
#: How a DCGAN is normalised.
Norm = Literal["instance", "batch"]
