"""Figures from targets and scores: how well a model ranks and how well it decides.

Everywhere in this room: targets are 1 (malignant, positive), 0 (benign) or nan (unknown, left
out); scores rise with the probability of 1; an image is called positive at `score >= threshold`.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

THRESHOLD = 0.5

FloatArray = NDArray[np.floating]
Metric = Callable[[FloatArray, FloatArray, float], float]


def known(targets: FloatArray, scores: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """The pairs whose target is known: targets as 0 and 1, and their scores, (K,) each."""
    chosen = ~np.isnan(targets)
    return targets[chosen].astype(np.intp), scores[chosen]


def auroc(targets: FloatArray, scores: FloatArray, threshold: float = THRESHOLD) -> float:
    """Area under the ROC curve, in [0, 1]; 0.5 is chance, nan where one class is missing.

    Args:
        targets: (N,) of 1, 0 or nan.
        scores: (N,), finite; only their order counts.
        threshold: not used; all metrics are called alike.
    """
    labels, values = known(targets, scores)
    return float(roc_auc_score(labels, values)) if np.unique(labels).size == 2 else float("nan")


def auprc(targets: FloatArray, scores: FloatArray, threshold: float = THRESHOLD) -> float:
    """Average precision, in [0, 1]; chance is the share of positives, nan with one class.

    Arguments as for `auroc`.
    """
    labels, values = known(targets, scores)
    if np.unique(labels).size < 2:
        return float("nan")
    return float(average_precision_score(labels, values))


def sensitivity(targets: FloatArray, scores: FloatArray, threshold: float = THRESHOLD) -> float:
    """The share of positives called positive, in [0, 1]; nan where there are none."""
    labels, values = known(targets, scores)
    called = values[labels == 1] >= threshold
    return float(called.mean()) if called.size else float("nan")


def specificity(targets: FloatArray, scores: FloatArray, threshold: float = THRESHOLD) -> float:
    """The share of negatives called negative, in [0, 1]; nan where there are none."""
    labels, values = known(targets, scores)
    cleared = values[labels == 0] < threshold
    return float(cleared.mean()) if cleared.size else float("nan")


METRICS: Mapping[str, Metric] = {
    "auroc": auroc,
    "auprc": auprc,
    "sensitivity": sensitivity,
    "specificity": specificity,
}
