"""One Gaussian release: what it costs a unit, and the mu that a promise allows.

>>> round(gaussian_mu(6.0, 1e-4), 3)
1.46
>>> round(gaussian_epsilon(1.46, 1e-4), 2)
6.0
"""

import math
import sys
from functools import lru_cache

import numpy as np
import scipy  # its parts are imported at their first use
from numpy.typing import NDArray

from synthdp.errors import InputError

Array = NDArray[np.float64]

#: Above this, a Gaussian release tells members from strangers with certainty to double precision.
MAX_MU = 60.0
#: Relative rounding of `gaussian_deltas` (measured against mpmath: under 5e-13), added on top.
ROUNDING = 1e-12
#: Share taken of the mu that dp_accounting solves for, whose error is 2e-11 from epsilon 1e-3 on.
_SAFE_SIDE = 1 - 1e-9
_ROOT = 1e-14
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The smallest delta for which a mu-Gaussian release is (epsilon, delta)-private.

    Formula: Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy"
    (arXiv 1805.06530), theorem 8, with mu = sensitivity / sigma:
    delta = Phi(mu/2 - epsilon/mu) - exp(epsilon) Phi(-mu/2 - epsilon/mu).

    Guarantee: exact for one Gaussian release, and for an adaptive composition with
    mu = sqrt(sum of mu_i^2) (Dong, Roth and Su, arXiv 1905.02383, corollary 3.3); rounded up by
    at most 2e-12 of it (see `gaussian_deltas`).
    """
    if mu <= 0:
        return max(-math.expm1(epsilon), 0.0)
    if math.isinf(mu):
        return 1.0
    return float(gaussian_deltas(mu, np.array([epsilon]))[0])


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon of a mu-Gaussian release at `delta`; infinite beyond `MAX_MU`.

    Ours, since dp_accounting's `get_epsilon_gaussian` is no bound: it was measured below the exact
    epsilon by up to 2e-10 of it at mu 0.001 and 2e-6 at mu 1e-8
    (`python scripts/bench_calibration.py --exact`).

    Guarantee: never below the exact value; above it by less than 1e-9 of it.

    Raises:
        InputError: when delta is not between 0 and 1.
    """
    refuse_delta(delta)
    if mu <= 0:
        return 0.0
    if mu > MAX_MU:
        return math.inf
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    high = mu * (mu / 2 + float(-scipy.special.ndtri(delta / 2)) + 1)
    root = scipy.optimize.brentq(
        lambda e: gaussian_delta(mu, e) - delta, 0.0, high, xtol=1e-300, rtol=_ROOT
    )
    return float(root) * (1 + 2 * _ROOT)


@lru_cache(maxsize=1024)  # the runs of a study share few targets
def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu whose Gaussian release is (epsilon, delta)-private, by dp_accounting.

    Guarantee: `gaussian_epsilon` of the result never exceeds `epsilon`.

    Raises:
        InputError: when epsilon is not positive, beyond what any noise needs or below what any
            noise gives; when delta is not between 0 and 1.
    """
    refuse_delta(delta)
    if not epsilon > 0:
        raise InputError(f"privacy.epsilon is {epsilon:g}: it must be positive, or `none`")
    if gaussian_epsilon(MAX_MU, delta) <= epsilon:
        raise InputError(
            f"privacy.epsilon is {epsilon:g}: more than any noise needs; write `none` to train "
            "without privacy"
        )
    from dp_accounting import get_sigma_gaussian  # noqa: PLC0415 (takes a second to import)

    mu = _SAFE_SIDE / float(get_sigma_gaussian(epsilon, delta))
    # Its logarithms lose digits where epsilon is tiny or delta is next to 0 or 1: there its answer
    # was over the target by more than the safe side (twofold at epsilon 1e-12, by 3e-8 of it at
    # epsilon 1e-6 and delta 1e-100). Ours decides, as everywhere, with room for the rounding of
    # mu's way to noise and back.
    step = 1 - _SAFE_SIDE
    while gaussian_epsilon(mu, delta) > epsilon * (1 - ROUNDING):
        mu, step = mu * (1 - step), min(2 * step, 0.5)
    if mu**2 < sys.float_info.min:  # losses add up in squares
        raise InputError(
            f"privacy.epsilon is {epsilon:g}: no noise is enough at delta {delta:g}; raise it"
        )
    return mu


def refuse_delta(delta: float) -> None:
    """Refuse a delta that is no probability strictly between 0 and 1.

    Raises:
        InputError: when it is.
    """
    if not 0 < delta < 1:
        raise InputError(f"delta is {delta:g}: it must lie between 0 and 1")


def gaussian_deltas(mu: float, epsilons: Array) -> Array:
    """The delta of a mu-Gaussian release at each epsilon, without cancellation.

    Formula: Balle and Wang (arXiv 1805.06530), theorem 8. With t = epsilon / mu - mu / 2, density
    phi and Mills ratio M(t) = Phi(-t) / phi(t), its two terms are phi(t) (M(t) - M(t + mu)); for
    small mu this is phi(t) times the integral of 1 - s M(s) over s in (t, t + mu). Below zero by
    duality: delta(-e) = 1 - exp(-e) (1 - delta(e)).

    Guarantee: never below the exact value, and above it by at most 2e-12 of it (tested down to
    delta 1e-100); values that double precision can't hold are 0.
    """

    def mills(t: Array) -> Array:
        return np.asarray(math.sqrt(math.pi / 2) * scipy.special.erfcx(t / math.sqrt(2)))

    t = np.abs(epsilons) / mu - mu / 2
    density = np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    if mu < 1:
        inner = t[:, None] + mu * (_NODES + 1) / 2
        deltas = density * mu / 2 * ((1 - inner * mills(inner)) @ _WEIGHTS)
    else:
        over = density * (mills(np.maximum(t, 0)) - mills(t + mu))
        deltas = np.where(t < 0, scipy.special.ndtr(-t) - density * mills(t + mu), over)
    below = np.minimum(epsilons, 0)
    deltas = np.where(epsilons < 0, np.exp(below) * deltas - np.expm1(below), deltas)
    return np.clip(deltas * (1 + ROUNDING), 0.0, 1.0)


def mu_between(false_alarms: float, found: float) -> float:
    """The mu of a Gaussian release that finds this share of members at these false alarms."""
    if found <= false_alarms:
        return 0.0
    return (
        float(scipy.special.ndtri(found) - scipy.special.ndtri(false_alarms))
        if found < 1
        else math.inf
    )
