"""The public map of a selection: two frozen networks and the spectrum, along public directions.

What is released of patients and what is known of candidates is one vector an image, made here of
public weights and a public pool: no patient decides anything of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.private.embedding import (
    FLOOR,
    MAX_DEVIATIONS,
    SPECTRUM_NORM,
    principal_directions,
    raw_features,
    unit_rows,
)
from gan.settings.parts import SelectionSettings
from gan.training.guidance import BinnedSpectrum
from synthdp.errors import RunError
from synthdp.machine.devices import has_bfloat16
from synthdp.networks.frozen import Extractor, FrozenPyramid, build_extractor, build_pyramid

#: Part of the name of every file of raw features: raise it when they change.
_VERSION = 1
#: A map is fitted to so many candidates at most.
MOST_FITTED = 20_000


@dataclass(frozen=True)
class RawMap:
    """Images to what the networks and the spectrum say of them, not yet standardised.

    pyramid: its maps' means; spectrum: log powers; tokens: pooled features of a second network.
    """

    pyramid: FrozenPyramid
    spectrum: BinnedSpectrum
    tokens: Extractor

    @classmethod
    def of(cls, recipe: SelectionSettings, size_px: int, device: torch.device) -> Self:
        """The networks that the settings name, for images of this side.

        Raises:
            InputError: when their weights can't be used.
        """
        pyramid = build_pyramid(recipe.features, size_px, setting="selection.features")
        return cls(
            pyramid=pyramid.to(device),
            spectrum=BinnedSpectrum(size_px, device),
            tokens=build_extractor(
                recipe.tokens, in_bfloat16=has_bfloat16(device), setting="selection.tokens"
            ).to(device),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S), about [-1, 1], to (B, F)."""
        return torch.cat(
            [raw_features(self.pyramid, self.spectrum, images), self.tokens(images)], dim=1
        )

    @property
    def blocks(self) -> tuple[int, int, int]:
        """How many numbers are of the pyramid, the spectrum and the second network."""
        return sum(self.pyramid.widths), len(self.spectrum.bins), self.tokens.n_features

    def identity(self) -> str:
        """What decides the numbers: names and weights of both networks."""
        pyramid = self.pyramid.tensors_digest("pyramid", self.pyramid.network.state_dict().items())
        return f"selection {_VERSION} {pyramid} {self.tokens.identity()}"


#: Share of the pool whose projected vectors reach no further than norm 1; others are cut to it.
_UNCUT = 0.7
#: What decides a map beside its networks, by name.
_SAVED = ("mean", "scale", "directions", "centre")


@dataclass(frozen=True)
class WideMap:
    """Images to vectors of norm at most 1: a constant, then the features along D directions.

    Both networks' features and the spectrum's are standardised by the pool and clipped, in blocks
    of a fixed norm. They are projected to the directions in which the pool varies most, about the
    pool's mean, in units in which most of the pool has a norm below 1; longer ones are cut to 1. So
    as little as possible of what a patient may move by is left unused.

    raw: the networks; mean, scale: (F,) of the pool; directions: (D, F), orthogonal, all of one
    length; centre: (D,), of the pool along them; constant: in (0, 1), which lets a released sum
    tell how many images it covers.
    """

    raw: RawMap
    mean: Tensor
    scale: Tensor
    directions: Tensor
    centre: Tensor
    constant: float

    @property
    def size(self) -> int:
        """D, the numbers of a vector beside its constant."""
        return len(self.directions)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S), about [-1, 1], to (B, 1 + D) of norm at most 1."""
        return self.vectors(self.raw(images))

    def vectors(self, raw: Tensor) -> Tensor:
        """Raw features (B, F) float32 to (B, 1 + D) of norm at most 1; NaN stays NaN."""
        unit = _unit_blocks(raw, self.mean, self.scale, self.raw.blocks)
        along = unit @ self.directions.T - self.centre
        short = along / along.norm(dim=1, keepdim=True).clamp_min(1)
        rest = (1 - self.constant**2) ** 0.5
        return torch.cat([short.new_full((len(short), 1), self.constant), rest * short], dim=1)

    def saved(self) -> dict[str, Tensor]:
        """What decides it beside the networks: kept with a release, for it is of these numbers."""
        return {name: getattr(self, name).cpu() for name in _SAVED}


def saved_wide_map(raw: RawMap, tensors: Mapping[str, Tensor], *, constant: float) -> WideMap:
    """The map that a release was made by, of the same networks."""
    device = raw.spectrum.window.device
    mean, scale, directions, centre = (tensors[name].to(device) for name in _SAVED)
    return WideMap(raw, mean, scale, directions, centre, constant)


def fit_wide_map(
    raw: RawMap, pool: NDArray[np.floating], *, components: int, constant: float
) -> WideMap:
    """The map whose mean, scale and directions are those of a public pool.

    Args:
        raw: the networks.
        pool: (N, F), raw features of candidates; `MOST_FITTED` of them, evenly spaced, are used.
        components: D.
        constant: in (0, 1).

    Raises:
        InputError: when the pool has fewer directions.
        RunError: when a feature of it is not finite.
    """
    if not np.isfinite(pool).all():
        raise RunError(
            "selection: features of the pool are not finite; the network's weights have diverged "
            "or are damaged"
        )
    used = pool[:: -(-len(pool) // MOST_FITTED)]
    features = torch.from_numpy(used.astype(np.float32))
    device = raw.spectrum.window.device
    mean, scale = features.mean(dim=0), features.std(dim=0).clamp_min(FLOOR)
    unit = _unit_blocks(features, mean, scale, raw.blocks)
    directions = principal_directions(unit, components, setting="selection.components")
    along = unit @ directions.T
    reach = (along - along.mean(dim=0)).norm(dim=1).quantile(_UNCUT).clamp_min(FLOOR)
    return WideMap(
        raw=raw,
        mean=mean.to(device),
        scale=scale.to(device),
        directions=(directions / reach).to(device),
        centre=(along.mean(dim=0) / reach).to(device),
        constant=constant,
    )


def _unit_blocks(raw: Tensor, mean: Tensor, scale: Tensor, blocks: Sequence[int]) -> Tensor:
    """Standardised features in blocks of norm 1, the spectrum's of `SPECTRUM_NORM`; 1 together."""
    clipped = ((raw - mean) / scale).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
    of_pyramid, of_spectrum, of_tokens = (
        unit_rows(part) for part in clipped.split([*blocks], dim=1)
    )
    return unit_rows(torch.cat([of_pyramid, SPECTRUM_NORM * of_spectrum, of_tokens], dim=1))
