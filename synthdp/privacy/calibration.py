"""The least noise with which a composition stays within (epsilon, delta).

Only the last epsilon counts for the promise, and it is an upper bound; the search before it costs
nothing but time, and every loop in it is bounded.
"""

import math
from collections.abc import Callable

from synthdp.errors import InputError
from synthdp.privacy.accounting import PrivacyLoss, parts_of, settled_epsilon
from synthdp.privacy.loss_distribution import TIGHT, composed, epsilon_at

_LEAST_NOISE, _MOST_NOISE = 1e-2, 1e7
#: Calibration aims at this share of the target, and ends within `_CLOSE` of that share.
_AIM, _CLOSE = 0.9995, 4e-4
_ROUGH = 5e-2
_MOST_TRIES, _MOST_POLISH = 60, 8


def noise_for(
    target: float, delta: float, loss_at: Callable[[float], PrivacyLoss], *, guess: float
) -> float:
    """The smallest noise multiplier with which a composition stays within a target.

    Args:
        target: epsilon at `delta`.
        delta: as in `PrivacyLoss.epsilon`.
        loss_at: the whole composition at a noise multiplier; its epsilon falls with the noise.
        guess: a noise multiplier to start from.

    Guarantee: the epsilon of the result never exceeds `target`; it is within 0.1 % of it.

    Raises:
        InputError: when no noise reaches the target.
    """

    def excess(log_noise: float, tolerance: float) -> float:
        loss = loss_at(math.exp(log_noise))
        exact = not loss.sampled or loss.unbounded
        epsilon = loss.epsilon(delta) if exact else settled_epsilon(loss, delta, tolerance)[1]
        return math.log(min(max(epsilon / (_AIM * target), 1e-3), 1e3))

    def rough(log_noise: float) -> float:
        return excess(log_noise, _ROUGH)

    low, high = _bracket(rough, math.log(max(guess, 0.1)), 0.4, target, delta)
    start = _falling_root(rough, low, high, 50 * _CLOSE)
    slope = _slope(loss_at, start, delta)
    return math.exp(_polished(lambda x: excess(x, TIGHT), start, slope))


def _slope(loss_at: Callable[[float], PrivacyLoss], log_noise: float, delta: float) -> float:
    """d log(epsilon) / d log(noise), on one rough grid: a guess, -1 where there is none."""
    loss = loss_at(math.exp(log_noise))
    if not loss.sampled or loss.unbounded:
        return -1.0
    interval = settled_epsilon(loss, delta, _ROUGH)[0]
    logs = []
    for side in (-0.02, 0.02):
        parts = parts_of(loss_at(math.exp(log_noise + side)))
        logs.append(math.log(max(epsilon_at(composed(parts, interval), parts, delta), 1e-300)))
    return min((logs[1] - logs[0]) / 0.04, -0.05)


def _bracket(
    excess: Callable[[float], float], start: float, step: float, target: float, delta: float
) -> tuple[float, float]:
    """Two points beside `start`, of excess >= 0 and <= 0, by steps that double."""
    low = high = start
    at_start = excess(start)
    while at_start > 0 and excess(high) > 0:
        low, high, step = high, min(high + step, math.log(_MOST_NOISE)), 2 * step
        if low >= high:
            raise InputError(
                f"epsilon {target:g} at delta {delta:g} can't be reached by any noise; raise it, "
                "or start from something that spent less"
            )
    while at_start < 0 and excess(low) < 0:
        low, high, step = max(low - step, math.log(_LEAST_NOISE)), low, 2 * step
        if low >= high:
            raise InputError(
                f"epsilon {target:g} is more than any noise needs; write `none` to train without "
                "privacy"
            )
    return low, high


def _falling_root(excess: Callable[[float], float], low: float, high: float, close: float) -> float:
    """A point of |excess| <= `close`, or one of negative excess where there is none.

    Regula falsi (Illinois), with a bisection wherever it is slow; at most `_MOST_TRIES` calls.
    """
    at_low, at_high = excess(low), excess(high)
    pull = 1.0  # of the end that stayed, against the one that moved last
    for number in range(_MOST_TRIES):
        if abs(at_low) <= close:
            return low
        if abs(at_high) <= close or high - low < 1e-14:
            break
        share = 0.5 if number % 4 == 3 else at_low / (at_low - at_high * pull)
        middle = low + min(max(share, 0.01), 0.99) * (high - low)
        at_middle = excess(middle)
        if at_middle > 0:
            pull = min(pull, 1.0) / 2
            low, at_low = middle, at_middle
        else:
            pull = max(pull, 1.0) * 2
            high, at_high = middle, at_middle
    return high


def _polished(excess: Callable[[float], float], start: float, slope: float) -> float:
    """A point of |excess| <= `_CLOSE` by secants from `start`; else one of negative excess."""
    here, at_here = start, excess(start)
    for _ in range(_MOST_POLISH):
        if abs(at_here) <= _CLOSE:
            return here
        there = here - min(max(at_here / slope, -0.5), 0.5)
        at_there = excess(there)
        steeper = (at_there - at_here) / (there - here)
        slope = steeper if math.isfinite(steeper) and steeper < -0.05 else slope
        here, at_here = there, at_there
    step = _CLOSE
    while excess(here) > 0:  # step doubles: ends within 20 rounds, or nothing does
        if here > math.log(_MOST_NOISE):
            raise InputError("privacy.epsilon can't be reached by any noise; raise it")
        here, step = here + step, 2 * step
    return here
