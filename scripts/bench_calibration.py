"""Noise for (epsilon, delta) by synthdp and by dp_accounting: bound, tightness and time.

One line a target: the noise, the share of the target that it spends, and the seconds of processor
time. With `--exact` the closed forms are held against mpmath instead. Needs the extra `test`.
"""

import argparse
import itertools
import math
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import dp_accounting
import mpmath
from dp_accounting.pld import PLDAccountant

from synthdp.privacy.accounting.gaussian import gaussian_delta, gaussian_epsilon, gaussian_mu
from synthdp.privacy.accounting.privacy_loss import NO_LOSS, PrivacyLoss
from synthdp.privacy.accounting.sampled_step import SampledSteps
from synthdp.privacy.mechanism import Mechanism

#: (epsilon, sampling rate, steps) where the distributions are wide, long or far from Gaussian.
CORNERS = [
    (0.01, 0.001, 10),
    (60.0, 0.01, 10),
    (300.0, 0.5, 100),
    (1.0, 0.01, 100_000),
    (0.05, 0.0001, 10_000),
    (0.05, 0.5, 100_000),
    (60.0, 0.9, 100_000),
    (6.0, 0.999, 1),
    (0.01, 0.1, 1),
    (600.0, 0.01, 1000),
]
BEFORE = PrivacyLoss(mu=0.004, sampled=(SampledSteps(40.0, 0.02, 100),))


def by_dp_accounting(
    epsilon: float, delta: float, rate: float, steps: int, accountant: Callable[[], Any]
) -> float:
    """The noise multiplier of `calibrate_dp_mechanism` with an accountant, within 1e-3."""
    noise: float = dp_accounting.calibrate_dp_mechanism(
        accountant,
        lambda sigma: dp_accounting.SelfComposedDpEvent(
            dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(sigma)), steps
        ),
        epsilon,
        delta,
        dp_accounting.LowerEndpointAndGuess(0.1, 1),
        tol=1e-3,
    )
    return noise


class SynthdpAccountant(dp_accounting.PrivacyAccountant):
    """synthdp's epsilons of sampled Gaussian steps, for dp_accounting's search."""

    def __init__(self) -> None:
        super().__init__(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
        self._loss = NO_LOSS

    def _maybe_compose(self, event: Any, count: int, do_compose: bool) -> None:
        if isinstance(event, dp_accounting.SelfComposedDpEvent):
            return self._maybe_compose(event.event, count * event.count, do_compose)
        if do_compose:
            part = SampledSteps(event.event.noise_multiplier, event.sampling_probability, count)
            self._loss = self._loss.with_loss(PrivacyLoss(sampled=(part,)))
        return None

    def get_epsilon(self, target_delta: float) -> float:
        """The epsilon at a delta; large where infinite, which the search can't take."""
        return min(self._loss.epsilon(target_delta), 1e9)


def timed(calibrate: Callable[[], float], limit_s: int) -> tuple[float, float, str]:
    """Noise, seconds, and what went wrong if anything did."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"longer than {limit_s} s")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    began = time.process_time()
    try:
        return calibrate(), time.process_time() - began, ""
    except (TimeoutError, ArithmeticError, ValueError) as error:
        return math.nan, time.process_time() - began, f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def print_exact() -> None:
    """Print how far the closed forms are from the exact Gaussian, relative to it."""
    mpmath.mp.dps = 80

    def exact_epsilon(mu: float, delta: float, near: float) -> Any:
        m = mpmath.mpf(mu)

        def excess(e: Any) -> Any:
            upper = mpmath.erfc((e / m - m / 2) / mpmath.sqrt(2)) / 2
            lower = mpmath.erfc((e / m + m / 2) / mpmath.sqrt(2)) / 2
            return mpmath.log((upper - mpmath.exp(e) * lower) / delta)

        start = mpmath.mpf(near)
        return mpmath.findroot(excess, (start, start * (1 + mpmath.mpf("1e-8"))), verify=False)

    deltas = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-10, 1e-12]
    print("epsilon reached by the mu of a target, less the target, over the target")
    for epsilon in [1e-3, 0.05, 0.1, 1.0, 3.7, 6.0, 7.123456789, 20.0, 60.0, 300.0, 1000.0]:
        for name, solve in (
            ("synthdp", gaussian_mu),
            ("get_sigma_gaussian", lambda e, d: 1 / dp_accounting.get_sigma_gaussian(e, d)),
        ):
            began = time.process_time()
            mus = [float(solve(epsilon, delta)) for delta in deltas]
            seconds = (time.process_time() - began) / len(deltas)
            off = [
                float(exact_epsilon(mu, d, epsilon) / epsilon - 1)
                for mu, d in zip(mus, deltas, strict=True)
            ]
            print(
                f"  epsilon {epsilon:8g}  {name:20} {min(off):9.1e} .. {max(off):9.1e}  "
                f"{1e3 * seconds:.2f} ms"
            )
    print("epsilon of a mu, less the exact one, over it")
    for mu in [1e-8, 1e-6, 1e-4, 1e-3, 0.01, 0.1, 0.314, 1.46, 7.92, 60.0]:
        for name, solve in (
            ("synthdp", gaussian_epsilon),
            ("get_epsilon_gaussian", lambda m, d: dp_accounting.get_epsilon_gaussian(1 / m, d)),
        ):
            pairs = [(d, float(solve(mu, d))) for d in deltas if gaussian_delta(mu, 0.0) > 1.01 * d]
            off = [float(e / exact_epsilon(mu, d, e) - 1) for d, e in pairs]
            print(f"  mu {mu:8g}  {name:20} {min(off):9.1e} .. {max(off):9.1e}")


ACCOUNTANTS: dict[str, Callable[[], Any]] = {
    "PLD at 1e-4": partial(PLDAccountant, value_discretization_interval=1e-4),
    "PLD at 1e-3": partial(PLDAccountant, value_discretization_interval=1e-3),
    "synthdp's epsilons": SynthdpAccountant,
}


def main() -> None:
    """Print a line for each calibration, and the slowest of each kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_calibration.py --delta 1e-5"
    )
    parser.add_argument("--delta", type=float, default=1e-4)
    parser.add_argument("--epsilon", type=float, nargs="+", help="these alone")
    parser.add_argument("--corners", action="store_true", help="leave out the ordinary settings")
    parser.add_argument("--before", action="store_true", help="after other releases have spent")
    parser.add_argument("--exact", action="store_true", help="closed forms against mpmath, alone")
    parser.add_argument("--dp-accounting", action="store_true", help="its calibration beside ours")
    parser.add_argument("--limit-s", type=int, default=10, help="for one calibration of theirs")
    arguments = parser.parse_args()
    if arguments.exact:
        print_exact()
        return
    grid = itertools.product(
        [0.05, 0.3, 1.0, 6.0, 20.0, 60.0], [1.0, 1 / 9, 0.01], [10, 300, 2700, 10_000]
    )
    delta, before = arguments.delta, BEFORE if arguments.before else NO_LOSS
    slowest = {"exact": 0.0, "PLD": 0.0}
    loosest = 0.0
    for epsilon, rate, steps in CORNERS if arguments.corners else [*grid, *CORNERS]:
        if arguments.epsilon and epsilon not in arguments.epsilon:
            continue
        kind = "exact" if rate == 1 and before == NO_LOSS else "PLD"
        began = time.process_time()
        mechanism = Mechanism.reaching(
            epsilon=epsilon,
            delta=delta,
            steps=steps,
            normaliser=1,
            sampling_rate=rate,
            before=before,
        )
        seconds = time.process_time() - began
        share = before.with_loss(mechanism.loss()).epsilon(delta) / epsilon
        slowest[kind] = max(slowest[kind], seconds)
        loosest = max(loosest, math.inf if share > 1 else 1 - share)
        print(
            f"{kind:5}  epsilon {epsilon:6g}  rate {rate:8.4g}  steps {steps:6d}  "
            f"noise {mechanism.noise_multiplier:9.4g}  reached {share:.5f}  {seconds:6.3f} s",
            flush=True,
        )
        if arguments.dp_accounting and kind == "PLD" and before == NO_LOSS:
            for name, accountant in ACCOUNTANTS.items():
                noise, seconds, wrong = timed(
                    partial(by_dp_accounting, epsilon, delta, rate, steps, accountant),
                    arguments.limit_s,
                )
                loss = mechanism.with_noise(noise).loss()
                share = math.nan if wrong else loss.epsilon(delta) / epsilon
                print(
                    f"       dp_accounting, {name}:  noise {noise:9.4g}  "
                    f"reached {share:.5f}  {seconds:6.3f} s  {wrong}",
                    flush=True,
                )
    print(f"slowest: exact {slowest['exact']:.4f} s, PLD {slowest['PLD']:.2f} s")
    print(f"farthest below the target: {100 * loosest:.3f} % (inf where one is above)")


if __name__ == "__main__":
    main()
