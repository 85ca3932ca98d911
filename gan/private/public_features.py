"""A public map from images to vectors of norm 1, whose class-wise means a private release tells.

Everything in it comes from public weights and a public set (phantoms): the map reads no patient.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gan.training.moments import BinnedSpectrum
from synthdp.networks.frozen import FrozenPyramid, channel_moments

#: A feature further from the public mean counts as this many standard deviations.
_FARTHEST = 6.0
#: Norm of the spectrum's block beside that of the network's, 1. Of 0, 0.25, 0.5 and 1 the first two
#: told the classes of CBIS-DDSM train best (patients held out, difference of means); 0.25 keeps
#: the texture in view.
_SPECTRUM_NORM = 0.25
_FLOOR = 1e-3


@dataclass(frozen=True)
class PublicFeatures:
    """Images to unit vectors: a constant, then standardised features of a frozen network.

    The constant lets a released sum tell how many images it covers, so that no count has to be
    assumed. The rest are means of the network's maps and log powers of the spectrum's bins, both
    standardised by the public set, in blocks of a fixed norm each; the whole has norm 1.

    pyramid: the network; spectrum: the bins; mean, scale: (D,) of the public set; blocks: lengths
    of network and spectrum; constant: in (0, 1).
    """

    pyramid: FrozenPyramid
    spectrum: BinnedSpectrum
    mean: Tensor
    scale: Tensor
    blocks: tuple[int, int]
    constant: float

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S), about [-1, 1], to (B, 1 + D) of norm 1; differentiable."""
        far = (raw_features(self.pyramid, self.spectrum, images) - self.mean) / self.scale
        bounded = far.clamp(-_FARTHEST, _FARTHEST)
        of_network, of_spectrum = (_unit(part) for part in bounded.split(self.blocks, dim=1))
        unit = _unit(torch.cat([of_network, _SPECTRUM_NORM * of_spectrum], dim=1))
        rest = (1 - self.constant**2) ** 0.5
        return torch.cat([unit.new_full((len(unit), 1), self.constant), rest * unit], dim=1)


def _unit(rows: Tensor) -> Tensor:
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return unit


def raw_features(pyramid: FrozenPyramid, spectrum: BinnedSpectrum, images: Tensor) -> Tensor:
    """Means of the network's maps, then log powers: (B, D), not yet standardised."""
    of_network = channel_moments(pyramid(images))
    means = of_network[:, : of_network.shape[1] // 2]
    return torch.cat([means, spectrum.of_each(images).clamp_min(1e-6).log()], dim=1)


@torch.no_grad()
def fit_public_features(
    pyramid: FrozenPyramid, spectrum: BinnedSpectrum, public: Tensor, *, constant: float, batch: int
) -> PublicFeatures:
    """Take mean and scale from public images (N, 1, S, S)."""
    raw = torch.cat([raw_features(pyramid, spectrum, part) for part in public.split(batch)])
    n_network = sum(pyramid.widths)
    return PublicFeatures(
        pyramid=pyramid,
        spectrum=spectrum,
        mean=raw.mean(dim=0),
        scale=raw.std(dim=0).clamp_min(_FLOOR),
        blocks=(n_network, raw.shape[1] - n_network),
        constant=constant,
    )
