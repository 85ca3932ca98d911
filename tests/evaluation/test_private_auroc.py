import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from synthdp.errors import InputError
from synthdp.evaluation.noisy_counts import (
    auroc_of_counts,
    noisy_auroc,
    unit_counts,
)
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import NoiseSource


def clinic(n_patients: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two images a patient whose logits have an AUROC of about 0.7 at a spread of 1."""
    malignant = (rng.random(n_patients) < 0.45).astype(float)
    shift = np.sqrt(2) * norm.ppf(0.7) * (malignant - 0.5)
    logits = (shift + rng.normal(size=n_patients))[:, None] + 0.3 * rng.normal(size=(n_patients, 2))
    ids = [f"p{index}" for index in range(n_patients) for _ in range(2)]
    return malignant.repeat(2), 1 / (1 + np.exp(-logits.ravel())), ids


def test_without_noise_it_is_the_auroc_of_patients_with_weight_one() -> None:
    rng = np.random.default_rng(2)
    targets, scores, ids = clinic(400, rng)
    targets, scores, ids = targets[:-1], scores[:-1], ids[:-1]  # a patient with one image
    _, owners = np.unique(ids, return_inverse=True)
    weights = 1 / np.bincount(owners)[owners]
    exact = roc_auc_score(targets, scores, sample_weight=weights)
    counts = unit_counts(targets, scores, owners).sum(dim=0).double().numpy()
    assert auroc_of_counts(counts) == pytest.approx(exact, abs=0.005)  # 64 bins' ties
    assert auroc_of_counts(counts[::-1]) == pytest.approx(1 - exact, abs=0.005)


def test_the_error_is_what_the_noise_makes_it_and_is_said() -> None:
    rng = np.random.default_rng(3)
    targets, scores, ids = clinic(102, rng)
    exact = roc_auc_score(targets, scores)
    for epsilon, most in ((6.0, 0.035), (20.0, 0.015)):
        mechanism = Mechanism.reaching(epsilon=epsilon, delta=1e-4, steps=1, normaliser=200)
        assert mechanism.steps == 1
        assert mechanism.loss().epsilon(1e-4) == pytest.approx(epsilon, rel=1e-3)
        found = [
            noisy_auroc(
                targets,
                scores,
                ids,
                mechanism=mechanism,
                noise_source=NoiseSource(bytes([draw]) * 32, "philox"),
            )
            for draw in range(100)
        ]
        values = np.array([one.value for one in found])
        said = np.array([one.standard_error for one in found])
        assert values.std() < most
        assert abs(values.mean() - exact) < 0.02
        assert np.median(said) == pytest.approx(values.std(), rel=0.35)  # sd of 100: 7 %


def test_too_much_noise_still_gives_a_number_in_range() -> None:
    targets, scores, ids = clinic(10, np.random.default_rng(4))
    mechanism = Mechanism.reaching(epsilon=0.05, delta=1e-4, steps=1, normaliser=200)
    for draw in range(20):
        source = NoiseSource(bytes([draw]) * 32, "philox")
        found = noisy_auroc(targets, scores, ids, mechanism=mechanism, noise_source=source)
        assert 0 <= found.value <= 1
        assert found.standard_error > 0.1


def test_a_population_below_the_patients_is_refused() -> None:
    targets, scores, ids = clinic(11, np.random.default_rng(5))
    mechanism = Mechanism.reaching(epsilon=6, delta=1e-4, steps=1, normaliser=10)
    with pytest.raises(InputError, match="population is 10"):
        noisy_auroc(targets, scores, ids, mechanism=mechanism, noise_source=NoiseSource(b"k" * 32))
