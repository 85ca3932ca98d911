"""What a private generator by selection learns of conditions: how images of each value look.

A patient still gives one vector of norm 1 at most. A public share s of its squared bound goes to
conditions: the class-wise mean vector as it is without them, times sqrt(1 - s), stands beside a
block for each value of each of A conditions, which holds sqrt(s / A) times the mean over the
patient's images of their vectors, those of other values counting as zero. An image is of one value
of a condition at most, so that the squares add up to 1 at most, whatever values a patient's images
have; a value that is not on the public list, and one that is unknown, count as zero.

The lists of values are public: those of the pool's candidates, never what stands with patients.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gan.package.conditions import Conditions
from gan.settings.train import TrainGanSettings
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.clipping import unit_means

#: Least part of the declared patients that the values of a condition together count as, whatever
#: the noise says; each an equal part of it.
_LEAST_SHARE = 0.05


def in_blocks(vectors: Tensor, block_of: Tensor, count: int) -> Tensor:
    """Vectors (N, K), each in the block that it belongs to: (N, count, K), zeros elsewhere.

    `block_of` is (N,) int64 below `count`; a vector of a negative one is in none.
    """
    blocks = vectors.new_zeros(len(vectors), count, vectors.shape[1])
    known = torch.nonzero(block_of >= 0).flatten()
    blocks[known, block_of[known]] = vectors[known]
    return blocks


@dataclass(frozen=True)
class ConditionPart:
    """The public part of a release of conditions.

    share: of each patient's squared bound, in (0, 1); counts: (A,) how many values each has.
    """

    share: float
    counts: tuple[int, ...]

    @property
    def blocks(self) -> int:
        """How many vectors a patient's row holds: both classes', then each value's."""
        return 2 + sum(self.counts)

    def classes_of(self, released: Tensor) -> Tensor:
        """The classes' sums (2, K) of released ones (blocks, K), as if all had gone to them."""
        of_classes: Tensor = released[:2] / (1 - self.share) ** 0.5
        return of_classes

    def of_classes(self, mechanism: Mechanism) -> Mechanism:
        """What the classes' part is worth as a release by itself, of vectors of norm 1."""
        return _weakened(mechanism, 1 - self.share)

    def of_values(self, mechanism: Mechanism) -> Mechanism:
        """Likewise the part of each condition."""
        return _weakened(mechanism, self.share / len(self.counts))


def condition_part(settings: TrainGanSettings, conditions: Conditions) -> ConditionPart | None:
    """What part of a run's release goes to its conditions; None where no cell of theirs is read."""
    if not settings.releases_conditions:
        return None
    recipe = settings.selection
    assert recipe is not None
    assert recipe.conditions_share is not None
    return ConditionPart(recipe.conditions_share, tuple(conditions.level_counts))


def _weakened(mechanism: Mechanism, share: float) -> Mechanism:
    return mechanism.with_noise(mechanism.noise_multiplier / share**0.5)


def value_vectors(
    vectors: Tensor,
    labels: Tensor,
    units: Tensor,
    n_units: int,
    *,
    codes: Tensor,
    part: ConditionPart,
) -> Tensor:
    """One row a unit: the mean over its images of their vectors, by class and by value.

    Args:
        vectors: (N, K) of norm at most 1.
        labels: (N,) of 0 and 1, negative where unknown, which counts as zero for the classes.
        units: (N,) int64 in [0, n_units).
        n_units: U.
        codes: (N, A) int64, the place of each image's value in the public list from 1, 0 where it
            is none of it.
        part: which part goes to conditions.

    Returns:
        (U, blocks K), each row of norm at most 1, since it is a mean of rows of norm at most 1. A
        unit with many images, or with images of many values, weighs no more than any other.

    Guarantee: a row is a function of its unit's images, labels and values, and of public numbers;
    each image's part is made elementwise, so that nobody else's images move its last bit.
    """
    parts = [(1 - part.share) ** 0.5 * in_blocks(vectors, labels, 2)]
    of_one = (part.share / len(part.counts)) ** 0.5
    for condition, count in enumerate(part.counts):
        parts.append(of_one * in_blocks(vectors, codes[:, condition] - 1, count))
    return unit_means(torch.cat(parts, dim=1).flatten(1), units, n_units)


@dataclass(frozen=True)
class ValueMeans:
    """How images of each value of one condition differ from all, as it was released: with noise.

    differences: (V, D), the mean vector of each value less that of all images; deviations: (V,), of
    the noise in each of their coordinates, without that of the mean of all.
    """

    differences: Tensor
    deviations: Tensor


def value_means(
    released: Tensor, mechanism: Mechanism | None, part: ConditionPart, *, constant: float
) -> list[ValueMeans]:
    """How each value of each condition differs, from the released sums; post-processing.

    Args:
        released: (blocks, 1 + D), each row led by the sum of its images' constants.
        mechanism: of the release; None where it has no noise.
        part: which part went to conditions.
        constant: that of each image's vector.
    """
    of_classes = part.classes_of(released)
    covered = (of_classes[:, 0].sum() / constant).clamp(min=_LEAST_SHARE)
    whole = of_classes[:, 1:].sum(dim=0) / covered
    of_values = released[2:] / (part.share / len(part.counts)) ** 0.5
    noise = 0.0
    if mechanism is not None:
        noise = part.of_values(mechanism).noise_scale / mechanism.normaliser
    means = []
    for sums in of_values.split(list(part.counts)):
        shares = (sums[:, 0] / constant).clamp(min=_LEAST_SHARE / len(sums))
        means.append(ValueMeans(sums[:, 1:] / shares[:, None] - whole, noise / shares))
    return means
