"""How AUROCs and shares of several models on the same patients vary and covary with the patients.

Without redraws: DeLong, DeLong and Clarke-Pearson (Biometrics 44:837, 1988) write an AUROC as the
mean of what each image adds to it; Obuchowski (Biometrics 53:567, 1997) sums these parts within
patients, since a patient's images resemble each other. With one image for each patient both are
the same. The parts come from midranks (Sun and Xu, IEEE Signal Processing Letters 21:1389, 2014).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from synthdp.evaluation.metrics import FloatArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Correlated:
    """A figure of K models on the same patients.

    values: (K,), nan where it is not defined. covariance: (K, K) over patients, nan where fewer
    than two patients have a class.
    """

    values: Array
    covariance: Array


@dataclass(frozen=True)
class _Parts:
    """Of one target: AUROCs (K,), and each patient's parts in them by class, (K, P).

    The corrections are Obuchowski's I / (I - 1), with I the patients who have a positive image, a
    negative one, and any.
    """

    aurocs: Array
    positive: Array
    negative: Array
    corrections: tuple[float, float, float]


def correlated_aurocs(
    targets: FloatArray, scores: FloatArray, patients: NDArray[np.intp]
) -> Correlated:
    """AUROCs of K models with their covariance over patients.

    Of several targets the figure is the mean AUROC over those that have both classes; patients
    are then summed over targets, which DeLong and Obuchowski leave open.

    Args:
        targets: (N, T) of 1, 0 or nan (left out).
        scores: (K, N, T), finite.
        patients: (N,), counted from 0.
    """
    n_patients = int(patients.max()) + 1 if patients.size else 0
    found = [
        _parts(targets[:, index], scores[:, :, index], patients, n_patients)
        for index in range(targets.shape[1])
        if np.unique(targets[~np.isnan(targets[:, index]), index]).size == 2
    ]
    if not found:
        n_models = len(scores)
        return Correlated(np.full(n_models, np.nan), np.full((n_models, n_models), np.nan))
    scaled = [_mean([part.positive * np.sqrt(part.corrections[0]) for part in found]),
              _mean([part.negative * np.sqrt(part.corrections[1]) for part in found])]  # fmt: skip
    positive, negative = (
        _mean(
            [
                values * np.sqrt(part.corrections[2])
                for part, values in zip(found, side, strict=True)
            ]
        )
        for side in ([part.positive for part in found], [part.negative for part in found])
    )
    mixed = positive @ negative.T
    covariance = scaled[0] @ scaled[0].T + scaled[1] @ scaled[1].T + mixed + mixed.T
    return Correlated(_mean([part.aurocs for part in found]), covariance)


def _mean(arrays: Sequence[Array]) -> Array:
    found: Array = np.mean(arrays, axis=0)
    return found


def _parts(
    targets: FloatArray, scores: FloatArray, patients: NDArray[np.intp], n_patients: int
) -> _Parts:
    chosen = ~np.isnan(targets)
    labels, values, owners = targets[chosen] == 1, scores[:, chosen], patients[chosen]
    n_positive, n_negative = int(labels.sum()), int((~labels).sum())
    ranks = rankdata(values, axis=1)
    above = (ranks[:, labels] - rankdata(values[:, labels], axis=1)) / n_negative
    below = 1 - (ranks[:, ~labels] - rankdata(values[:, ~labels], axis=1)) / n_positive
    aurocs = above.mean(axis=1)
    ones, zeros = owners[labels], owners[~labels]
    return _Parts(
        aurocs,
        _by_patient(above - aurocs[:, None], ones, n_patients) / n_positive,
        _by_patient(below - aurocs[:, None], zeros, n_patients) / n_negative,
        (_correction(ones), _correction(zeros), _correction(owners)),
    )


def _by_patient(values: Array, owners: NDArray[np.intp], n_patients: int) -> Array:
    """Sums over each patient's images: (K, M) -> (K, P)."""
    found = np.zeros((n_patients, len(values)))
    np.add.at(found, owners, values.T)
    return found.T


def _correction(owners: NDArray[np.intp]) -> float:
    """I / (I - 1) of the I patients; nan where there are fewer than two."""
    count = np.unique(owners).size
    return count / (count - 1) if count > 1 else float("nan")


def correlated_shares(hits: NDArray[np.bool_], patients: NDArray[np.intp]) -> Correlated:
    """Shares of images that K models get right, with their covariance over patients.

    A ratio of sums over patients, as in Obuchowski (Statistics in Medicine 17:1495, 1998).

    Args:
        hits: (K, M), of images of one class.
        patients: (M,), counted from 0.
    """
    n_models, n_images = hits.shape
    if not n_images:
        return Correlated(np.full(n_models, np.nan), np.full((n_models, n_models), np.nan))
    values = hits.mean(axis=1)
    parts = _by_patient(hits - values[:, None], patients, int(patients.max()) + 1) / n_images
    return Correlated(values, _correction(patients) * parts @ parts.T)
