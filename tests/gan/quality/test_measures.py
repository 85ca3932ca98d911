import numpy as np
import pytest
from made_up import spectrum_error_of
from scipy.linalg import sqrtm

from gan.quality.measures import (
    detector_auroc,
    frechet_distance,
    kernel_distance,
    label_scores,
    precision_recall_density_coverage,
)
from synthdp.data.looks.spectrum import spectrum_error
from synthdp.errors import InputError


def drawn(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def test_frechet_distance_is_the_formula() -> None:
    a, b = drawn(300, 6, 0), drawn(200, 6, 1, 0.5) * [1, 2, 3, 1, 1, 0.5]
    x, y = np.cov(a.T), np.cov(b.T)
    mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected = mean + np.trace(x + y - 2 * sqrtm(x @ y).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_stands_a_singular_covariance() -> None:
    a = drawn(10, 40, 0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, a + 2) == pytest.approx(160, rel=1e-6)


def test_kernel_distance_is_unbiased_about_nought() -> None:
    same = [kernel_distance(drawn(60, 8, s), drawn(60, 8, s + 100)) for s in range(40)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(40)
    assert kernel_distance(drawn(60, 8, 0), drawn(60, 8, 1, 1.0)) > 10 * np.std(same)


def test_one_mode_has_precision_without_recall() -> None:
    real, mode = drawn(200, 4, 0), drawn(200, 4, 1) * 0.05
    found = precision_recall_density_coverage(real, mode)
    assert found.precision > 0.95
    assert found.recall < 0.05
    assert found.coverage < 0.2
    itself = precision_recall_density_coverage(real, real)
    assert (itself.precision, itself.recall, itself.coverage) == (1, 1, 1)


def test_a_stripe_is_found_on_its_axis() -> None:
    real = np.random.default_rng(0).normal(0, 0.1, (30, 1, 64, 64))
    rows = np.sin(2 * np.pi * 20 * np.arange(64) / 64)[None, None, :, None]
    found = spectrum_error_of(real, real + rows)
    assert (found.line, found.low, found.high) == ("vertical", 16, 24)
    assert found.dex > 1
    assert spectrum_error_of(real, real * 10**0.5).dex == pytest.approx(1)


def test_detector_is_at_chance_on_equals_and_sure_on_strangers() -> None:
    real, patients = drawn(200, 5, 0), np.arange(200) // 2
    assert detector_auroc(real, drawn(200, 5, 1), patients) == pytest.approx(0.5, abs=0.12)
    assert detector_auroc(real, drawn(200, 5, 1, 3.0), patients) > 0.99


def test_a_patient_is_never_on_both_sides_of_a_fold() -> None:
    """Copies of an image within a patient would lift the detector, if they crossed folds."""
    person = np.repeat(drawn(20, 60, 0), 10, axis=0)
    found = detector_auroc(person, drawn(200, 60, 1), np.repeat(np.arange(20), 10))
    assert found < 0.8


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="one class"):
        label_scores(drawn(9, 3, 0), np.ones(9), drawn(2, 3, 0))
    with pytest.raises(InputError, match="too few"):
        precision_recall_density_coverage(drawn(5, 3, 0), drawn(9, 3, 1))
    with pytest.raises(InputError, match="same network"):
        frechet_distance(drawn(9, 3, 0), drawn(9, 4, 0))
    with pytest.raises(InputError, match="a set is empty"):
        spectrum_error(np.zeros((0, 3)), np.zeros((2, 3)), 8)
