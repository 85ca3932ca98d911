import math

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from synthdp.evaluation.metrics import FloatArray, all_metrics, weighted_aurocs, weighted_metrics
from synthdp.evaluation.uncertainty.intervals import (
    bootstrap_draws,
    patient_bootstrap,
    patient_weights,
)


def clustered(
    n_patients: int, images_per_patient: int, seed: int, *, shift: float = 1.0
) -> tuple[FloatArray, FloatArray, list[str]]:
    """Images of a patient share their class and most of their score."""
    generator = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), images_per_patient)
    labels = generator.integers(0, 2, n_patients)
    own = generator.normal(size=n_patients) + shift * labels
    scores = expit(own[patients] + 0.1 * generator.normal(size=patients.size))
    return labels[patients].astype(float), scores, [f"p{index}" for index in patients]


@pytest.mark.parametrize("decimals", [0, 1, 6], ids=["many ties", "some ties", "no ties"])
def test_weighted_metrics_are_those_of_scikit_learn(decimals: int) -> None:
    generator = np.random.default_rng(decimals)
    targets = generator.integers(0, 2, 60).astype(float)
    scores = np.round(generator.normal(size=60) + targets, decimals)
    weights = generator.integers(0, 4, (25, 60)).astype(float)
    found = weighted_metrics(targets, scores, weights, threshold=0.3, at_sensitivity=0.8)
    called = scores >= 0.3
    for row, weight in enumerate(weights):
        expected = {
            "auroc": roc_auc_score(targets, scores, sample_weight=weight),
            "auprc": average_precision_score(targets, scores, sample_weight=weight),
            "sensitivity": recall_score(targets, called, sample_weight=weight),
            "specificity": recall_score(targets, called, sample_weight=weight, pos_label=0),
            "auprc_benign": average_precision_score(
                targets, -scores, sample_weight=weight, pos_label=0
            ),
            "specificity_at_sensitivity": specificity_at(targets, scores, weight, 0.8),
        }
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=1e-12), name
    alone = weighted_aurocs(targets, scores, weights.T)
    assert alone == pytest.approx(found["auroc"], abs=1e-12)


def specificity_at(
    targets: FloatArray, scores: FloatArray, weight: FloatArray, sensitivity: float
) -> float:
    alarms, found, _ = roc_curve(targets, scores, sample_weight=weight, drop_intermediate=False)
    return float(1 - alarms[found >= sensitivity - 1e-9].min())


@pytest.mark.parametrize("stretch", [0.5, 1.0, 4.0])
def test_brier_and_calibration_are_those_of_scikit_learn(stretch: float) -> None:
    generator = np.random.default_rng(3)
    targets = generator.integers(0, 2, 80).astype(float)
    values = stretch * (generator.normal(size=80) + targets) - 1
    scores = expit(values)
    weights = generator.integers(0, 4, (20, 80)).astype(float)
    found = weighted_metrics(targets, scores, weights)
    for row, weight in enumerate(weights):
        assert found["brier"][row] == pytest.approx(
            brier_score_loss(targets, scores, sample_weight=weight), abs=1e-12
        )
        plain = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        slope = plain.fit(values[:, None], targets, sample_weight=weight).coef_[0, 0]
        assert found["calibration_slope"][row] == pytest.approx(slope, rel=1e-4)
        raised = expit(values + found["calibration_intercept"][row])
        assert (weight * raised).sum() == pytest.approx((weight * targets).sum(), rel=1e-8)


def test_a_calibrated_score_has_slope_one_and_intercept_none() -> None:
    generator = np.random.default_rng(4)
    scores = expit(generator.normal(size=20_000))
    targets = (generator.random(20_000) < scores).astype(float)
    found = weighted_metrics(targets, scores, np.ones((1, 20_000)))
    assert found["calibration_slope"][0] == pytest.approx(1, abs=0.06)
    assert found["calibration_intercept"][0] == pytest.approx(0, abs=0.06)
    too_sure = expit(2 * logit(scores) + 1)
    found = weighted_metrics(targets, too_sure, np.ones((1, 20_000)))
    assert found["calibration_slope"][0] == pytest.approx(0.5, abs=0.03)
    assert found["calibration_intercept"][0] < -0.5


def test_calibration_at_its_limits() -> None:
    targets, weights = np.array([0.0, 0, 1, 1]), np.ones((1, 4))
    apart = weighted_metrics(targets, np.array([0.1, 0.2, 0.8, 1.0]), weights)
    assert (apart["calibration_slope"][0], apart["auroc"][0]) == (100, 1)
    assert np.isfinite(apart["calibration_intercept"][0])
    equal = weighted_metrics(targets, np.full(4, 0.9), weights)
    assert math.isnan(equal["calibration_slope"][0])
    assert equal["calibration_intercept"][0] == pytest.approx(-logit(0.9))
    outside = weighted_metrics(targets, np.array([0.1, 0.2, 0.8, 1.1]), weights)
    assert all(math.isnan(outside[name][0]) for name in ("brier", "calibration_slope"))


@pytest.mark.parametrize("threshold", [-10.0, 10.0], ids=["all called", "none called"])
def test_a_threshold_beyond_all_scores(threshold: float) -> None:
    targets, scores, _ = clustered(20, 1, seed=1)
    found = weighted_metrics(targets, scores, np.ones((1, 20)), threshold=threshold)
    assert (found["sensitivity"][0], found["specificity"][0]) == (
        (1, 0) if threshold < 0 else (0, 1)
    )


def test_a_patient_drawn_twice_counts_twice_with_all_images() -> None:
    targets, scores, ids = clustered(12, 3, seed=2)
    columns = np.unique(ids, return_inverse=True)[1]
    weights = patient_weights(12, 5, np.random.default_rng(3))
    assert (weights.sum(axis=1) == 12).all()
    draws = bootstrap_draws(targets, scores, columns, weights)
    for row, weight in enumerate(weights):
        copies = np.repeat(np.arange(targets.size), weight[columns])
        for name, value in all_metrics(targets[copies], scores[copies]).items():
            assert draws[name][row] == pytest.approx(value)


def test_blocks_of_redraws_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, scores, ids = clustered(15, 2, seed=4)
    whole = patient_bootstrap(targets, scores, ids, generator=np.random.default_rng(5), redraws=40)
    monkeypatch.setattr("synthdp.evaluation.uncertainty.intervals._CELLS_AT_ONCE", 100)
    parts = patient_bootstrap(targets, scores, ids, generator=np.random.default_rng(5), redraws=40)
    for name, interval in whole.items():
        assert vars(parts[name]) == pytest.approx(vars(interval), rel=1e-9)


def test_values_are_those_of_the_metrics_and_the_seed_decides() -> None:
    targets, scores, ids = clustered(30, 2, seed=6)
    first = patient_bootstrap(targets, scores, ids, generator=np.random.default_rng(7))
    again = patient_bootstrap(targets, scores, ids, generator=np.random.default_rng(7))
    assert first == again
    for name, interval in first.items():
        assert interval.value == all_metrics(targets, scores)[name]
        assert interval.ci_low <= interval.value <= interval.ci_high


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = 0.7602  # Phi(1 / sqrt(2)): two unit normals one apart
    covered = []
    for seed in range(150):
        generator = np.random.default_rng(seed)
        labels = np.repeat([0.0, 1.0], 60)
        scores = generator.normal(size=120) + labels
        found = patient_bootstrap(
            labels, scores, [str(i) for i in range(120)], generator=generator, redraws=400
        )["auroc"]
        covered.append(found.ci_low <= truth <= found.ci_high)
    assert 0.89 <= np.mean(covered) <= 0.99


def test_drawing_images_instead_of_patients_would_claim_too_much() -> None:
    targets, scores, ids = clustered(80, 4, seed=8)
    images = [str(index) for index in range(len(ids))]
    by_patient, by_image = (
        patient_bootstrap(targets, scores, units, generator=np.random.default_rng(9))["auroc"]
        for units in (ids, images)
    )
    width = by_patient.ci_high - by_patient.ci_low
    assert width > 1.5 * (by_image.ci_high - by_image.ci_low)


def test_redraws_without_one_class_are_left_out_and_counted() -> None:
    targets = np.array([1.0, 0.0, 0.0, 0.0])
    scores = np.array([0.9, 0.1, 0.6, 0.2])
    found = patient_bootstrap(targets, scores, list("abcd"), generator=np.random.default_rng(0))
    expected = 2000 * (0.75**4 + 0.25**4)
    assert found["auroc"].left_out == pytest.approx(expected, rel=0.15)
    assert found["auroc"].ci_low <= found["auroc"].ci_high
