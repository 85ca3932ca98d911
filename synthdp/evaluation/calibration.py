"""Whether probabilities can be taken at their word: slope and intercept of the logits.

Weak calibration as Cox (Biometrika 45:562, 1958) tested it and Van Calster et al. (BMC Medicine
17:230, 2019) recommend it: the slope is that of a logistic regression of the target on the logit,
the intercept that of one in which the slope is held at 1. Chosen over the expected calibration
error, since that rises with every bin that holds few images, of a perfect model too, and with a
hundred patients its interval would lie above the figure itself.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Array = NDArray[np.float64]
Floats = NDArray[np.floating]

#: Probabilities are held this far from 0 and 1, where a logit has no value.
LEAST_PROBABILITY = 1e-6
#: The slope of classes that do not overlap, and the largest of those that do.
MOST_SLOPE = 100.0
_STEPS = 60
_LONGEST_STEP = 2.0
_PRECISION = 1e-8


def are_probabilities(scores: Floats) -> bool:
    """Whether every score lies in [0, 1]."""
    return bool(((scores >= 0) & (scores <= 1)).all())


def _logits(scores: Floats) -> Array:
    held = np.clip(scores.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    found: Array = logit(held)
    return found


def _undefined(targets: NDArray[np.number], scores: Floats, weights: Floats) -> NDArray[np.bool_]:
    """Which weightings lack a class; all of them where a score is no probability."""
    if not are_probabilities(scores):
        return np.ones(len(weights), dtype=bool)
    positives, negatives = weights @ (targets == 1), weights @ (targets == 0)
    found: NDArray[np.bool_] = (positives == 0) | (negatives == 0)
    return found


def calibration_intercepts(targets: NDArray[np.number], scores: Floats, weights: Floats) -> Array:
    """The intercept of a logistic regression on the logit with slope 1, for many weightings.

    Args:
        targets: (N,) of 1 and 0.
        scores: (N,) probabilities.
        weights: (R, N), at least 0.

    Returns:
        (R,); nan where a class has no weight or a score is no probability.
    """
    lost = _undefined(targets, scores, weights)
    found = np.full(len(weights), np.nan)
    if not lost.all():
        ones = np.ones((scores.size, 1))
        found[~lost] = _fits(ones, _logits(scores), targets, weights[~lost])[:, 0]
    return found


def calibration_slopes(targets: NDArray[np.number], scores: Floats, weights: Floats) -> Array:
    """The slope of a logistic regression of the target on the logit, for many weightings.

    Args:
        targets: (N,) of 1 and 0.
        scores: (N,) probabilities.
        weights: (R, N), at least 0.

    Returns:
        (R,), at most `MOST_SLOPE` from 0, which stands where the classes don't overlap; nan where a
        class has no weight, a score is no probability, or all scores are equal.
    """
    lost = _undefined(targets, scores, weights)
    found = np.full(len(weights), np.nan)
    if lost.all():
        return found
    values = _logits(scores)
    sides = _apart(targets, values, weights)
    found[sides != 0] = MOST_SLOPE * sides[sides != 0]
    fitted = ~lost & (sides == 0)
    spread = values.std()
    if spread > _PRECISION and fitted.any():
        design = np.stack([np.ones_like(values), (values - values.mean()) / spread], axis=1)
        slopes = _fits(design, np.zeros_like(values), targets, weights[fitted])[:, 1] / spread
        found[fitted] = np.clip(slopes, -MOST_SLOPE, MOST_SLOPE)
    found[lost] = np.nan
    return found


def _apart(targets: NDArray[np.number], values: Array, weights: Floats) -> NDArray[np.intp]:
    """(R,): 1 where no drawn positive lies below a negative, -1 where none lies above, else 0.

    Where they don't overlap no slope is the best. All equal is 0 too.
    """
    positive, negative = (weights > 0) & (targets == 1), (weights > 0) & (targets == 0)
    low = [np.where(drawn, values, np.inf).min(axis=1) for drawn in (negative, positive)]
    high = [np.where(drawn, values, -np.inf).max(axis=1) for drawn in (negative, positive)]
    found: NDArray[np.intp] = (low[1] >= high[0]).astype(np.intp) - (high[1] <= low[0])
    return found


def _fits(design: Array, offset: Array, targets: NDArray[np.number], weights: Floats) -> Array:
    """Logistic regressions on the same images by Newton's steps, (R, D), each step held short.

    All begin at the fit to equal weights, from which redraws of patients are a few steps away.
    """
    start = np.zeros((1, design.shape[1]))
    first = _newton(design, offset, targets, np.ones((1, len(design))), start)
    return _newton(design, offset, targets, weights, np.repeat(first, len(weights), axis=0))


def _newton(
    design: Array, offset: Array, targets: NDArray[np.number], weights: Floats, points: Array
) -> Array:
    found, active = points.copy(), np.arange(len(points))
    size = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), size * size)
    for _ in range(_STEPS):
        chances = expit(found[active] @ design.T + offset)
        weighed = weights if active.size == len(weights) else weights[active]
        slope = (weighed * (targets - chances)) @ design
        curve = ((weighed * (chances * (1 - chances))) @ products).reshape(-1, size, size)
        curve += 1e-12 * np.eye(size)
        step = np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
        length = np.abs(step).max(axis=1, keepdims=True)
        step *= np.minimum(1, _LONGEST_STEP / np.maximum(length, _PRECISION))
        found[active] += step
        active = active[length[:, 0] > _PRECISION]
        if not active.size:
            break
    return found
