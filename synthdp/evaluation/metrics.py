"""Figures from targets and scores: how well a model ranks, decides, and knows how sure it is.

Everywhere in this room: targets are 1 (malignant, positive), 0 (benign) or nan (unknown, left
out); scores rise with the probability of 1; an image is called positive at `score >= threshold`.
Brier score and calibration take scores as probabilities; scores outside [0, 1] have neither.
"""

from collections.abc import Mapping

import numpy as np
import scipy  # its parts are imported at their first use
from numpy.typing import NDArray

from synthdp.evaluation.settings import AT_SENSITIVITY

THRESHOLD = 0.5
#: What the plain mean over several targets is called, wherever a target is named.
MACRO = "macro"
#: Shares of weight this close to a wanted one count as reached, whatever sums are rounded to.
REACHED = 1 - 1e-9

FloatArray = NDArray[np.floating]
Array = NDArray[np.float64]


def known(targets: FloatArray, scores: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """The pairs whose target is known: targets as 0 and 1, and their scores, (K,) each."""
    chosen = ~np.isnan(targets)
    return targets[chosen].astype(np.intp), scores[chosen]


def has_both_classes(targets: FloatArray) -> bool:
    """Whether targets, (N,) of 1, 0 or nan, hold both classes."""
    return bool((targets == 1).any() and (targets == 0).any())


def auroc(targets: FloatArray, scores: FloatArray) -> float:
    """Area under the ROC curve, in [0, 1]; 0.5 is chance, nan where one class is missing.

    Args:
        targets: (N,) of 1, 0 or nan.
        scores: (N,), finite; only their order counts.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 (takes a second)

    labels, values = known(targets, scores)
    return float(roc_auc_score(labels, values)) if np.unique(labels).size == 2 else float("nan")


def auprc(targets: FloatArray, scores: FloatArray) -> float:
    """Average precision, in [0, 1]; chance is the share of positives, nan with one class.

    Arguments as for `auroc`.
    """
    from sklearn.metrics import average_precision_score  # noqa: PLC0415 (as above)

    labels, values = known(targets, scores)
    if np.unique(labels).size < 2:
        return float("nan")
    return float(average_precision_score(labels, values))


def auprc_benign(targets: FloatArray, scores: FloatArray) -> float:
    """Average precision with benign as the positive class, as in arXiv 2407.12669, in [0, 1].

    Chance is the share of negatives; nan with one class. Arguments as for `auroc`.
    """
    return auprc(1 - targets, -scores)


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


def specificity_at_sensitivity(
    targets: FloatArray, scores: FloatArray, at_sensitivity: float = AT_SENSITIVITY
) -> float:
    """Specificity at the highest threshold that finds a share `at_sensitivity` of the positives.

    The threshold is fitted to these very images, so the figure compares models and promises no
    decision. In [0, 1]; nan with one class.
    """
    from sklearn.metrics import roc_curve  # noqa: PLC0415 (as above)

    labels, values = known(targets, scores)
    if np.unique(labels).size < 2:
        return float("nan")
    false_alarms, sensitivities, _ = roc_curve(labels, values, drop_intermediate=False)
    return float(1 - false_alarms[sensitivities >= at_sensitivity * REACHED][0])


def brier(targets: FloatArray, scores: FloatArray) -> float:
    """The mean squared error of the probability, in [0, 1], lower is better (Brier 1950).

    nan where a score is no probability or no target is known.
    """
    from sklearn.metrics import brier_score_loss  # noqa: PLC0415 (as above)

    labels, values = known(targets, scores)
    if not labels.size or not are_probabilities(values):
        return float("nan")
    return float(brier_score_loss(labels, values, pos_label=1))


def calibration_slope(targets: FloatArray, scores: FloatArray) -> float:
    """How far logits would have to be stretched; 1 is right, below 1 too sure.

    As in `calibration_slopes`; nan with one class, or where a score is no probability.
    """
    labels, values = known(targets, scores)
    return float(calibration_slopes(labels, values, np.ones((1, labels.size)))[0])


def calibration_intercept(targets: FloatArray, scores: FloatArray) -> float:
    """How far logits would have to be raised; 0 is right, below 0: risks are overstated.

    As in `calibration_intercepts`; nan with one class, or where a score is no probability.
    """
    labels, values = known(targets, scores)
    return float(calibration_intercepts(labels, values, np.ones((1, labels.size)))[0])


#: All metrics by name, in the order of `metrics.json`.
METRICS = (
    *("auroc", "auprc", "sensitivity", "specificity", "auprc_benign"),
    *("specificity_at_sensitivity", "brier", "calibration_slope", "calibration_intercept"),
)


def all_metrics(
    targets: FloatArray,
    scores: FloatArray,
    *,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> dict[str, float]:
    """Every metric of these images, by the names of `METRICS`; nan where one is not defined.

    Args:
        targets: (N,) of 1, 0 or nan (left out).
        scores: (N,), finite.
        threshold: where a score is called positive.
        at_sensitivity: the share of positives at which `specificity_at_sensitivity` is read off.
    """
    return {
        "auroc": auroc(targets, scores),
        "auprc": auprc(targets, scores),
        "sensitivity": sensitivity(targets, scores, threshold),
        "specificity": specificity(targets, scores, threshold),
        "auprc_benign": auprc_benign(targets, scores),
        "specificity_at_sensitivity": specificity_at_sensitivity(targets, scores, at_sensitivity),
        "brier": brier(targets, scores),
        "calibration_slope": calibration_slope(targets, scores),
        "calibration_intercept": calibration_intercept(targets, scores),
    }


# The same for many weightings of the same images at once, as redraws of patients are. Sums run in
# another order than scikit-learn's, so the two agree but for rounding. The figures in
# `metrics.json` are the plain ones above; their intervals come from these.

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
        "brier": _weighted_brier(targets, scores, weights),
        "calibration_slope": calibration_slopes(targets, scores, weights),
        "calibration_intercept": calibration_intercepts(targets, scores, weights),
    }


def _weighted_brier(
    targets: FloatArray, scores: FloatArray, weights: FloatArray
) -> NDArray[np.float64]:
    if not are_probabilities(scores):
        return np.full(len(weights), np.nan)
    with np.errstate(invalid="ignore"):
        errors: NDArray[np.float64] = (weights @ (targets - scores) ** 2) / weights.sum(axis=1)
    return errors


def _ranked_metrics(
    targets: FloatArray,
    scores: FloatArray,
    weights: FloatArray,
    *,
    threshold: float,
    at_sensitivity: float,
) -> Draws:
    """The metrics that only the order of the scores and the threshold decide, in one pass."""
    # Images from the highest score down; images of one score are a step of the curve together.
    order = np.argsort(-scores, kind="stable")
    ranked, labels, ranked_weights = scores[order], targets[order], weights[:, order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    positive = np.add.reduceat(ranked_weights * labels, starts, axis=1)
    negative = np.add.reduceat(ranked_weights * (1 - labels), starts, axis=1)
    true_positive, false_positive = positive.cumsum(axis=1), negative.cumsum(axis=1)
    positives, negatives = true_positive[:, -1], false_positive[:, -1]
    below = negatives[:, None] - false_positive + negative / 2  # ties count half
    called = true_positive + false_positive
    precision = np.divide(true_positive, called, out=np.zeros_like(called), where=called > 0)
    # The same from the lowest score up, with benign as the class to be found: the positives and the
    # negatives at this score or below.
    missed = positives[:, None] - true_positive + positive
    cleared = negatives[:, None] - false_positive + negative
    left = cleared + missed
    benign_precision = np.divide(cleared, left, out=np.zeros_like(left), where=left > 0)
    reached = (true_positive >= at_sensitivity * REACHED * positives[:, None]).argmax(axis=1)
    alarms = np.take_along_axis(false_positive, reached[:, None], axis=1)[:, 0]
    n_called = int(np.count_nonzero(ranked[starts] >= threshold))
    detected = true_positive[:, n_called - 1] if n_called else np.zeros_like(positives)
    accused = false_positive[:, n_called - 1] if n_called else np.zeros_like(negatives)
    with np.errstate(invalid="ignore", divide="ignore"):
        auprc = (positive * precision).sum(axis=1) / positives
        auprc_benign = (negative * benign_precision).sum(axis=1) / negatives
        both = (positives > 0) & (negatives > 0)
        return {
            "auroc": (positive * below).sum(axis=1) / (positives * negatives),
            "auprc": np.where(negatives > 0, auprc, np.nan),
            "sensitivity": detected / positives,
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
    # below[k]: the weight of the k lowest negatives; a positive beats those that lie below it.
    below = np.zeros((len(negatives) + 1, weights.shape[1]))
    np.cumsum(weights[negatives], axis=0, out=below[1:])
    first, last = (
        np.searchsorted(scores[negatives], scores[positives], side=side)
        for side in ("left", "right")
    )
    beaten = below[first] if (first == last).all() else (below[first] + below[last]) / 2
    chosen = weights[positives]
    with np.errstate(invalid="ignore", divide="ignore"):
        areas: NDArray[np.float64] = np.einsum("ij,ij->j", chosen, beaten) / (
            chosen.sum(axis=0) * below[-1]
        )
    return areas


# Whether probabilities can be taken at their word: slope and intercept of the logits. Weak
# calibration as Cox (Biometrika 45:562, 1958) tested it and Van Calster et al. (BMC Medicine
# 17:230, 2019) recommend it: the slope is that of a logistic regression of the target on the logit,
# the intercept that of one in which the slope is held at 1. Chosen over the expected calibration
# error, since that rises with every bin that holds few images, of a perfect model too, and with a
# hundred patients its interval would lie above the figure itself.

#: Probabilities are held this far from 0 and 1, where a logit has no value.
LEAST_PROBABILITY = 1e-6
#: The slope of classes that do not overlap, and the largest of those that do.
MOST_SLOPE = 100.0
# Of Newton's method: most steps, the longest step of any coefficient, and where it stops.
_MOST_STEPS = 60
_LONGEST_STEP = 2.0
_PRECISION = 1e-8


def are_probabilities(scores: FloatArray) -> bool:
    """Whether every score lies in [0, 1]."""
    return bool(((scores >= 0) & (scores <= 1)).all())


def _logits(scores: FloatArray) -> Array:
    held = np.clip(scores.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    logits: Array = scipy.special.logit(held)
    return logits


def _undefined(
    targets: NDArray[np.number], scores: FloatArray, weights: FloatArray
) -> NDArray[np.bool_]:
    """Which weightings lack a class; all of them where a score is no probability."""
    if not are_probabilities(scores):
        return np.ones(len(weights), dtype=bool)
    positives, negatives = weights @ (targets == 1), weights @ (targets == 0)
    lacking: NDArray[np.bool_] = (positives == 0) | (negatives == 0)
    return lacking


def calibration_intercepts(
    targets: NDArray[np.number], scores: FloatArray, weights: FloatArray
) -> Array:
    """The intercept of a logistic regression on the logit with slope 1, for many weightings.

    Args:
        targets: (N,) of 1 and 0.
        scores: (N,) probabilities.
        weights: (R, N), at least 0.

    Returns:
        (R,); nan where a class has no weight or a score is no probability.
    """
    undefined = _undefined(targets, scores, weights)
    intercepts = np.full(len(weights), np.nan)
    if not undefined.all():
        ones = np.ones((scores.size, 1))
        fits = _fits(ones, _logits(scores), targets, weights[~undefined])
        intercepts[~undefined] = fits[:, 0]
    return intercepts


def calibration_slopes(
    targets: NDArray[np.number], scores: FloatArray, weights: FloatArray
) -> Array:
    """The slope of a logistic regression of the target on the logit, for many weightings.

    Args:
        targets: (N,) of 1 and 0.
        scores: (N,) probabilities.
        weights: (R, N), at least 0.

    Returns:
        (R,), at most `MOST_SLOPE` from 0, which stands where the classes don't overlap; nan where a
        class has no weight, a score is no probability, or all scores are equal.
    """
    undefined = _undefined(targets, scores, weights)
    slopes = np.full(len(weights), np.nan)
    if undefined.all():
        return slopes
    logits = _logits(scores)
    sides = _apart(targets, logits, weights)
    slopes[sides != 0] = MOST_SLOPE * sides[sides != 0]
    fitted = ~undefined & (sides == 0)
    spread = logits.std()
    if spread > _PRECISION and fitted.any():
        # on logits of mean 0 and spread 1 Newton's steps are of one size
        design = np.stack([np.ones_like(logits), (logits - logits.mean()) / spread], axis=1)
        fits = _fits(design, np.zeros_like(logits), targets, weights[fitted])[:, 1] / spread
        slopes[fitted] = np.clip(fits, -MOST_SLOPE, MOST_SLOPE)
    slopes[undefined] = np.nan
    return slopes


def _apart(targets: NDArray[np.number], values: Array, weights: FloatArray) -> NDArray[np.intp]:
    """(R,): 1 where no drawn positive lies below a negative, -1 where none lies above, else 0.

    Where the classes don't overlap a steeper slope is always better, so that none is the best. 0
    too where all values are equal.
    """
    positive, negative = (weights > 0) & (targets == 1), (weights > 0) & (targets == 0)
    low = [np.where(drawn, values, np.inf).min(axis=1) for drawn in (negative, positive)]
    high = [np.where(drawn, values, -np.inf).max(axis=1) for drawn in (negative, positive)]
    sides: NDArray[np.intp] = (low[1] >= high[0]).astype(np.intp) - (high[1] <= low[0])
    return sides


def _fits(design: Array, offset: Array, targets: NDArray[np.number], weights: FloatArray) -> Array:
    """Coefficients of logistic regressions on the same images, (R, D), by Newton's method.

    All begin at the fit to equal weights, from which redraws of patients are a few steps away.

    Args:
        design: (N, D), the columns that have a coefficient.
        offset: (N,), added to the logit as it is.
        targets: (N,) of 1 and 0.
        weights: (R, N), at least 0.
    """
    start = np.zeros((1, design.shape[1]))
    first = _newton(design, offset, targets, np.ones((1, len(design))), start)
    return _newton(design, offset, targets, weights, np.repeat(first, len(weights), axis=0))


def _newton(
    design: Array, offset: Array, targets: NDArray[np.number], weights: FloatArray, points: Array
) -> Array:
    """Newton's method from `points`, (R, D), until none moves further than `_PRECISION`.

    All R regressions are solved at once; `active` are those that still move.
    """
    points, active = points.copy(), np.arange(len(points))
    size = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), size * size)
    for _ in range(_MOST_STEPS):
        chances = scipy.special.expit(points[active] @ design.T + offset)
        weighed = weights if active.size == len(weights) else weights[active]
        # of the log-likelihood: its slope, and how sharply it bends (Fisher's information)
        gradient = (weighed * (targets - chances)) @ design
        information = ((weighed * (chances * (1 - chances))) @ products).reshape(-1, size, size)
        information += 1e-12 * np.eye(size)  # solvable where all probabilities are 0 or 1
        step = np.linalg.solve(information, gradient[:, :, None])[:, :, 0]
        # far from the optimum a whole step may overshoot, so that it is held short
        length = np.abs(step).max(axis=1, keepdims=True)
        step *= np.minimum(1, _LONGEST_STEP / np.maximum(length, _PRECISION))
        points[active] += step
        active = active[length[:, 0] > _PRECISION]
        if not active.size:
            break
    return points
