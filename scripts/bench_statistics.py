"""Time of all metrics with their intervals by patient, and of a study's comparisons."""

import argparse
import time

import numpy as np
from scipy.special import expit

from synthdp.evaluation.statistics import summarise


def main() -> None:
    """Print the seconds that `summarise` takes, each repeat on a line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_statistics.py --redraws 2000"
    )
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--images", type=int, default=2, help="of each patient")
    parser.add_argument("--redraws", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(arguments.patients), arguments.images)
    targets = generator.integers(0, 2, arguments.patients)[patients].astype(float)
    scores = expit(generator.normal(size=targets.size) + targets)
    ids = [str(patient) for patient in patients]
    for _ in range(arguments.repeats):
        began = time.perf_counter()
        summarise(targets, scores, ids, redraws=arguments.redraws, generator=generator)
        print(
            f"{arguments.redraws} redraws of {arguments.patients} patients, {len(ids)} images: "
            f"{time.perf_counter() - began:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
