"""What a frozen network gives for volumes: features of slices along axes, pooled to one vector.

What a volume gives is a function of that volume alone: its slices go through the network by
themselves (`synthdp.networks.alone`), and are pooled by themselves.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from classify.features.input_form import refuse_attention
from synthdp.networks.settings import FeatureSettings
from synthdp.networks.slices import SLICE_POOL, SLICES, slices_along

#: Volumes that are read at once.
VOLUMES_AT_ONCE = 4

OnArrays = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def of_slices(settings: FeatureSettings, on_slices: OnArrays) -> OnArrays:
    """What gives the features, (n, F), of volumes (n, D, S, S) in [-1, 1], each by itself.

    Args:
        settings: of the frozen network, with its axes.
        on_slices: the network: (B, 1, S, S) to (B, F), each slice by itself.

    Raises:
        InputError: as `refuse_attention`.
    """
    refuse_attention(settings)
    assert settings.axes is not None
    axes, count = settings.axes, settings.slices or SLICES
    pool = settings.slice_pool or SLICE_POOL

    def of_one(volume: NDArray[np.float32]) -> NDArray[np.float32]:
        planes = slices_along(torch.from_numpy(volume)[None], axes, count, settings.size_px)[0]
        vectors = on_slices(planes.numpy()).astype(np.float64)
        pooled = vectors.max(axis=0) if pool == "max" else vectors.mean(axis=0)
        return np.asarray(pooled, dtype=np.float32)

    def of_volumes(volumes: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(volumes) == 0:  # of no volume, too, the shape is asked for
            blank = np.zeros((1, 1, settings.size_px, settings.size_px), np.float32)
            return on_slices(blank)[:0]
        return np.stack([of_one(volume) for volume in volumes])

    return of_volumes
