"""From scores to decisions: calibrated probabilities (Platt scaling), and thresholds.

Both are fitted on weights by logit and class, which may be those of images, or of bins of noisy
counts. Log loss beyond the best possible, where 0.10 is that of a score which says nothing (AUROC
0.75, 45 % positive, two images a patient, 40 draws, logits of spread 0.1 to 4: the worst spread,
then the best one), by the mu of a release of counts:

    patients   mu 0.5           mu 1             mu 2             exact
    100        0.075 to 0.015   0.022 to 0.009   0.010 to 0.007   0.009
    500        0.003 to 0.002   0.003 to 0.002   0.003 to 0.002   0.002

and the sensitivity of a threshold for 0.9 is, at mu 1, 0.89 to 0.96 (sd 0.05) for 100 patients,
0.90 to 0.92 (sd 0.02) for 500. From noisy counts that are each held at 0, without holding the
tails, the loss would be 0.03 to 0.10 at 100 patients.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from synthdp.evaluation.metrics import REACHED, THRESHOLD
from synthdp.evaluation.noisy_counts import BINS, logit_at
from synthdp.evaluation.uncertainty.intervals import Redrawn, itself_and_redraws

Array = NDArray[np.float64]

#: What a fitted slope is held between: above 0, so that the ranking stays as it was.
SLOPES = (1 / 64, 256.0)
#: Least weight of each class, in units, that anything is fitted to.
LEAST_WEIGHT = 1.0
_OFFSETS = (-30.0, 30.0)
#: The share of the weight beyond which bins count as the last one before it, at either end.
_TAIL = 0.1


def platt_scaling(logits: Array, negatives: Array, positives: Array) -> tuple[float, float]:
    """Slope and offset of the probability sigmoid(slope * logit + offset).

    Weighted logistic regression on targets that are moved towards each other, to 1 / (n_negative +
    2) and (n_positive + 1) / (n_positive + 2) (Platt, Advances in Large Margin Classifiers, 1999),
    so that classes which don't overlap have an optimum too.

    Args:
        logits: (K,), finite.
        negatives: (K,) of weights of the negative class, at least 0.
        positives: (K,), as well.

    Returns:
        A slope within `SLOPES`, and an offset. A classifier that says nothing, or the opposite, has
        the smallest slope: its probabilities are then close to the share of positives. Slope 1 and
        offset 0 where a class weighs less than `LEAST_WEIGHT`.
    """
    n_negative, n_positive = float(negatives.sum()), float(positives.sum())
    if min(n_negative, n_positive) < LEAST_WEIGHT:
        return 1.0, 0.0
    # each logit's weight times its mean target
    wanted = negatives / (n_negative + 2) + positives * (n_positive + 1) / (n_positive + 2)
    weights = negatives + positives

    def loss(point: Array) -> tuple[float, Array]:
        slope = np.exp(point[0])  # by its logarithm, so that it stays above 0
        values = slope * logits + point[1]
        residuals = weights * expit(values) - wanted
        gradient = np.array([(residuals * logits).sum() * slope, residuals.sum()])
        return float((weights * np.logaddexp(0, values) - wanted * values).sum()), gradient

    best = minimize(
        loss,
        x0=np.array([0.0, math.log(n_positive / n_negative)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(math.log(SLOPES[0]), math.log(SLOPES[1])), _OFFSETS],
    ).x
    return float(np.exp(best[0])), float(best[1])


def platt_of_counts(counts: Array) -> tuple[float, float]:
    """`platt_scaling` of the bins of likely counts, (2, BINS), benign first.

    Bins are taken at their middle. Those beyond the outer tenths of the weight count as the bin
    there: their logits reach to 40, so that a little weight that only noise has put there would
    decide the slope.
    """
    middles = logit_at((np.arange(BINS) + 0.5) / BINS)
    shares = counts.sum(axis=0).cumsum()
    low, high = np.searchsorted(shares, [_TAIL * shares[-1], (1 - _TAIL) * shares[-1]])
    held = np.clip(middles, middles[min(low, BINS - 1)], middles[min(high, BINS - 1)])
    return platt_scaling(held, counts[0], counts[1])


def threshold_of_scores(scores: Array, positives: Array, sensitivity: float) -> float:
    """The highest threshold that finds a share `sensitivity` of the positives' weight, or more.

    It lies in the middle of the gap below the score that has to be found, so that rounding moves no
    image across it.

    Args:
        scores: (K,) probabilities.
        positives: (K,) of weights of the positive class, of which some are above 0.
        sensitivity: in (0, 1).
    """
    order = np.argsort(-scores, kind="stable")
    detected = positives[order].cumsum()
    needed = sensitivity * detected[-1] * REACHED
    last = float(scores[order][np.searchsorted(detected, needed)])
    lower = scores[scores < last]
    return float(last + (lower.max() if lower.size else 0.0)) / 2


def threshold_of_counts(positives: Array, sensitivity: float) -> float:
    """The logit above which a share `sensitivity` of the positives' weight lies.

    Args:
        positives: (BINS,) of likely counts of the positive class; a bin's weight is taken to be
            spread evenly over it.
        sensitivity: in (0, 1).

    Returns:
        A finite logit; 0 where there is less than `LEAST_WEIGHT`.
    """
    if positives.sum() < LEAST_WEIGHT:
        return math.log(THRESHOLD / (1 - THRESHOLD))
    below = np.r_[0.0, positives.cumsum() / positives.sum()]
    position = np.interp(1 - sensitivity, below, np.arange(BINS + 1) / BINS)
    held = np.clip(np.atleast_1d(position), 0.5 / BINS, 1 - 0.5 / BINS)
    return float(logit_at(held)[0])


# Youden's threshold, where sensitivity + specificity - 1 is largest (Cancer 3:32, 1950). Chosen on
# the images that are then judged it flatters every model, the more, the fewer the images.


def youden_threshold(scores: Array, labels: Array) -> float:
    """The threshold of the largest sensitivity + specificity - 1; of several the highest.

    It lies in the middle of the gap below the lowest score that is called positive.

    Args:
        scores: (N,) probabilities.
        labels: (N,) of 1 and 0, both of them.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, positive = scores[order], labels[order]
    # images of one score are called together, so that a step ends at the last of them
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    detected, called = positive.cumsum()[ends], ends + 1.0
    gain = detected / positive.sum() - (called - detected) / (1 - positive).sum()
    best = int(gain.argmax())
    lower = ranked[ends[best + 1]] if best + 1 < ends.size else 0.0
    return float(ranked[ends[best]] + lower) / 2


def at_youden(
    labels: Array, scores: Array, patients: NDArray[np.intp], weights: NDArray[np.int64]
) -> dict[str, Redrawn]:
    """Accuracy, sensitivity and specificity at the threshold that Youden's index picks on the
    judged images themselves, anew on each redraw: optimistic, as arXiv 2302.01622 and 2306.06503
    have it. Each is the mean over the models; nan where a class is missing.

    Args:
        labels: (N,) of 1 and 0.
        scores: (S, N) of S models, finite.
        patients: (N,), the column of `weights` that each image's patient has.
        weights: (R, P) of `patient_weights`.
    """
    drawn = itself_and_redraws(weights)
    names = ("accuracy", "sensitivity", "specificity")
    sums = np.zeros((len(names), len(drawn)))
    redraws_at_once = max(1, _CELLS_AT_ONCE // max(1, labels.size))
    for start in range(0, len(drawn), redraws_at_once):
        block = slice(start, start + redraws_at_once)
        # a row for each image: sums down whole rows are far faster
        by_image = np.ascontiguousarray(drawn[block].T, dtype=np.float64)[patients]
        for one in scores:
            sums[:, block] += _best_decisions(labels, one, by_image)
    return {name: Redrawn.of(row / len(scores)) for name, row in zip(names, sums, strict=True)}


#: Bounds memory: redraws x images worked on at once.
_CELLS_AT_ONCE = 2**20


def _best_decisions(labels: Array, scores: Array, weights: Array) -> Array:
    """Accuracy, sensitivity, specificity, (3, R), of one model at its best threshold for each of
    the weightings, (N, R)."""
    if not labels.size:
        return np.full((3, weights.shape[1]), np.nan)
    order = np.argsort(-scores, kind="stable")
    ranked, positive, ordered = scores[order], labels[order], weights[order]
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    called = ordered.cumsum(axis=0)
    ordered *= positive[:, None]
    detected = np.cumsum(ordered, axis=0, out=ordered)[ends]
    called = called[ends]
    positives = detected[-1]
    negatives = called[-1] - positives
    with np.errstate(invalid="ignore", divide="ignore"):
        # sensitivity + specificity - 1, of which the last is nan where a class was not drawn
        gain = detected * (1 / positives + 1 / negatives) - called / negatives
        best = np.where(np.isnan(gain[-1]), 0, gain.argmax(axis=0))[None]
        positives_called = np.take_along_axis(detected, best, axis=0)[0]
        cleared = negatives - (np.take_along_axis(called, best, axis=0)[0] - positives_called)
        both = np.where((positives > 0) & (negatives > 0), 1.0, np.nan)
        shares = (
            (positives_called + cleared) / (positives + negatives),
            positives_called / positives,
            cleared / negatives,
        )
        return np.stack([share * both for share in shares])
