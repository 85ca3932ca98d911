"""The real images that a generator learns from: read once, drawn in balanced batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gan.package.conditions import Conditions, encode
from gan.settings.parts import Symmetry
from gan.training import augment
from gan.training.classes import chosen_targets, labels_array, refuse_missing_classes
from synthdp.data.dataset import Dataset, Row, load_images

#: The label of an image whose class is not known, where it is not refused.
UNLABELLED = -1


@dataclass(frozen=True)
class Examples:
    """Images (N, 1, S, S) float32 in [-1, 1], labels (N,) and attribute codes (N, A) int64.

    Labels of several findings are (N, T), `UNLABELLED` where unknown.
    """

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
    dataset: Dataset,
    rows: Sequence[Row],
    size_px: int,
    conditions: Conditions | None = None,
    targets: Mapping[str, int] | None = None,
) -> Examples:
    """Read train images with their classes and attributes; all stay in memory.

    `targets` are the findings, each with its place among the set's; all of the set's by default.

    Raises:
        InputError: when the split lacks a class, or the only target a label.
    """
    targets = targets or chosen_targets(dataset.info, None)
    refuse_missing_classes(dataset.info, rows, targets)
    return Examples(
        images=torch.from_numpy(load_images(dataset, rows, size_px)),
        labels=known_labels(rows, targets),
        attributes=encode(conditions or Conditions(), rows),
    )


def load_protected(
    dataset: Dataset, rows: Sequence[Row], size_px: int, targets: Mapping[str, int] | None = None
) -> Examples:
    """As `load_examples`, for whoever promises something to these patients: refuses none.

    There may be no row, and one class alone. A label that is unknown is `UNLABELLED`; whoever sums
    over patients counts such an image as zero.
    """
    return Examples(
        images=torch.from_numpy(load_images(dataset, rows, size_px)),
        labels=known_labels(rows, targets or chosen_targets(dataset.info, None)),
        attributes=encode(Conditions(), rows),
    )


def known_labels(rows: Sequence[Row], targets: Mapping[str, int]) -> Tensor:
    """Labels (N,) int64 of 0 and 1, of several findings (N, T); `UNLABELLED` where unknown."""
    labels = torch.from_numpy(labels_array(rows, targets))
    return labels.nan_to_num(UNLABELLED).long()


def draw_batch(
    examples: Examples, batch: int, symmetry: Symmetry, rng: torch.Generator
) -> Examples:
    """Draw `batch` images, as many of either class, in mixed order, each moved by a symmetry.

    Of several findings half are drawn as they come; each of the others has a finding that is drawn
    first, every one as often. Images are drawn with replacement, so that a set may be smaller than
    a batch.
    """
    if examples.labels.ndim == 2:
        drawn = [torch.randint(0, len(examples), (batch // 2,), generator=rng)]
        drawn.append(_with_each_finding(examples, batch // 2, rng))
    else:
        drawn = []
        for value in (0, 1):
            of_class = (examples.labels == value).nonzero()[:, 0]
            drawn.append(of_class[torch.randint(0, len(of_class), (batch // 2,), generator=rng)])
    order = torch.randperm(batch, generator=rng)
    real = examples[torch.cat(drawn)[order]]
    images = augment.random_symmetry(real.images, symmetry, rng)
    return Examples(images, real.labels, real.attributes)


def _with_each_finding(examples: Examples, count: int, rng: torch.Generator) -> Tensor:
    """Rows (count,), each of an image that has a finding, which is drawn first."""
    findings = torch.randint(0, examples.labels.shape[1], (count,), generator=rng)
    chosen = []
    for finding in findings.tolist():
        having = (examples.labels[:, finding] == 1).nonzero()[:, 0]
        chosen.append(having[torch.randint(0, len(having), (1,), generator=rng)])
    return torch.cat(chosen)
