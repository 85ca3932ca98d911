"""Patients' images as a whole network is trained on them: read, and augmented, in each step anew.

What a step shows of a patient is drawn by public numbers (the seed, the step) and by the patient's
own secret tag: which images, where there are more than are taken, and how each is turned, moved and
exposed. So nobody's draw depends on who else is there, and nothing is kept of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.network.gradients import Examples, Views
from synthdp.data.views.augment import RandomViews
from synthdp.data.views.augmentation import Augmentation


class Images(Protocol):
    """Images at hand by their indices, such as `synthdp.data.packed.PackedImages`."""

    def __len__(self) -> int: ...

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Those at some indices, (n, 1, S, S) float32 in [-1, 1]; volumes (n, D, S, S)."""


@dataclass(frozen=True, eq=False)
class ImageExamples:
    """Patients' images, of which each view is made when it is asked for.

    source: the N images; targets, units, tags, positive_weights: as in `Examples`; n_views: views
    of an image in a step; augmentation: how a view is drawn, by its number; the image itself where
    it is None. seed: moves the draws. trunk: what stands before the part that is trained, each row
    by itself; None where the images go into that.
    """

    source: Images
    targets: Tensor
    units: Tensor
    tags: Sequence[bytes]
    n_views: int = 1
    augmentation: Augmentation | None = None
    seed: int = 0
    trunk: Callable[[Tensor], Tensor] | None = None
    positive_weights: Tensor | None = None

    @cached_property
    def _own_positions(self) -> NDArray[np.int64]:
        """The position of each image among its patient's own, from 0, in the order of rows."""
        units = self.units.numpy()
        order = np.argsort(units, kind="stable")
        firsts = np.searchsorted(units[order], units[order])
        positions = np.empty(len(units), dtype=np.int64)
        positions[order] = np.arange(len(units)) - firsts
        return positions

    @cached_property
    def _random_views(self) -> RandomViews | None:
        return None if self.augmentation is None else RandomViews(self.augmentation)

    def inputs(self, images: Tensor, views: Tensor) -> Tensor:
        """Views of images, by the numbers of both, (R,) int64: as the source has them, or tokens.

        Guarantee: each row is a function of that image, its position among its patient's own, the
        patient's tag, and public numbers.
        """
        pixels = self.source.images(images.numpy())
        if self._random_views is not None:
            shown = np.empty_like(pixels)
            pairs = zip(images.tolist(), views.tolist(), strict=True)
            for row, (image, view) in enumerate(pairs):
                name = self._name(image, view)  # decides the draw, whoever stands in the batch
                for index, plane in enumerate(pixels[row]):  # slices of a volume move together
                    shown[row, index] = self._random_views.view(plane, name)
            pixels = shown
        values = torch.from_numpy(pixels)
        return values if self.trunk is None else self.trunk(values)

    def _name(self, image: int, view: int) -> bytes:
        tag = self.tags[int(self.units[image])]
        return f"view {self.seed} {view} {self._own_positions[image]} ".encode() + tag


def step_views(
    examples: Examples,
    drawn: Tensor,
    step: int,
    *,
    fresh: bool = False,
    max_images: int | None = None,
    seed: int = 0,
) -> Views:
    """What a step shows of the patients `drawn`, (U,) int64, ascending.

    Args:
        examples: the patients' images.
        drawn: who takes part.
        step: the number of the step.
        fresh: number the views of each step anew, so that another one is drawn in each.
        max_images: of a patient with more, so many are drawn for this step.
        seed: moves that draw.

    Guarantee: what is shown of a patient is a function of that patient's images and tag, and of
    public numbers.
    """
    order = torch.argsort(examples.units, stable=True)
    images = order[torch.isin(examples.units[order], drawn)]
    patients = torch.searchsorted(drawn, examples.units[images])
    if max_images is not None:
        kept = _some_of_each(
            patients,
            [examples.tags[unit] for unit in drawn.tolist()],
            max_images,
            f"images {seed} {step} ".encode(),
        )
        images, patients = images[kept], patients[kept]
    numbers = torch.arange(examples.n_views) + (step * examples.n_views if fresh else 0)
    return Views(
        images=images.repeat_interleave(len(numbers)),
        views=numbers.repeat(len(images)),
        patients=patients.repeat_interleave(len(numbers)),
    )


def _some_of_each(
    patients: Tensor, tags: Sequence[bytes], most: int, name: bytes
) -> NDArray[np.int64]:
    """Indices into `patients`, which is ordered: `most` images of each, drawn by name and tag."""
    counts = np.bincount(patients.numpy(), minlength=len(tags))
    kept, start = [], 0
    for tag, count in zip(tags, counts.tolist(), strict=True):
        own = np.arange(count)
        if count > most:
            seed = int.from_bytes(sha256(name + tag).digest()[:16], "big")
            own = np.sort(np.random.default_rng(seed).permutation(count)[:most])
        kept.append(start + own)
        start += count
    return np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
