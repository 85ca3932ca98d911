"""The Haar bands of an image: fixed, orthonormal, and scaled to a like variance."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows: average, vertical difference, horizontal difference, diagonal; orthonormal, so its transpose
# inverts it.
HAAR_KERNELS = 0.5 * torch.tensor(
    [
        [[1.0, 1.0], [1.0, 1.0]],
        [[1.0, 1.0], [-1.0, -1.0]],
        [[1.0, -1.0], [1.0, -1.0]],
        [[1.0, -1.0], [-1.0, 1.0]],
    ]
)
# Public constants, not fitted: the amplitude of a natural image falls with frequency about as
# f^-1.5.
BAND_SCALES = {
    1: (1.0, 8.0, 8.0, 16.0),
    2: (0.5, 3.0, 3.0, 6.0, *4 * (8.0,), *4 * (8.0,), *4 * (16.0,)),
}


@cache
def haar_kernels(levels: int) -> Tensor:
    """The orthonormal kernels (4^levels, 1, 2^levels, 2^levels) that make one band each.

    Each further level splits every band of the one before (a wavelet packet): band 4 a + b is band
    b of band a.
    """
    kernels = HAAR_KERNELS
    for _ in range(levels - 1):
        finer = [torch.kron(fine, coarse) for coarse in kernels for fine in HAAR_KERNELS]
        kernels = torch.stack(finer)
    return kernels.unsqueeze(1)


def haar_analysis(images: Tensor, levels: int = 1) -> Tensor:
    """Split images (B, 1, S, S) into Haar bands (B, 4^levels, S / 2^levels, S / 2^levels)."""
    return F.conv2d(images, haar_kernels(levels).to(images), stride=2**levels)


def haar_synthesis(bands: Tensor, levels: int = 1) -> Tensor:
    """Join Haar bands (B, 4^levels, h, w) into images (B, 1, S, S): the inverse of the analysis."""
    return F.conv_transpose2d(bands, haar_kernels(levels).to(bands), stride=2**levels)


def band_scales(levels: int) -> Tensor:
    """The factors (1, 4^levels, 1, 1) that give the bands of a natural image a like variance."""
    return torch.tensor(BAND_SCALES[levels]).view(1, -1, 1, 1)
