"""Copies of images with white noise, as another scanner might have made them."""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

#: Part of what decides the noise: raise it when that changes, so that kept features are made anew.
GRAIN_VERSION = 1


def with_grain(image: NDArray[np.float32], up_to: float) -> NDArray[np.float32]:
    """An image with white Gaussian noise, whose size is drawn for it.

    Args:
        image: (S, S) in [-1, 1].
        up_to: the largest standard deviation, as a share of the grey range; all from 0 to it are
            alike likely.

    Returns:
        (S, S) in [-1, 1]; what leaves the range is held at its end.

    Guarantee: size and noise are a function of this image's pixels and `up_to` alone, so that
    adding or removing a patient changes nobody else's copy.
    """
    drawn_for = f"grain {GRAIN_VERSION} {up_to:g} {image.shape}".encode() + image.tobytes()
    generator = np.random.default_rng(int.from_bytes(sha256(drawn_for).digest()[:16], "big"))
    sd = 2 * up_to * generator.random()  # the range is 2 wide
    noise = sd * generator.standard_normal(image.shape)
    return np.clip(image + noise, -1, 1).astype(np.float32)
