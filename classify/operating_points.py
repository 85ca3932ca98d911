"""A classifier's operating points: fitted exactly, or to noisy counts by class and score.

In both, each patient has weight one, spread evenly over the images with a known label: an operating
point is for patients, and no patient decides it by having many images.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from classify.classifier import Classifier, OperatingPoint, probabilities
from synthdp.evaluation.metrics import FloatArray
from synthdp.evaluation.noisy_counts import likely_counts
from synthdp.evaluation.operating_point import (
    platt_of_counts,
    platt_scaling,
    threshold_of_counts,
    threshold_of_scores,
)


def exact_points(
    classifier: Classifier,
    logits: Tensor,
    targets: FloatArray,
    units: Sequence[str],
    *,
    sensitivity: float,
    fitted_on: str,
) -> tuple[OperatingPoint, ...]:
    """Operating points fitted to the scores themselves.

    Args:
        classifier: without points.
        logits: (N, T) float32.
        targets: (N, T) of 1, 0 or nan (left out), both classes of each.
        units: (N,), the patient of each image.
        sensitivity: of the thresholds, in (0, 1), or a little more, where no threshold meets it.
        fitted_on: the name of the set.
    """
    _, owners = np.unique(np.asarray(units), return_inverse=True)
    points: list[OperatingPoint] = []
    for index in range(len(classifier.targets)):
        column = targets[:, index]
        known = ~np.isnan(column)
        weights = 1 / np.bincount(owners[known], minlength=len(owners))[owners[known]]
        positives = weights * (column[known] == 1)
        values = logits[torch.from_numpy(known), index]
        slope, offset = platt_scaling(values.double().numpy(), weights - positives, positives)
        point = OperatingPoint(
            slope=slope,
            offset=offset,
            threshold=0.5,
            sensitivity=sensitivity,
            fitted_on=fitted_on,
        )
        found = probabilities(replace(classifier, points=(point,)), values[:, None])[:, 0]
        threshold = threshold_of_scores(found.astype(np.float64), positives, sensitivity)
        points.append(point.model_copy(update={"threshold": threshold}))
    return tuple(points)


def noisy_points(
    coefficients: NDArray[np.float64], *, sensitivity: float, fitted_on: str
) -> tuple[OperatingPoint, ...]:
    """Operating points fitted to counts that were released with noise; finite whatever they are.

    Where so little of a class is left that nothing can be fitted, a point is the plain one: slope
    1, offset 0, threshold 0.5.

    Args:
        coefficients: (T, 2, BINS) of `released_coefficients`.
        sensitivity: of the thresholds, in (0, 1).
        fitted_on: the name of the set.
    """
    points = []
    for counts in likely_counts(coefficients):
        slope, offset = platt_of_counts(counts)
        value = slope * threshold_of_counts(counts[1], sensitivity) + offset
        assert math.isfinite(value)  # all three are bounded
        points.append(
            OperatingPoint(
                slope=slope,
                offset=offset,
                threshold=float(expit(value)),
                sensitivity=sensitivity,
                fitted_on=fitted_on,
            )
        )
    return tuple(points)
