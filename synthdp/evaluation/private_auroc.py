"""The AUROC of private images under a privacy guarantee: one noisy release, paid for.

Each patient has weight one, spread evenly over the images with a known label. The weights are
counted by class and by `BINS` public bins of the score, the counts of each class are written in
Haar's basis, Gaussian noise is added, and the AUROC is computed from the noisy counts alone.

Why Haar's basis: the AUROC asks how many negatives lie below a bin, for every bin, and sums of
bins that are noisy each by itself gather all of their noise. In a tree of differences (Xiao, Wang
and Gehrke, arXiv 0909.5530) such a sum takes log2(BINS) + 1 terms, so the bins may be fine
enough for scores on any scale, without looking at them first.

Error against the exact AUROC of the same weights, at 0.7, delta 1e-4, 45 % positive, two images a
patient, logits of spread 0.1 to 4 (400 draws each; the worst spread, then the best one):

    patients   epsilon 1           epsilon 6           epsilon 20
    102        sd 0.150 to 0.103   sd 0.029 to 0.018   sd 0.013 to 0.007
    500        sd 0.028 to 0.016   sd 0.007 to 0.004   sd 0.004 to 0.002

with a bias of at most 0.01. Equal bins with noise each would do worse at most spreads: 8 of them
have a bias of up to 0.06, 32 an sd of 0.247 at epsilon 1 and 102 patients. For comparison, the
draw of the patients alone has an sd of about 0.05 at 102 and 0.024 at 500.
`scripts/bench_private_auroc.py` measures the mean over the spreads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthdp.errors import InputError
from synthdp.evaluation.metrics import FloatArray
from synthdp.privacy.mechanism import Mechanism, Unit
from synthdp.privacy.noise import NoiseSource, release_once

BINS = 64
_REDRAWS = 1000


@dataclass(frozen=True)
class NoisyAuroc:
    """What was released: the AUROC in [0, 1], and the standard error that the noise gives it.

    `standard_error` is simulated from the noisy counts, so that it costs nothing; it leaves out
    how much the figure would move with other patients.
    """

    value: float
    standard_error: float


def auroc_mechanism(
    *, epsilon: float, delta: float, population: int, unit: Unit = "patient"
) -> Mechanism:
    """The one step that releases the counts.

    Guarantee: its epsilon at `delta` never exceeds `epsilon`, for adding or removing one unit.
    """
    return Mechanism.reaching(
        epsilon=epsilon, delta=delta, steps=1, normaliser=population, unit=unit
    )


def haar_basis(bins: int = BINS) -> NDArray[np.float64]:
    """Haar's basis (bins, bins) on `bins` cells, a power of two, a row for each coefficient.

    The first row is the total, the others are differences of the halves of an interval; each of
    the log2(bins) + 1 levels is weighed by 1 / sqrt(log2(bins) + 1).

    Guarantee: nonnegative weights, one vector of bins for each class, of sum s over all classes
    have coefficients of norm at most s: within a level the coefficients are at most the weights of
    disjoint intervals, so their squares add up to at most s^2, and the levels' own squares add up
    to one.
    """
    levels = int(math.log2(bins))
    rows = [np.ones(bins)]
    for level in range(levels):
        width = bins >> level
        for start in range(0, bins, width):
            row = np.zeros(bins)
            row[start : start + width // 2] = 1
            row[start + width // 2 : start + width] = -1
            rows.append(row)
    return np.array(rows) / math.sqrt(levels + 1)


def unit_counts(targets: FloatArray, scores: FloatArray, units: NDArray[np.intp]) -> Tensor:
    """Each unit's weight by class and bin.

    A score has the bin of 1/2 + arctan(logit) / pi, which tells scores apart near 1/2 as well as
    near 0 and 1.

    Args:
        targets: (N,) of 1, 0 or nan (left out).
        scores: (N,) probabilities.
        units: (N,), the unit of each image, counted from 0.

    Returns:
        (U, 2, BINS) float32, benign first; a unit's weights sum to 1, to 0 with no known label.
    """
    counts = torch.zeros((int(units.max()) + 1 if len(units) else 0, 2, BINS))
    known = ~np.isnan(targets)
    labels, values, owners = targets[known].astype(np.intp), scores[known], units[known]
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.log(values.astype(np.float64)) - np.log1p(-values.astype(np.float64))
    place = np.nan_to_num(0.5 + np.arctan(logits) / np.pi, nan=0.5)
    bins = np.clip((place * BINS).astype(np.intp), 0, BINS - 1)
    weights = 1 / np.maximum(np.bincount(owners, minlength=len(counts)), 1)[owners]
    index = tuple(torch.from_numpy(part) for part in (owners, labels, bins))
    counts.index_put_(index, torch.from_numpy(weights).float(), accumulate=True)
    return counts


def auroc_of_counts(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The AUROC of weights by class and bin, (..., 2, B), benign first; ties count half.

    Noisy weights may be negative: the result is held in [0, 1], and a class total at 1 or above.
    """
    benign, malignant = counts[..., 0, :], counts[..., 1, :]
    below = benign.cumsum(axis=-1) - benign / 2
    totals = np.maximum(counts.sum(axis=-1), 1.0).prod(axis=-1)
    areas: NDArray[np.float64] = np.clip((malignant * below).sum(axis=-1) / totals, 0.0, 1.0)
    return areas


def refuse_small_population(units: Sequence[str], mechanism: Mechanism) -> None:
    """Refuse a declared population that is below the number of units.

    Raises:
        InputError: when it is.
    """
    if len(set(units)) > mechanism.normaliser:
        raise InputError(
            f"population is {mechanism.normaliser:g}, but the split holds more {mechanism.unit}s; "
            "declare a public round number that is surely above it"
        )


def noisy_auroc(
    targets: FloatArray,
    scores: FloatArray,
    units: Sequence[str],
    *,
    mechanism: Mechanism,
    source: NoiseSource,
) -> NoisyAuroc:
    """Release the AUROC of private images.

    Args:
        targets: (N,) of 1, 0 or nan (left out).
        scores: (N,) probabilities.
        units: (N,), the patient of each image (or the image itself, where that is the unit).
        mechanism: of `auroc_mechanism`.
        source: of a new key, used for nothing else.

    Guarantee: that of `mechanism`, for everything returned: a unit moves the coefficients by a
    vector of norm at most 1 (`haar_basis`), clipped to that, and the rest is computed from them.

    Raises:
        InputError: as `refuse_small_population`.
    """
    refuse_small_population(units, mechanism)
    _, owners = np.unique(np.asarray(units), return_inverse=True)
    basis = haar_basis()
    counts = unit_counts(targets, scores, owners.astype(np.intp))
    rows = (counts @ torch.from_numpy(basis.T).float()).flatten(1)
    released = release_once(rows, mechanism, source).numpy().astype(np.float64)
    coefficients = released.reshape(2, BINS) * mechanism.normaliser
    return _read(coefficients, basis, mechanism.noise_scale)


def _read(
    coefficients: NDArray[np.float64], basis: NDArray[np.float64], scale: float
) -> NoisyAuroc:
    """The AUROC of noisy coefficients (2, BINS), and how it moves under noise as large again."""
    inverse = np.linalg.inv(basis)
    counts = coefficients @ inverse.T
    noise = np.random.default_rng(0).normal(scale=scale, size=(_REDRAWS, *counts.shape))
    moved = auroc_of_counts(counts + noise @ inverse.T)
    return NoisyAuroc(float(auroc_of_counts(counts)), float(moved.std(ddof=1)))
