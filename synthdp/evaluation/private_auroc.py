"""The AUROC of private images under a privacy guarantee: one noisy release, paid for.

The counts of `synthdp.evaluation.noisy_counts` are released, and the AUROC is computed from the
noisy counts alone.

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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthdp.evaluation.metrics import FloatArray
from synthdp.evaluation.noisy_counts import haar_basis, released_coefficients
from synthdp.privacy.mechanism import Mechanism, Unit
from synthdp.privacy.noise import NoiseSource

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


def auroc_of_counts(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The AUROC of weights by class and bin, (..., 2, B), benign first; ties count half.

    Noisy weights may be negative: the result is held in [0, 1], and a class total at 1 or above.
    """
    benign, malignant = counts[..., 0, :], counts[..., 1, :]
    below = benign.cumsum(axis=-1) - benign / 2
    totals = np.maximum(counts.sum(axis=-1), 1.0).prod(axis=-1)
    areas: NDArray[np.float64] = np.clip((malignant * below).sum(axis=-1) / totals, 0.0, 1.0)
    return areas


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

    Guarantee: that of `mechanism`, for everything returned: it is computed from what
    `released_coefficients` gives.

    Raises:
        InputError: when the declared population is below the number of units.
    """
    coefficients = released_coefficients(
        targets[:, None], scores[:, None], units, mechanism=mechanism, source=source
    )
    return _read(coefficients[0], haar_basis(), mechanism.noise_scale)


def _read(
    coefficients: NDArray[np.float64], basis: NDArray[np.float64], scale: float
) -> NoisyAuroc:
    """The AUROC of noisy coefficients (2, B), and how it moves under noise as large again."""
    inverse = np.linalg.inv(basis)
    counts = coefficients @ inverse.T
    noise = np.random.default_rng(0).normal(scale=scale, size=(_REDRAWS, *counts.shape))
    moved = auroc_of_counts(counts + noise @ inverse.T)
    return NoisyAuroc(float(auroc_of_counts(counts)), float(moved.std(ddof=1)))
