"""Figures of the same images under many weightings, in one pass over the sorted scores."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from synthdp.evaluation.calibration import (
    are_probabilities,
    calibration_intercepts,
    calibration_slopes,
)
from synthdp.evaluation.metrics import AT_SENSITIVITY, REACHED, THRESHOLD, FloatArray

#: A metric's name -> its values, one for each weighting.
Draws = Mapping[str, NDArray[np.float64]]


def weighted_metrics(
    targets: FloatArray,
    scores: FloatArray,
    weights: FloatArray,
    *,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> Draws:
    """Every metric for many weightings of the same images.

    Equal to scikit-learn's with `sample_weight`: ties share a rank in the AUROC, and a point of
    the precision-recall curve in the average precision.

    Args:
        targets: (N,) of 1 and 0.
        scores: (N,), finite.
        weights: (R, N), at least 0.
        threshold: where a score is called positive.
        at_sensitivity: the share of positives at which `specificity_at_sensitivity` is read off.

    Returns:
        (R,) for each metric; nan where a class that it needs has no weight.
    """
    ranked = _ranked_metrics(
        targets, scores, weights, threshold=threshold, at_sensitivity=at_sensitivity
    )
    return {
        **ranked,
        "brier": _brier(targets, scores, weights),
        "calibration_slope": calibration_slopes(targets, scores, weights),
        "calibration_intercept": calibration_intercepts(targets, scores, weights),
    }


def _brier(targets: FloatArray, scores: FloatArray, weights: FloatArray) -> NDArray[np.float64]:
    if not are_probabilities(scores):
        return np.full(len(weights), np.nan)
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = (weights @ (targets - scores) ** 2) / weights.sum(axis=1)
    return found


def _ranked_metrics(
    targets: FloatArray,
    scores: FloatArray,
    weights: FloatArray,
    *,
    threshold: float,
    at_sensitivity: float,
) -> Draws:
    """The metrics that only the order of the scores and the threshold decide, in one pass."""
    order = np.argsort(-scores, kind="stable")
    ranked, labels, ranked_weights = scores[order], targets[order], weights[:, order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    positive = np.add.reduceat(ranked_weights * labels, starts, axis=1)
    negative = np.add.reduceat(ranked_weights * (1 - labels), starts, axis=1)
    true_positive, false_positive = positive.cumsum(axis=1), negative.cumsum(axis=1)
    positives, negatives = true_positive[:, -1], false_positive[:, -1]
    below = negatives[:, None] - false_positive + negative / 2
    called = true_positive + false_positive
    precision = np.divide(true_positive, called, out=np.zeros_like(called), where=called > 0)
    rest = positives[:, None] - true_positive + positive
    cleared = negatives[:, None] - false_positive + negative
    left = cleared + rest
    benign_precision = np.divide(cleared, left, out=np.zeros_like(left), where=left > 0)
    reached = (true_positive >= at_sensitivity * REACHED * positives[:, None]).argmax(axis=1)
    alarms = np.take_along_axis(false_positive, reached[:, None], axis=1)[:, 0]
    n_called = int(np.count_nonzero(ranked[starts] >= threshold))
    found = true_positive[:, n_called - 1] if n_called else np.zeros_like(positives)
    accused = false_positive[:, n_called - 1] if n_called else np.zeros_like(negatives)
    with np.errstate(invalid="ignore", divide="ignore"):
        auprc = (positive * precision).sum(axis=1) / positives
        auprc_benign = (negative * benign_precision).sum(axis=1) / negatives
        both = (positives > 0) & (negatives > 0)
        return {
            "auroc": (positive * below).sum(axis=1) / (positives * negatives),
            "auprc": np.where(negatives > 0, auprc, np.nan),
            "sensitivity": found / positives,
            "specificity": 1 - accused / negatives,
            "auprc_benign": np.where(positives > 0, auprc_benign, np.nan),
            "specificity_at_sensitivity": np.where(both, 1 - alarms / negatives, np.nan),
        }


def weighted_aurocs(
    targets: FloatArray, scores: FloatArray, weights: FloatArray
) -> NDArray[np.float64]:
    """The AUROC of one model under many weightings, faster than with all other metrics.

    Args:
        targets: (N,) of 1 and 0.
        scores: (N,), finite.
        weights: (N, R), at least 0: a row for each image.

    Returns:
        (R,); nan where a class has no weight.
    """
    negatives = np.flatnonzero(targets == 0)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    positives = np.flatnonzero(targets == 1)
    below = np.zeros((len(negatives) + 1, weights.shape[1]))
    np.cumsum(weights[negatives], axis=0, out=below[1:])
    first, last = (
        np.searchsorted(scores[negatives], scores[positives], side=side)
        for side in ("left", "right")
    )
    beaten = below[first] if (first == last).all() else (below[first] + below[last]) / 2
    chosen = weights[positives]
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float64] = np.einsum("ij,ij->j", chosen, beaten) / (
            chosen.sum(axis=0) * below[-1]
        )
    return found
