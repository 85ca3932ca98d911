"""Private images counted by class and score, released once: what figures are then read from.

Each patient has weight one, spread evenly over the images with a known label. The weights are
counted by class and by `BINS` public bins of the score, the counts of each class are written in
Haar's basis, and Gaussian noise is added. Whatever is computed from the result costs no more.

Why Haar's basis: an AUROC or a threshold asks how much lies below a bin, for every bin, and sums of
bins that are noisy each by itself gather all of their noise. In a tree of differences (Xiao, Wang
and Gehrke, arXiv 0909.5530) such a sum takes log2(BINS) + 1 terms, so the bins may be fine
enough for scores on any scale, without looking at them first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import expit
from torch import Tensor

from synthdp.evaluation.metrics import FloatArray
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.exact import ExactRows
from synthdp.privacy.noisy_sum.lattice import release_once
from synthdp.privacy.noisy_sum.noise import NoiseSource

BINS = 64
_MOST_ITERATIONS = 100 * BINS


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


def logit_at(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logit at a position, in (0, 1), of the scale that is cut into equal bins."""
    return np.tan(np.pi * (position - 0.5))


def unit_counts(targets: FloatArray, scores: FloatArray, units: NDArray[np.intp]) -> Tensor:
    """Each unit's weight by class and bin.

    A score has the bin of 1/2 + arctan(logit) / pi (`logit_at` is the inverse), which tells scores
    apart near 1/2 as well as near 0 and 1.

    Args:
        targets: (N,) of 1, 0 or nan (left out).
        scores: (N,) probabilities.
        units: (N,), the unit of each image, counted from 0.

    Returns:
        (U, 2, BINS) float64, benign first; a unit's weights sum to 1, to 0 with no known label.

    Guarantee: a unit's weights are a function of its own images alone, to the last bit: scores are
    compared with public edges, and weights added up one by one.
    """
    counts = np.zeros((int(units.max()) + 1 if len(units) else 0, 2, BINS))
    known = ~np.isnan(targets)
    labels, values, owners = targets[known].astype(np.intp), scores[known], units[known]
    bins = np.searchsorted(expit(logit_at(np.arange(1, BINS) / BINS)), values, side="right")
    bins[np.isnan(values)] = BINS // 2  # what is no number counts as 1/2
    weights = 1 / np.maximum(np.bincount(owners, minlength=len(counts)), 1)[owners]
    np.add.at(counts, (owners, labels, bins), weights)
    return torch.from_numpy(counts)


def unit_rows(targets: FloatArray, scores: FloatArray, units: NDArray[np.intp]) -> Tensor:
    """Each unit's coefficients in Haar's basis, for all targets together.

    Args:
        targets: (N, T) of 1, 0 or nan (left out).
        scores: (N, T) probabilities.
        units: (N,), the unit of each image, counted from 0.

    Returns:
        (U, T * 2 * BINS) float64.

    Guarantee: a row is a function of its own unit alone, to the last bit, of norm at most 1: each
    of the T targets has coefficients of norm at most 1 (`haar_basis`, `unit_counts`), and all are
    divided by sqrt(T).
    """
    basis, n_targets = torch.from_numpy(haar_basis()), targets.shape[1]
    parts = [unit_counts(targets[:, index], scores[:, index], units) for index in range(n_targets)]
    counts = torch.stack(parts, dim=1)
    rows = ExactRows.of(counts.flatten(0, 2)).times(basis).view(counts.shape)
    return rows.flatten(1) / math.sqrt(n_targets)


def released_coefficients(
    targets: FloatArray,
    scores: FloatArray,
    units: Sequence[str],
    *,
    mechanism: Mechanism,
    noise_source: NoiseSource,
) -> NDArray[np.float64]:
    """Release the counts of private images by class and score.

    Args:
        targets: (N, T) of 1, 0 or nan (left out).
        scores: (N, T) probabilities.
        units: (N,), the patient of each image (or the image itself, where that is the unit).
        mechanism: of one step on all units.
        noise_source: of a key that is used for nothing else.

    Returns:
        (T, 2, BINS), benign first, in Haar's basis; the noise on each has the standard deviation
        sqrt(T) * noise_scale.

    Guarantee: that of `mechanism`: a unit moves the sum by a vector of norm at most 1
    (`unit_rows`), clipped to its clip norm. How many units there are decides nothing else.
    """
    _, owners = np.unique(np.asarray(units), return_inverse=True)
    rows = unit_rows(targets, scores, owners.astype(np.intp))
    released = release_once(rows, mechanism, noise_source).numpy().astype(np.float64)
    n_targets = targets.shape[1]
    return released.reshape(n_targets, 2, BINS) * (mechanism.normaliser * math.sqrt(n_targets))


def likely_counts(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """The counts of at least 0 under which noisy coefficients, (..., BINS), are most likely.

    Gaussian noise, so nonnegative least squares. Noisy counts that are each held at 0 would leave
    half of the noise of every empty bin as weight; here the sums over intervals hold it down.
    """
    basis, counts = haar_basis(), np.empty(coefficients.shape)
    for row, fitted in zip(coefficients.reshape(-1, BINS), counts.reshape(-1, BINS), strict=True):
        try:
            fitted[:] = nnls(basis, row, maxiter=_MOST_ITERATIONS)[0]
        except RuntimeError:  # no optimum: what was released must have a result all the same
            fitted[:] = np.maximum(np.linalg.solve(basis, row), 0.0)
    return counts


# The AUROC of private images under a privacy guarantee: one noisy release, paid for, from which the
# AUROC is computed alone. Standard deviation of its error against the exact AUROC of the same
# weights, at 0.7, delta 1e-4, 45 % positive, two images a patient, logits of spread 0.1 to 4 (400
# draws each; the worst spread, then the best one):
#
#     patients   epsilon 1        epsilon 6        epsilon 20
#     102        0.150 to 0.103   0.029 to 0.018   0.013 to 0.007
#     500        0.028 to 0.016   0.007 to 0.004   0.004 to 0.002
#
# with a bias of at most 0.01. Equal bins with noise each would do worse at most spreads: 8 of them
# have a bias of up to 0.06, 32 a deviation of 0.247 at epsilon 1 and 102 patients. For comparison,
# the draw of the patients alone has one of about 0.05 at 102 and 0.024 at 500.
# `scripts/bench_private_auroc.py` measures the mean over the spreads.

_REDRAWS = 1000  # of the noise, for its standard error


#: A class counts as there when its noisy total is this many standard deviations of noise.
_SURELY_THERE = 4


@dataclass(frozen=True)
class NoisyAuroc:
    """An AUROC of what was released, in [0, 1], and the standard error that the noise gives it.

    `standard_error` is simulated from the noisy counts, so that it costs nothing; it leaves out
    how much the figure would move with other patients.
    """

    value: float
    standard_error: float


@dataclass(frozen=True)
class NoisyAurocs:
    """The AUROC of each of T targets of one release, and their plain mean.

    `over` says which targets the mean is over: those of which both classes are surely there, by
    their noisy totals. It is nan where there is none.
    """

    targets: tuple[NoisyAuroc, ...]
    macro: NoisyAuroc
    over: tuple[int, ...]


def auroc_of_counts(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The AUROC of weights by class and bin, (..., 2, B), benign first; ties count half.

    Noisy weights may be negative: the result is held in [0, 1], and a class total at 1 or above.
    """
    benign, malignant = counts[..., 0, :], counts[..., 1, :]
    below = benign.cumsum(axis=-1) - benign / 2
    totals = np.maximum(counts.sum(axis=-1), 1.0).prod(axis=-1)
    areas: NDArray[np.float64] = np.clip((malignant * below).sum(axis=-1) / totals, 0.0, 1.0)
    return areas


def noisy_aurocs(
    targets: FloatArray,
    scores: FloatArray,
    units: Sequence[str],
    *,
    mechanism: Mechanism,
    noise_source: NoiseSource,
) -> NoisyAurocs:
    """Release the AUROCs of private images: of all targets together, in one release.

    All targets share the mechanism's budget: the noise on the counts of each is sqrt(T) times that
    of one alone (`unit_rows`).

    Args:
        targets: (N, T) of 1, 0 or nan (left out).
        scores: (N, T) probabilities.
        units: (N,), the patient of each image (or the image itself, where that is the unit).
        mechanism: of one step on all units, whose normaliser is the declared population.
        noise_source: of a new key, used for nothing else.

    Guarantee: that of `mechanism`, for everything returned, which targets have a mean too: it is
    computed from what `released_coefficients` gives.
    """
    coefficients = released_coefficients(
        targets, scores, units, mechanism=mechanism, noise_source=noise_source
    )
    inverse = np.linalg.inv(haar_basis())
    counts = coefficients @ inverse.T
    scale = mechanism.noise_scale * math.sqrt(len(counts))
    # How far the AUROCs move under further noise of the same size. These draws are no release, so
    # their seed may be known.
    generator = np.random.default_rng(0)
    moved = np.stack(
        [
            auroc_of_counts(
                one + generator.normal(scale=scale, size=(_REDRAWS, *one.shape)) @ inverse.T
            )
            for one in counts
        ]
    )
    values = auroc_of_counts(counts)
    # The total of a class is its first coefficient, unweighed.
    totals = counts.sum(axis=-1)
    noise_of_total = scale * math.sqrt(math.log2(BINS) + 1)
    over = np.flatnonzero((totals >= _SURELY_THERE * noise_of_total).all(axis=-1))
    macro = NoisyAuroc(math.nan, math.nan)
    if over.size:
        macro = NoisyAuroc(float(values[over].mean()), _spread(moved[over].mean(axis=0)))
    each = tuple(
        NoisyAuroc(float(value), _spread(draws)) for value, draws in zip(values, moved, strict=True)
    )
    return NoisyAurocs(each, macro, tuple(map(int, over)))


def _spread(draws: NDArray[np.float64]) -> float:
    return float(draws.std(ddof=1))
