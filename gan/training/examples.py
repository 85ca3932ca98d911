"""The real images that a generator learns from: read once, drawn in balanced batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gan.package.conditions import Conditions, encode
from gan.training import augment
from gan.training.classes import refuse_missing_classes, refuse_other_targets
from synthdp.data.dataset import Dataset, Row, load_images, targets_array

#: The label of an image whose class is not known, where it is not refused.
UNLABELLED = -1


@dataclass(frozen=True)
class Examples:
    """Images (N, 1, S, S) float32 in [-1, 1], labels (N,) and attribute codes (N, A) int64."""

    images: Tensor
    labels: Tensor
    attributes: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Tensor) -> "Examples":
        return Examples(self.images[chosen], self.labels[chosen], self.attributes[chosen])

    def to(self, device: torch.device) -> "Examples":
        """The same examples on a device."""
        return Examples(self.images.to(device), self.labels.to(device), self.attributes.to(device))


def load_examples(
    dataset: Dataset, rows: Sequence[Row], size_px: int, conditions: Conditions | None = None
) -> Examples:
    """Read train images with their classes and attributes; all stay in memory.

    Raises:
        InputError: when the set is not about one target, or the split lacks a class or a label.
    """
    refuse_other_targets(dataset.info)
    refuse_missing_classes(dataset.info, rows)
    return Examples(
        images=torch.from_numpy(load_images(dataset, rows, size_px)),
        labels=torch.from_numpy(targets_array(rows))[:, 0].long(),
        attributes=encode(conditions or Conditions(), rows),
    )


def load_protected(dataset: Dataset, rows: Sequence[Row], size_px: int) -> Examples:
    """As `load_examples`, for whoever promises something to these patients: refuses none.

    There may be no row, and one class alone. A label that is unknown is `UNLABELLED`; whoever sums
    over patients counts such an image as zero.
    """
    labels = torch.from_numpy(targets_array(rows, len(dataset.info.targets)))[:, 0]
    return Examples(
        images=torch.from_numpy(load_images(dataset, rows, size_px)),
        labels=labels.nan_to_num(UNLABELLED).long(),
        attributes=encode(Conditions(), rows),
    )


def draw_batch(
    examples: Examples, batch: int, symmetry: augment.Symmetry, rng: torch.Generator
) -> Examples:
    """Draw `batch` images, as many of either class, in mixed order, each moved by a symmetry.

    Images are drawn with replacement, so that a set may be smaller than a batch.
    """
    drawn = []
    for value in (0, 1):
        of_class = (examples.labels == value).nonzero()[:, 0]
        drawn.append(of_class[torch.randint(0, len(of_class), (batch // 2,), generator=rng)])
    order = torch.randperm(batch, generator=rng)
    real = examples[torch.cat(drawn)[order]]
    images = augment.random_symmetry(real.images, symmetry, rng)
    return Examples(images, real.labels, real.attributes)
