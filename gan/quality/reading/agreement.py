"""How far readers agree beyond chance: Cohen's kappa of two, Fleiss' of more.

Everything is taken on weighted images, many weightings at once, so that redraws of patients give an
interval (`synthdp.evaluation.uncertainty.intervals`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cohen_kappa(one: Sequence[int], other: Sequence[int], weights: Array, *, graded: bool) -> Array:
    """Cohen's kappa of two readers, (R,): 1 full agreement, 0 that of chance; nan where both gave
    one answer to all.

    Cohen, Educational and Psychological Measurement 20 (1960) 37; with squared distances,
    Psychological Bulletin 70 (1968) 213.

    Args:
        one: (N,) answers of a reader, as numbers.
        other: (N,) those of another to the same images.
        weights: (R, N) how often each image counts.
        graded: count a disagreement by the square of its distance; each alike otherwise.
    """
    values, numbers = np.unique([*one, *other], return_inverse=True)
    rows, columns = numbers[: len(one)], numbers[len(one) :]
    size = len(values)
    cells = np.zeros((len(one), size * size))
    cells[np.arange(len(one)), rows * size + columns] = 1
    observed = (weights @ cells).reshape(-1, size, size)
    total = observed.sum(axis=(1, 2))
    apart = (values[:, None] - values[None, :]).astype(np.float64) ** 2
    cost = apart if graded else (apart > 0).astype(np.float64)
    by_chance = observed.sum(axis=2)[:, :, None] * observed.sum(axis=1)[:, None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = total * (observed * cost).sum(axis=(1, 2)) / (by_chance * cost).sum(axis=(1, 2))
    return np.where(np.isfinite(ratio), 1 - ratio, np.nan)


def fleiss_kappa(answers: NDArray[np.intp], weights: Array) -> Array:
    """Fleiss' kappa of M readers, (R,), on the scale of Cohen's; nan where all gave one answer.

    Fleiss, Psychological Bulletin 76 (1971) 378.

    Args:
        answers: (M, N) of M readers to the same N images, as numbers.
        weights: (R, N) how often each image counts.
    """
    readers = len(answers)
    values = np.unique(answers)
    counts = np.stack([(answers == value).sum(axis=0) for value in values], axis=1).astype(float)
    alike = ((counts**2).sum(axis=1) - readers) / (readers * (readers - 1))
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = weights @ alike / total
        by_chance = ((weights @ counts / (readers * total[:, None])) ** 2).sum(axis=1)
        return np.where(by_chance < 1 - 1e-12, (observed - by_chance) / (1 - by_chance), np.nan)
