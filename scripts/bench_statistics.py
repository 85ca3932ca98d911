"""Time of all metrics with their intervals by patient, and of a study's comparisons."""

import argparse
import time

import numpy as np
from scipy.special import expit

from synthdp.evaluation.summary import evaluate
from synthdp.evaluation.uncertainty.differences import correlated_aurocs, difference
from synthdp.evaluation.uncertainty.intervals import auroc_draws, patient_weights


def compare(n_runs: int, n_patients: int, redraws: int, generator: np.random.Generator) -> float:
    """The seconds that all pairs of neighbouring runs on these patients, two images each, take."""
    patients = np.repeat(np.arange(n_patients), 2)
    targets = generator.integers(0, 2, n_patients)[patients][:, None].astype(float)
    scores = expit(generator.normal(size=(n_runs, patients.size, 1)) + targets)
    began = time.perf_counter()
    figures = correlated_aurocs(targets, scores, patients)
    auroc_draws(targets, scores, patients, patient_weights(n_patients, redraws, generator))
    for first in range(n_runs - 1):
        difference(figures, [first], [first + 1]).p_value()
    return time.perf_counter() - began


def main() -> None:
    """Print the seconds that `evaluate` and comparisons take, each repeat on a line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_statistics.py --redraws 2000"
    )
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--images", type=int, default=2, help="of each patient")
    parser.add_argument("--redraws", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runs", type=int, default=330, help="compared on 96 patients")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(arguments.patients), arguments.images)
    targets = generator.integers(0, 2, arguments.patients)[patients].astype(float)
    scores = expit(generator.normal(size=targets.size) + targets)
    ids = [str(patient) for patient in patients]
    for _ in range(arguments.repeats):
        began = time.perf_counter()
        evaluate(targets, scores, ids, redraws=arguments.redraws)
        print(
            f"{arguments.redraws} redraws of {arguments.patients} patients, {len(ids)} images: "
            f"{time.perf_counter() - began:.2f} s",
            flush=True,
        )
        seconds = compare(arguments.runs, 96, arguments.redraws, generator)
        print(f"{arguments.runs} runs compared on 192 images: {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
