"""Weights on public candidates under which their mean vector is the one that was released.

Among all weights with a given mean vector those of maximum entropy are w_i ~ exp(theta' v_i)
(Jaynes, Phys. Rev. 106:620, 1957): they leave of the pool's variety what the release does not speak
against. None may be larger than one image of what is kept, so that each is kept once at most. Theta
is the minimum of a convex function of D numbers. The release is noisy, and how noisy is public: so
the mean that is asked for is the Wiener estimate of the true one, in the directions in which the
pool varies, and what is left of its noise is a ridge on theta. Where candidates are of groups, such
as views, each group's weights have a public sum. Post-processing: no patient is read.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from synthdp.errors import RunError

Array = NDArray[np.float64]

#: Least share of half the difference of the pool's classes that the patients' have.
_LEAST_KNOWN = 0.125
_MAX_STEPS = 300
_CAP_ROUNDS = 100
#: What weighs nothing weighs so much, for when all that weighs something is taken.
_NOTHING = 1e-12
#: A ridge is at least this, so that a release without noise has a finite theta.
_LEAST_RIDGE = 1e-5


@dataclass(frozen=True)
class PoolMoments:
    """What of a pool's vectors (N, D) the targets need: mean (D,), principal variances, directions.

    variances: (D,) not negative; directions: (D, D), a column each.
    """

    mean: Array
    variances: Array
    directions: Array

    @classmethod
    def of(cls, vectors: Array) -> "PoolMoments":
        """The moments of a pool."""
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        variances, directions = np.linalg.eigh(centred.T @ centred / len(vectors))
        return cls(mean, variances.clip(min=0), directions)


@dataclass(frozen=True)
class Targets:
    """The mean vectors (2, D) that classes 0 and 1 are to have, and the ridge on theta.

    z: by how many standard deviations the squared distance of the released mean of both classes
    from the pool's, and of their difference from the pool's, lie above what noise alone would give;
    shift: the first distance without its noise, in units of the pool's own variance.
    """

    means: Array
    ridge: float
    z: tuple[float, float]
    shift: float


def wiener_targets(
    released: Array, deviations: Array, pool: PoolMoments, apart: Array, *, separation: float
) -> Targets:
    """What the classes of a pool are tilted to, from their released means.

    The mean of both classes and half of their difference are estimated apart. Each is taken as
    drawn from a normal distribution whose covariance is kappa times the pool's, with white noise of
    known variance; kappa is estimated from the squared norm, whose expectation is kappa tr C + D
    variance. The mean lies about the pool's, and the difference about that of the pool's classes,
    times what the release shows of it: so a small budget leaves what phantoms know of the classes.

    Args:
        released: (2, D), class means as released.
        deviations: (2,), standard deviation of the noise in a coordinate of each.
        pool: of the candidates of both classes.
        apart: (D,), mean of class 1 less that of class 0 in the pool.
        separation: multiplies the difference; 1 sets classes as far apart as they are likely to be.
    """
    variance = float((deviations**2).sum()) / 4
    middle = released.mean(axis=0) - pool.mean
    half = (released[1] - released[0]) / 2
    known = max(float(half @ apart / (apart @ apart).clip(min=1e-12)), _LEAST_KNOWN) * apart
    (towards, shift, z_middle), (rest, _, z_half) = (
        _wiener(vector, variance, pool) for vector in (middle, half - known)
    )
    half = separation * (known + rest)
    means = pool.mean + np.stack([towards - half, towards + half])
    ridge = max(variance / shift, _LEAST_RIDGE) if shift > 0 else np.inf
    return Targets(means, ridge, (z_middle, z_half), shift)


def value_targets(
    released: Array, deviations: Array, pool: PoolMoments, own: Array, *, separation: float
) -> Array:
    """How the mean vector of each value of a condition is likely to differ from all, (V, D).

    Estimated as the difference of the classes is: about how it differs in the pool, times what the
    release shows of that over all values, and the rest as drawn from a normal distribution whose
    covariance is kappa times the pool's. A kappa is of one value, since some look like any other.

    Args:
        released: (V, D), the mean of each value less that of all, as released.
        deviations: (V,), standard deviation of the noise in a coordinate of each.
        pool: of the candidates.
        own: (V, D), the same differences in the pool.
        separation: multiplies the estimates.
    """
    precision = np.where(deviations > 0, deviations, 1)[:, None] ** -2  # noise is in all or none
    shown = float((precision * released * own).sum() / (precision * own**2).sum().clip(min=1e-12))
    known = max(shown, _LEAST_KNOWN) * own
    rests = [
        _wiener(rest, deviation**2, pool)[0]
        for rest, deviation in zip(released - known, deviations, strict=True)
    ]
    return separation * (known + np.stack(rests))


def _wiener(vector: Array, variance: float, pool: PoolMoments) -> tuple[Array, float, float]:
    """The estimate of a vector (D,), its kappa, and how far its norm lies above the noise's."""
    size, total = len(vector), float(pool.variances.sum())
    excess = float(vector @ vector) - size * variance
    kappa = max(excess / max(total, 1e-12), 0.0)
    z = excess / (variance * np.sqrt(2 * size)) if variance > 0 else np.inf
    signal = kappa * pool.variances
    gain = np.divide(signal, signal + variance, out=np.zeros(size), where=signal > 0)
    return pool.directions @ (gain * (pool.directions.T @ vector)), kappa, float(z)


@dataclass(frozen=True)
class Groups:
    """Which of several groups each candidate is of, (N,) from 0, and the share of each, (G,).

    A group's weights sum to its share, whatever the patients are.
    """

    of_each: NDArray[np.int64]
    shares: Array

    @classmethod
    def one(cls, count: int) -> "Groups":
        """All candidates in a single group."""
        return cls(np.zeros(count, np.int64), np.ones(1))


def tilted_weights(
    vectors: Array, target: Array, ridge: float, *, most: float, groups: Groups | None = None
) -> Array:
    """Weights (N,) of sum 1, none above `most`, under which the mean of vectors (N, D) is a target.

    They minimise KL(w | equal) + |mean - target|^2 / (2 ridge) under both bounds, and each group's
    sum is its share. The dual, which is minimised by L-BFGS, is a sum over candidates of a smooth
    convex function of a = theta' (v - target) + lambda of its group: its slope is the weight,
    exp(a - 1) / N up to `most`. Its gradient is what the mean and the groups' sums are off.

    Args:
        vectors: of the candidates of a class.
        target: (D,).
        ridge: positive; the larger, the nearer weights stay to equal ones within each group.
        most: the largest weight, at least its share / its candidates in each group.
        groups: all candidates are one when not given.

    Raises:
        RunError: when no finite theta is found.
    """
    size, count = vectors.shape[1], len(vectors)
    groups = groups or Groups.one(count)
    shares, n_groups = groups.shares, len(groups.shares)
    sizes = np.bincount(groups.of_each, minlength=n_groups)
    equal: Array = (shares / sizes)[groups.of_each]
    if not np.isfinite(ridge):
        return equal
    order = np.argsort(groups.of_each, kind="stable")  # a group after the other
    centred, own = vectors[order] - target, groups.of_each[order]
    bounds, log_most = np.cumsum(sizes)[:-1], float(np.log(most * count))

    def of_groups(values: Array) -> Array:
        return np.array([part.sum() for part in np.split(values, bounds)])

    def above_most(point: Array) -> Array:
        """Positive where the bound holds a weight."""
        above: Array = centred @ point[:size] + point[size:][own] - 1 - log_most
        return above

    def dual(point: Array) -> tuple[float, Array]:
        theta, above = point[:size], above_most(point)
        weights = most * np.exp(above.clip(max=0))
        value = (weights + most * above.clip(min=0)).sum() - shares @ point[size:]
        off = np.append(weights @ centred + ridge * theta, of_groups(weights) - shares)
        return float(value + ridge / 2 * theta @ theta), off

    start = np.append(np.zeros(size), 1 + np.log(shares * count / sizes))  # equal weights
    solved = minimize(dual, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_STEPS})
    weights = np.exp(above_most(solved.x).clip(max=0))
    sums = of_groups(weights)
    if not np.isfinite(weights).all() or not sums.all():
        raise RunError("selection: the weights are not finite; the pool's vectors are damaged")
    normalised = np.empty(count)
    normalised[order] = weights * (shares / sums)[own]
    return normalised


def effective_size(weights: Array) -> float:
    """How many equally weighted candidates vary as much: 1 / sum w^2 (Kish 1965)."""
    return float(1 / (weights**2).sum())


def drawing_chances(weights: Array, count: int) -> Array:
    """The chance (N,) of each candidate to be among `count`, none above 1; they sum to `count`.

    A candidate whose weight asks for more than one copy is taken once, and the rest of its weight
    goes to the others by theirs; those that weigh nothing are as likely as each other.
    """
    weights = weights + _NOTHING / len(weights)
    chances = count * weights / weights.sum()
    for _ in range(_CAP_ROUNDS):
        full = chances >= 1
        rest = chances[~full].sum()
        if not full.any() or rest <= 0:
            break
        chances = np.where(full, 1, chances * ((count - full.sum()) / rest))
        if chances.max() <= 1:
            break
    capped: Array = chances.clip(max=1)
    return capped


def drawn_candidates(weights: Array, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` different candidates, each by its weight: systematic sampling in a random order.

    Args:
        weights: (N,) of sum 1, N at least `count`.
        count: how many.
        rng: where chance comes from.
    """
    order = rng.permutation(len(weights))
    bounds = np.cumsum(drawing_chances(weights, count)[order])
    points = (np.arange(count) + rng.random()) * (bounds[-1] / count)
    indices = np.searchsorted(bounds, points, side="right").clip(max=len(weights) - 1)
    drawn: NDArray[np.int64] = np.sort(order[np.unique(indices)])
    return drawn
