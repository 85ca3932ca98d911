"""Grey-level co-occurrence: which levels lie beside which, along four directions.

Definitions: IBSI (arXiv 1612.07003, section 3.6), flat, distance 1, symmetric; each feature is
taken along each direction and averaged. Counts of unordered pairs stand for the matrix, whose other
half is the same.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.quality.radiomics.levels import Counts, count_pairs

Array = NDArray[Any]

DIRECTIONS = 4


def neighbours(levels: Array) -> list[tuple[Array, Array]]:
    """Pixels (F, ...) and the next one along rows, columns and both diagonals."""
    return [
        (levels[:, :, :-1], levels[:, :, 1:]),
        (levels[:, :-1, :], levels[:, 1:, :]),
        (levels[:, :-1, :-1], levels[:, 1:, 1:]),
        (levels[:, :-1, 1:], levels[:, 1:, :-1]),
    ]


def cooccurrence(levels: Array) -> dict[str, Array]:
    """22 features, each (F,), of `grey_levels` (F, H, W) with sides of 2 or more."""
    n_pictures = len(levels)
    pairs = _pairs(levels)
    highest = levels.max(axis=(1, 2)).astype(np.float64)
    features = _of_pairs(pairs, np.repeat(highest, DIRECTIONS))
    return {
        name: values.reshape(n_pictures, DIRECTIONS).mean(axis=1)
        for name, values in features.items()
    }


def _pairs(levels: Array) -> Counts:
    """Counts of (lower, higher) level of neighbours, by picture and direction."""
    group, low, high = [], [], []
    for direction, (first, second) in enumerate(neighbours(levels)):
        shape = first.shape
        group.append(
            np.repeat(np.arange(len(levels)) * DIRECTIONS + direction, shape[1] * shape[2])
        )
        low.append(np.minimum(first, second).ravel())
        high.append(np.maximum(first, second).ravel())
    first, second, third = (np.concatenate(parts) for parts in (group, low, high))
    return count_pairs(first, second, third, len(levels) * DIRECTIONS)


def _of_pairs(pairs: Counts, highest: Array) -> dict[str, Array]:
    """The features of each group of pairs; highest: (G,) the highest level."""
    i, j = pairs.i.astype(np.float64), pairs.j.astype(np.float64)
    group, apart, both = pairs.group, np.abs(i - j), i + j
    centre = pairs.mean(both) / 2
    middle = both - 2 * centre[group]
    variance = pairs.mean((i - centre[group]) ** 2 + (j - centre[group]) ** 2) / 2
    covariance = pairs.mean((i - centre[group]) * (j - centre[group]))
    tiny = np.finfo(np.float64).eps
    # of the symmetric matrix: a pair of unequal levels stands in two of its cells, each with half
    halves = np.where(pairs.i == pairs.j, 1, 2)
    share = pairs.count / pairs.total[group]
    joint_entropy = pairs.entropy() + pairs.mean((halves == 2).astype(np.float64))
    both_sides = [np.concatenate([pairs.i, pairs.j]), np.concatenate([group, group])]
    weight = np.concatenate([pairs.count, pairs.count])
    marginal = count_pairs(
        both_sides[1], both_sides[0], np.ones_like(both_sides[0]), pairs.groups, weight
    ).entropy()
    difference = pairs.mean(apart)
    of_sums, of_differences = pairs.along(pairs.i + pairs.j), pairs.along(pairs.j - pairs.i)
    nonzero = np.where(apart > 0, apart, np.inf)
    return {
        "Autocorrelation": pairs.mean(i * j),
        "ClusterProminence": pairs.mean(middle**4),
        "ClusterShade": pairs.mean(middle**3),
        "ClusterTendency": pairs.mean(middle**2),
        "Contrast": pairs.mean(apart**2),
        "Correlation": np.where(variance == 0, 1, covariance / (variance + tiny)),
        "DifferenceAverage": difference,
        "DifferenceEntropy": of_differences.entropy(),
        "DifferenceVariance": pairs.mean((apart - difference[group]) ** 2),
        "Id": pairs.mean(1 / (1 + apart)),
        "Idm": pairs.mean(1 / (1 + apart**2)),
        "Idmn": pairs.mean(1 / (1 + (apart / highest[group]) ** 2)),
        "Idn": pairs.mean(1 / (1 + apart / highest[group])),
        **_information(joint_entropy, marginal),
        "InverseVariance": pairs.mean(1 / nonzero**2),
        "JointAverage": centre,
        "JointEnergy": pairs.mean(share / halves),
        "JointEntropy": joint_entropy,
        "MaximumProbability": _highest(share / halves, group, pairs.groups),
        "SumEntropy": of_sums.entropy(),
        "SumSquares": variance,
    }


def _information(joint: Array, marginal: Array) -> dict[str, Array]:
    """Both information correlations, of entropies (G,) in bits.

    Of a symmetric matrix both cross entropies of its margins are twice the margin's own entropy.
    """
    known = np.where(marginal > 0, marginal, 1)
    gained = np.maximum(2 * marginal - joint, 0)
    return {
        "Imc1": np.where(marginal > 0, (joint - 2 * marginal) / known, 0),
        "Imc2": np.sqrt(1 - np.exp(-2 * gained)),
    }


def _highest(values: Array, group: Array, groups: int) -> Array:
    highest = np.zeros(groups)
    np.maximum.at(highest, group, values)
    return highest
