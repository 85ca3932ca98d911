import numpy as np
import pytest
from made_up import spectrum_error_of
from scipy.linalg import sqrtm

from gan.quality.measures import (
    alpha_precision_beta_recall,
    detector_auroc,
    frechet_distance,
    kernel_distance,
    kernel_distance_variance,
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


def test_kernel_variance_is_that_of_leaving_each_group_out() -> None:
    a, b = drawn(12, 4, 1), drawn(9, 4, 2, 0.5)
    patients, images = np.array([0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 5]), np.arange(9)

    def spread(left_out: np.ndarray) -> float:
        return (len(left_out) - 1) / len(left_out) * ((left_out - left_out.mean()) ** 2).sum()

    of_a = [kernel_distance(a[patients != one], b) for one in range(6)]
    of_b = [kernel_distance(a, b[images != one]) for one in range(9)]
    found = kernel_distance_variance(a, b, patients, images)
    assert found == pytest.approx(spread(np.array(of_a)) + spread(np.array(of_b)))


def test_kernel_variance_is_that_of_other_draws() -> None:
    """Of a distance that is not nearly 0, within a fifth of the deviation over 150 draws."""
    draws = [(drawn(50, 6, s), drawn(40, 6, s + 1000, 1.0)) for s in range(150)]
    groups = np.arange(50), np.arange(40)
    deviation = np.std([kernel_distance(*pair) for pair in draws])
    estimated = np.mean([kernel_distance_variance(*pair, *groups) for pair in draws]) ** 0.5
    assert estimated == pytest.approx(deviation, rel=0.2)


def test_kernel_variance_needs_three_patients() -> None:
    a, b = drawn(12, 4, 1), drawn(9, 4, 2)
    for patients in (np.arange(12) % 2, np.zeros(12), np.r_[np.zeros(11), 1]):
        assert np.isnan(kernel_distance_variance(a, b, patients, np.arange(9)))
    assert kernel_distance_variance(a, b, np.arange(12) % 3, np.arange(9)) > 0


def test_supports_of_equals_of_one_mode_and_of_copies() -> None:
    real = drawn(400, 6, 0)
    equal = alpha_precision_beta_recall(real, drawn(400, 6, 1))
    assert equal.alpha_precision > 0.93
    assert equal.beta_recall > 0.8
    assert equal.authenticity == pytest.approx(0.5, abs=0.1)
    mode = alpha_precision_beta_recall(real, drawn(400, 6, 1) * 0.2)
    assert max(mode.alpha_precision, mode.beta_recall) < 0.1  # typical, and of no variety
    outliers = alpha_precision_beta_recall(real, drawn(400, 6, 1) * 2)
    assert outliers.alpha_precision < 0.3
    assert outliers.beta_recall > mode.beta_recall + 0.3
    copies = alpha_precision_beta_recall(real, real)
    assert (copies.alpha_precision, copies.beta_recall) == pytest.approx((1, 1), abs=0.01)
    assert copies.authenticity == 0


def test_supports_are_those_of_a_line_by_hand() -> None:
    """Real 0, 1, 2, 4, 8 about their mean 3; synthetic 3, 3.5, 20: two within 1, one beyond 5."""
    real, synthetic = (np.array(of)[:, None] for of in ([0.0, 1, 2, 4, 8], [3.0, 3.5, 20]))
    found = alpha_precision_beta_recall(real, synthetic, neighbours=1)
    # distances of real ones: 1, 1, 2, 3, 5; of synthetic ones: 0, .5, 17. So a ball of 1 (alpha 0
    # to .25) holds two thirds, and so does each larger one
    shares = np.linspace(0, 1, 101)
    assert found.alpha_precision == pytest.approx(
        1 - 2 * np.trapezoid(np.abs(2 / 3 - shares), shares)
    )
    # nearest real ones of 3, 3.5 and 20: 2 (or 4, as near), 4 and 8, whose own are 1, 2 and 4 away
    assert found.authenticity == pytest.approx(1 / 3)


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
