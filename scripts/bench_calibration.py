"""Time of calibrations to (epsilon, delta), exact and by privacy loss distributions."""

import argparse
import itertools
import math
import time

from synthdp.privacy.accounting import gaussian_mu
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


def reach(epsilon: float, delta: float, rate: float, steps: int) -> tuple[Mechanism, float]:
    """The mechanism at the target, and the seconds that it took."""
    began = time.perf_counter()
    mechanism = Mechanism.reaching(
        epsilon=epsilon, delta=delta, steps=steps, normaliser=1, sampling_rate=rate
    )
    return mechanism, time.perf_counter() - began


def main() -> None:
    """Print a line for each calibration, and the slowest of each kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_calibration.py --delta 1e-5"
    )
    parser.add_argument("--delta", type=float, default=1e-4)
    parser.add_argument("--corners", action="store_true", help="leave out the ordinary settings")
    arguments = parser.parse_args()
    grid = itertools.product(
        [0.05, 0.3, 1.0, 6.0, 20.0, 60.0], [1.0, 1 / 9, 0.01], [10, 300, 2700, 10_000]
    )
    settings = CORNERS if arguments.corners else [*grid, *CORNERS]
    slowest = {"exact": 0.0, "PLD": 0.0}
    loosest = 0.0
    for epsilon, rate, steps in settings:
        gaussian_mu(epsilon, arguments.delta)
        mechanism, seconds = reach(epsilon, arguments.delta, rate, steps)
        share = mechanism.loss().epsilon(arguments.delta) / epsilon
        kind = "exact" if rate == 1 else "PLD"
        slowest[kind] = max(slowest[kind], seconds)
        loosest = max(loosest, math.inf if share > 1 else 1 - share)
        print(
            f"{kind:5}  epsilon {epsilon:6g}  rate {rate:8.4g}  steps {steps:6d}  "
            f"noise {mechanism.noise_multiplier:9.4g}  reached {share:.5f}  {seconds:6.3f} s",
            flush=True,
        )
    print(f"slowest: exact {slowest['exact']:.4f} s, PLD {slowest['PLD']:.2f} s")
    print(f"farthest below the target: {100 * loosest:.3f} % (inf where one is above)")


if __name__ == "__main__":
    main()
