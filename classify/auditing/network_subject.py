"""The training of a network under attack, run as it is, and patients that are made up for it.

Everything real is run: the samples of patients, the hooks that make their gradients, clipping, the
sum and its noise. What is made up are canaries, patients whose gradient is put in the place of what
the network gives for them, long and along one weight.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from classify.network.gradients import Examples, PatientGradients, Views
from classify.network.images import step_views
from classify.network.top import TrainedNetwork
from classify.network.train import train_private_network
from classify.settings.network import NetworkSettings
from synthdp.data.dataset import Dataset
from synthdp.privacy.attacks.rerun import PromisedTraining, audit_ledger
from synthdp.privacy.ledger.steps import Observer
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseKind, NoiseSource
from synthdp.runs.audit_record import Audited

#: Of a made-up patient's tag.
TAG_BYTES = 32


@dataclass(frozen=True, eq=False)
class NetworkSubject(PromisedTraining):
    """A private training of a network and head, ready to be run again; `top` is never moved.

    seed: moves what a step shows of patients; dataset: whose train split `examples` are of; delta:
    at which the mechanism's epsilon is stated; the rest as in `train_private_network`.
    """

    top: TrainedNetwork
    examples: Examples
    recipe: NetworkSettings
    mechanism: Mechanism
    delta: float
    seed: int = 0
    dataset: Dataset | None = None
    noise: NoiseKind = "shake256"

    @property
    def audited(self) -> Audited:
        """Whose promise is tried, for the record."""
        return Audited("network", self.epsilon, self.delta, self.mechanism.mu)

    def shown(self, examples: Examples, drawn: Tensor, step: int) -> Views:
        """What a step shows of the patients that it draws among `examples`."""
        return step_views(
            examples,
            drawn,
            step,
            fresh=self.recipe.augment is not None,
            max_images=self.recipe.max_images,
            seed=self.seed,
        )

    def shortened(self, steps: int, block_steps: int) -> "NetworkSubject":
        """The first steps of the training, under the same noise."""
        steps = min(steps, self.mechanism.steps)
        changes = {"steps": steps, "block_steps": min(steps, block_steps)}
        return replace(
            self,
            mechanism=self.mechanism.model_copy(update={"steps": steps}),
            recipe=self.recipe.model_copy(update=changes),
        )


@dataclass(frozen=True, eq=False)
class _Some:
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
class Planted:
    """Real patients and made-up ones, who stand last.

    gradients: for each image a canary's weight, by its place in the flat vector, and the length of
    its gradient, (N,) each; a weight of -1 for images that are no canary's.
    """

    examples: Examples
    coordinates: Tensor
    lengths: Tensor

    def without(self, patient: int) -> "Planted":
        """All patients but one."""
        old = self.examples
        kept = torch.nonzero(old.units != patient).flatten()
        units = old.units[kept]
        return Planted(
            _Some(
                old,
                kept,
                no_input(old),
                old.targets[kept],
                units - (units > patient).long(),
                [tag for index, tag in enumerate(old.tags) if index != patient],
            ),
            self.coordinates[kept],
            self.lengths[kept],
        )


def plant(
    examples: Examples,
    tags: Sequence[bytes],
    images: Tensor,
    owners: Tensor,
    gradients: tuple[Tensor, Tensor],
) -> Planted:
    """Examples and made-up patients of these `tags`, whose images are of `owners`, from 0."""
    n, own = len(examples.units), len(examples.tags)
    labels = (torch.arange(len(images)) % 2).float().unsqueeze(1)
    coordinates, lengths = gradients
    return Planted(
        _Some(
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


class AuditedGradients(PatientGradients):
    """The training's own gradients, with canaries in place of what the network gives for them.

    With a `path`, (steps, P), each sum is taken at its weights, whatever the training's are.
    """

    def __init__(self, top: TrainedNetwork, planted: Planted, path: Tensor | None = None) -> None:
        super().__init__(top)
        self._top, self._planted, self._path, self._step = top, planted, path, 0

    def clipped_sum(self, examples: Examples, views: Views, **named: Any) -> Tensor:
        """As the training's, at the path's weights where there is one."""
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
        if canaries:
            mean = [torch.zeros_like(values) for values in mean]
        ends = np.cumsum([values.numel() for values in mean])
        for view in canaries:
            coordinate = int(self._planted.coordinates[images[view]])
            index = int(np.searchsorted(ends, coordinate, side="right"))
            position = coordinate - (int(ends[index - 1]) if index else 0)
            length = self._planted.lengths[images[view]] * views.shares[patient][view]
            mean[index][np.unravel_index(position, mean[index].shape)] += float(length)
        return mean


def train_subject(
    subject: NetworkSubject,
    noise_source: NoiseSource,
    folder: Path,
    *,
    observe: Observer = lambda step, weights, released: None,
    on_block: Callable[[int], None] = lambda spent: None,
    gradients: Callable[[TrainedNetwork], PatientGradients] = PatientGradients,
) -> None:
    """Run the real training with its ledger and checkpoints in `folder`, or resume it there."""
    recipe, mechanism = subject.recipe, subject.mechanism
    train_private_network(
        copy.deepcopy(subject.top),
        subject.examples,
        recipe,
        ledger=audit_ledger(mechanism, folder, block_steps=recipe.block_steps),
        noise_source=noise_source,
        checkpoints=folder / "checkpoints",
        seed=subject.seed,
        on_block=on_block,
        observe=observe,
        gradients=gradients,
    )
