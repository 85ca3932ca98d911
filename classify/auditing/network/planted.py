"""Patients made up by an audit, among the real ones of a network's training.

Everything real is run: the samples of patients, the hooks that make their gradients, clipping, the
sum and its noise. What is made up are canaries, patients whose gradient is put in the place of what
the network gives for them, long and along one weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.network.gradients import Examples, PatientGradients, Views
from classify.network.images import ImageExamples, Images
from classify.network.top import TrainedNetwork

TAG_BYTES = 32


@dataclass(frozen=True, eq=False)
class _WithMadeUp:
    """Some images of examples, then made-up ones: `Examples` too, without a copy of them.

    base: the examples; chosen: (M,) int64, which of their images stand first; made: (K, ...) what
    the network sees of those that follow, in each view.
    """

    base: Examples
    chosen: Tensor
    made: Tensor
    targets: Tensor
    units: Tensor
    tags: Sequence[bytes]

    @property
    def n_views(self) -> int:
        """How many views an image has."""
        return self.base.n_views

    @property
    def positive_weights(self) -> Tensor | None:
        """What the loss of a positive is multiplied by."""
        return self.base.positive_weights

    def inputs(self, images: Tensor, views: Tensor) -> Tensor:
        """What the network sees of some views, (R, ...)."""
        own = images < len(self.chosen)
        rows = self.base.inputs(self.chosen[images[own]], views[own])
        if bool(own.all()):
            return rows
        values = rows.new_empty(len(images), *rows.shape[1:])
        values[own] = rows
        values[~own] = self.made[images[~own] - len(self.chosen)].to(rows)
        return values


def no_input(examples: Examples) -> Tensor:
    """No input of the network, (0, ...): it tells an input's shape, though nobody may be there."""
    none = torch.zeros(0, dtype=torch.int64)
    return examples.inputs(none, none)


@dataclass(frozen=True, eq=False)
class _ChosenImages:
    """Some images of a source: those at the indices `chosen`."""

    source: Images
    chosen: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.chosen)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some of the chosen ones, as `Images.images`."""
        return self.source.images(self.chosen[indices])


def _images_without(examples: ImageExamples, patient: int) -> ImageExamples:
    """All patients but one, whose images are drawn as of a set without that one."""
    kept = torch.nonzero(examples.units != patient).flatten()
    units = examples.units[kept]
    return replace(
        examples,
        source=_ChosenImages(examples.source, kept.numpy()),
        targets=examples.targets[kept],
        units=units - (units > patient).long(),
        tags=[tag for index, tag in enumerate(examples.tags) if index != patient],
    )


@dataclass(frozen=True, eq=False)
class PlantedPatients:
    """Real patients and made-up ones, who stand last.

    coordinates: for each image the weight along which its canary's gradient lies, (N,) int64, as an
    index of the flat vector of weights, -1 for an image of no canary; lengths: of these gradients,
    (N,).
    """

    examples: _WithMadeUp
    coordinates: Tensor
    lengths: Tensor

    def without(self, patient: int) -> "PlantedPatients":
        """All patients but one; real images are made as where that one never was."""
        old = self.examples
        base, chosen = old.base, old.chosen
        if isinstance(base, ImageExamples) and patient < len(base.tags):
            base = _images_without(base, patient)
            chosen = torch.arange(len(base.units))
        else:
            chosen = chosen[old.units[: len(chosen)] != patient]
        kept = torch.nonzero(old.units != patient).flatten()
        units = old.units[kept]
        return PlantedPatients(
            replace(
                old,
                base=base,
                chosen=chosen,
                made=old.made[old.units[len(old.chosen) :] != patient],
                targets=old.targets[kept],
                units=units - (units > patient).long(),
                tags=[tag for index, tag in enumerate(old.tags) if index != patient],
            ),
            self.coordinates[kept],
            self.lengths[kept],
        )


def planted_among(
    examples: Examples,
    tags: Sequence[bytes],
    images: Tensor,
    owners: Tensor,
    gradients: tuple[Tensor, Tensor],
) -> PlantedPatients:
    """Examples, and after them made-up patients.

    Args:
        examples: of the real patients.
        tags: of the made-up ones, one each.
        images: what the network sees of their images, (K, ...).
        owners: whose each of these images is, (K,) int64, counted from 0.
        gradients: their `coordinates` and `lengths`, (K,) each.
    """
    n, own = len(examples.units), len(examples.tags)
    labels = (torch.arange(len(images)) % 2).float().unsqueeze(1)
    coordinates, lengths = gradients
    return PlantedPatients(
        _WithMadeUp(
            examples,
            torch.arange(n),
            images,
            torch.cat([examples.targets, labels.repeat(1, examples.targets.shape[1])]),
            torch.cat([examples.units, owners + own]),
            [*examples.tags, *tags],
        ),
        torch.cat([torch.full((n,), -1), coordinates]),
        torch.cat([torch.zeros(n), lengths]),
    )


class PlantedGradients(PatientGradients):
    """The training's own gradients, with canaries in place of what the network gives for them.

    With a `path`, (steps, P), each sum is taken at its weights, whatever the training's are.
    """

    def __init__(
        self, top: TrainedNetwork, planted: PlantedPatients, path: Tensor | None = None
    ) -> None:
        super().__init__(top)
        self._top, self._planted, self._path, self._step = top, planted, path, 0

    def clipped_sum(self, examples: Examples, views: Views, **named: Any) -> Tensor:
        """As `PatientGradients.clipped_sum`, at the weights of the path if there is one."""
        if self._path is not None:
            self._top.load_flat(self._path[self._step])
        self._step += 1
        return super().clipped_sum(examples, views, **named)

    def _mean_gradient(
        self, examples: Examples, views: Views, patient: slice, batch: int
    ) -> list[Tensor]:
        mean = super()._mean_gradient(examples, views, patient, batch)
        images = views.images[patient]
        canaries = torch.nonzero(self._planted.coordinates[images] >= 0).flatten().tolist()
        if canaries:  # before clipping: all that follows is the training's own
            mean = [torch.zeros_like(values) for values in mean]
        ends = np.cumsum([values.numel() for values in mean])
        for view in canaries:
            coordinate = int(self._planted.coordinates[images[view]])
            index = int(np.searchsorted(ends, coordinate, side="right"))
            position = coordinate - (int(ends[index - 1]) if index else 0)
            length = self._planted.lengths[images[view]] * views.shares[patient][view]
            mean[index][np.unravel_index(position, mean[index].shape)] += float(length)
        return mean
