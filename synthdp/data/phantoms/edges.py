"""Soft edges: what a pixel or voxel on an edge holds of both sides."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def step(level: NDArray[np.floating]) -> Array:
    """From 0 far below 0 to 1 far above: the logistic curve 1 / (1 + exp(-level)).

    By the hyperbolic tangent, which numpy has thirty times as fast and which ends at 0 exactly,
    where a tiny rest would slow down all that is made of it.
    """
    curve = np.float32(0.5) + np.float32(0.5) * np.tanh(np.float32(0.5) * level)
    return np.asarray(curve, dtype=np.float32)
