"""The clipped sum that a release declares, taken by code of its own.

It shares no line with the code that releases, so that a fault in one shows against the other.
"""

import numpy as np
import torch
from torch import Tensor

from gan.auditing.subject import Vectors
from gan.private.findings import FINDING, KNOWN, WHOLE
from synthdp.machine.progress import progress
from synthdp.privacy.attacks.rerun import declared_bound


def declared_sum(embedded: Vectors, clip_norm: float) -> Tensor:
    """The clipped sum that the release declares, as long as a row, float64.

    A patient at a time: the mean over its images of what each declares; scaled where it is too
    long, left out where it is not finite.
    """
    total = torch.zeros(embedded.row_size, dtype=torch.float64)
    for unit in progress(range(embedded.n_units), what="the sum that is declared"):
        own = torch.nonzero(embedded.units == unit).flatten().tolist()
        mean = torch.zeros(embedded.row_size, dtype=torch.float64)
        for image in own:
            mean += _declared_row(embedded, image)
        mean /= max(len(own), 1)
        norm = float(mean.norm())
        if np.isfinite(norm):
            bound = declared_bound(clip_norm, len(mean))
            total += mean * min(1.0, bound / norm if norm else 1.0)
    return total


def _declared_row(embedded: Vectors, image: int) -> Tensor:
    """What an image declares: its vector in the half of its class, nothing for an unlabelled one.

    Where conditions are told, that times the root of what they leave, and the vector in the block
    of each known value, times the root of an equal part of the rest.
    Of several findings its vector, then times its label less the public share for each, then which
    are known, by weights whose squares are public; the whole scaled to a length of 1 at most, as
    long as the vector's own is.
    """
    size, vector = embedded.vectors.shape[1], embedded.vectors[image].double()
    row = torch.zeros(embedded.row_size, dtype=torch.float64)
    if embedded.shares is None:
        label, released = int(embedded.labels[image]), embedded.part
        rest = 1.0 if released is None else 1 - released.share
        if label in (0, 1):
            row[label * size : (label + 1) * size] = rest**0.5 * vector
        first, counts = 2, () if released is None else released.counts
        for code, count in zip(embedded.codes[image].tolist(), counts, strict=bool(counts)):
            if code:
                begin = (first + code - 1) * size
                row[begin : begin + size] = ((1 - rest) / len(counts)) ** 0.5 * vector
            first += count
        return row
    count = len(embedded.shares)
    row[:size], square = WHOLE**0.5 * vector, WHOLE
    for finding, (label, share) in enumerate(
        zip(embedded.labels[image].tolist(), embedded.shares, strict=True)
    ):
        first = (1 + finding) * size
        part = label - share if label in (0, 1) else 0.0
        row[first : first + size] = FINDING**0.5 * part * vector
        row[len(row) - count + finding] = (KNOWN / count) ** 0.5 * float(label in (0, 1))
        square += FINDING * part**2 + KNOWN / count * (label in (0, 1))
    scale: float = max(1.0, square) ** 0.5
    return row / scale
