"""Figures from targets and scores: how well a model ranks, decides, and knows how sure it is.

Everywhere in this room: targets are 1 (malignant, positive), 0 (benign) or nan (unknown, left
out); scores rise with the probability of 1; an image is called positive at `score >= threshold`.
Brier score and calibration take scores as probabilities; scores outside [0, 1] have neither.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from synthdp.evaluation.calibration import (
    are_probabilities,
    calibration_intercepts,
    calibration_slopes,
)

THRESHOLD = 0.5
#: The share of positives to be found, at which models of any threshold can be compared.
AT_SENSITIVITY = 0.9
#: Shares of weight this close to a wanted one count as reached, whatever sums are rounded to.
REACHED = 1 - 1e-9

FloatArray = NDArray[np.floating]


class Metric(Protocol):
    """A figure of targets and scores, (N,) each; all are called alike and use what they need."""

    def __call__(
        self,
        targets: FloatArray,
        scores: FloatArray,
        threshold: float = THRESHOLD,
        at_sensitivity: float = AT_SENSITIVITY,
    ) -> float:
        """The figure, nan where it is not defined."""


def known(targets: FloatArray, scores: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """The pairs whose target is known: targets as 0 and 1, and their scores, (K,) each."""
    chosen = ~np.isnan(targets)
    return targets[chosen].astype(np.intp), scores[chosen]


def auroc(
    targets: FloatArray,
    scores: FloatArray,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> float:
    """Area under the ROC curve, in [0, 1]; 0.5 is chance, nan where one class is missing.

    Args:
        targets: (N,) of 1, 0 or nan.
        scores: (N,), finite; only their order counts.
        threshold: not used; all metrics are called alike.
        at_sensitivity: not used.
    """
    labels, values = known(targets, scores)
    return float(roc_auc_score(labels, values)) if np.unique(labels).size == 2 else float("nan")


def auprc(
    targets: FloatArray,
    scores: FloatArray,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> float:
    """Average precision, in [0, 1]; chance is the share of positives, nan with one class.

    Arguments as for `auroc`.
    """
    labels, values = known(targets, scores)
    if np.unique(labels).size < 2:
        return float("nan")
    return float(average_precision_score(labels, values))


def sensitivity(
    targets: FloatArray,
    scores: FloatArray,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> float:
    """The share of positives called positive, in [0, 1]; nan where there are none."""
    labels, values = known(targets, scores)
    called = values[labels == 1] >= threshold
    return float(called.mean()) if called.size else float("nan")


def specificity(
    targets: FloatArray,
    scores: FloatArray,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> float:
    """The share of negatives called negative, in [0, 1]; nan where there are none."""
    labels, values = known(targets, scores)
    cleared = values[labels == 0] < threshold
    return float(cleared.mean()) if cleared.size else float("nan")


def auprc_benign(
    targets: FloatArray,
    scores: FloatArray,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> float:
    """Average precision with benign as the positive class, as in arXiv 2407.12669, in [0, 1].

    Chance is the share of negatives; nan with one class. Arguments as for `auroc`.
    """
    return auprc(1 - targets, -scores)


def specificity_at_sensitivity(
    targets: FloatArray,
    scores: FloatArray,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> float:
    """Specificity at the highest threshold that finds a share `at_sensitivity` of the positives.

    The threshold is fitted to these very images, so the figure compares models and promises no
    decision. In [0, 1]; nan with one class.
    """
    labels, values = known(targets, scores)
    if np.unique(labels).size < 2:
        return float("nan")
    false_alarms, found, _ = roc_curve(labels, values, drop_intermediate=False)
    return float(1 - false_alarms[found >= at_sensitivity * REACHED][0])


def brier(
    targets: FloatArray,
    scores: FloatArray,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> float:
    """The mean squared error of the probability, in [0, 1], lower is better (Brier 1950).

    nan where a score is no probability or no target is known.
    """
    labels, values = known(targets, scores)
    if not labels.size or not are_probabilities(values):
        return float("nan")
    return float(brier_score_loss(labels, values, pos_label=1))


def calibration_slope(
    targets: FloatArray,
    scores: FloatArray,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> float:
    """How far logits would have to be stretched; 1 is right, below 1 too sure.

    As in `calibration_slopes`; nan with one class, or where a score is no probability.
    """
    labels, values = known(targets, scores)
    return float(calibration_slopes(labels, values, np.ones((1, labels.size)))[0])


def calibration_intercept(
    targets: FloatArray,
    scores: FloatArray,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> float:
    """How far logits would have to be raised; 0 is right, below 0: risks are overstated.

    As in `calibration_intercepts`; nan with one class, or where a score is no probability.
    """
    labels, values = known(targets, scores)
    return float(calibration_intercepts(labels, values, np.ones((1, labels.size)))[0])


METRICS: Mapping[str, Metric] = {
    "auroc": auroc,
    "auprc": auprc,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "auprc_benign": auprc_benign,
    "specificity_at_sensitivity": specificity_at_sensitivity,
    "brier": brier,
    "calibration_slope": calibration_slope,
    "calibration_intercept": calibration_intercept,
}
