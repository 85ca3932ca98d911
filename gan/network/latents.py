"""What chance decides of each image, drawn from the seed and its place in the set alone."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

#: Sets the stream of attributes apart from that of the latent vectors.
ATTRIBUTE_STREAM = 1


def draw_latents(seed: int, places: Sequence[int], size: int) -> Tensor:
    """Standard normal numbers (B, size) float32, from one stream for each place."""
    streams = (np.random.default_rng((seed, place)) for place in places)
    numbers = [stream.standard_normal(size, dtype=np.float32) for stream in streams]
    return torch.from_numpy(np.stack(numbers))


def draw_codes(
    prior: Sequence[Sequence[tuple[Sequence[int], float]]], labels: Sequence[int], seed: int
) -> Tensor:
    """Codes (N, A) int64 of the attributes of images with these labels, at places 0, 1, 2 and on.

    Args:
        prior: for class 0 and class 1, combinations of codes (A,), each with its share.
        labels: (N,) of 0 and 1.
        seed: names the set.
    """
    bounds = [np.cumsum([share for _, share in combinations]) for combinations in prior]
    codes = []
    for place, label in enumerate(labels):
        point = np.random.default_rng((seed, place, ATTRIBUTE_STREAM)).random() * bounds[label][-1]
        chosen = int(np.searchsorted(bounds[label], point, side="right"))
        codes.append(list(prior[label][chosen][0]))
    return torch.tensor(codes, dtype=torch.int64)
