"""How far a noisy AUROC lies from the exact one: bias and spread over made-up clinics.

python scripts/bench_private_auroc.py
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from synthdp.evaluation.noisy_counts import noisy_aurocs
from synthdp.privacy.keys import new_key
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource

#: Spread and offset of the logits: a head of much noise, others in between, a sure network.
SCALES = ((0.1, 0.0), (0.3, 0.5), (1.0, 0.0), (1.0, -1.5), (4.0, 0.0))
SHIFT = np.sqrt(2) * norm.ppf(0.7)  # an AUROC of 0.7


def clinics(
    n_patients: int, draws: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]]:
    """Targets, scores and patients of images, one to four a patient, 45 % malignant."""
    for draw in range(draws):
        spread, offset = SCALES[draw % len(SCALES)]
        malignant = (rng.random(n_patients) < 0.45).astype(float)
        n_images = rng.choice([1, 2, 4], size=n_patients, p=[0.28, 0.65, 0.07])
        patients = np.repeat(np.arange(n_patients), n_images)
        targets = malignant[patients]
        hidden = np.sqrt(0.7) * rng.normal(size=n_patients)[patients]
        hidden += np.sqrt(0.3) * rng.normal(size=len(patients)) + SHIFT * (targets - 0.5) + offset
        yield targets, expit(spread * hidden), patients


def main() -> None:
    """Print a line for each number of patients and epsilon."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_private_auroc.py --draws 100"
    )
    parser.add_argument("--draws", type=int, default=100)
    draws = parser.parse_args().draws
    print("patients  epsilon    bias      sd    said")
    for n_patients in (102, 500):
        for epsilon in (1.0, 6.0, 20.0):
            mechanism = Mechanism.reaching(epsilon=epsilon, delta=1e-4, steps=1, normaliser=600)
            errors, said = [], []
            for targets, scores, patients in clinics(n_patients, draws, np.random.default_rng(0)):
                exact = roc_auc_score(
                    targets, scores, sample_weight=1 / np.bincount(patients)[patients]
                )
                ids = [str(patient) for patient in patients]
                noise_source = NoiseSource(new_key(), "philox")
                (released,) = noisy_aurocs(
                    targets[:, None],
                    scores[:, None],
                    ids,
                    mechanism=mechanism,
                    noise_source=noise_source,
                ).targets
                errors.append(released.value - exact)
                said.append(released.standard_error)
            bias, sd, typical = np.mean(errors), np.std(errors), np.median(said)
            print(f"{n_patients:8d} {epsilon:8g} {bias:+7.3f} {sd:7.3f} {typical:7.3f}")


if __name__ == "__main__":
    main()
