import numpy as np
import pytest
from scipy.special import expit

from synthdp.evaluation.noisy_counts import BINS, haar_basis, likely_counts, unit_counts
from synthdp.evaluation.operating_point import (
    SLOPES,
    Array,
    at_youden,
    platt_of_counts,
    platt_scaling,
    threshold_of_counts,
    threshold_of_scores,
    youden_threshold,
)
from synthdp.evaluation.uncertainty.intervals import patient_weights


def drawn(n: int, slope: float, offset: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels follow sigmoid(slope * logit + offset), and these labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=n) / slope
    return logits, (rng.random(n) < expit(slope * logits + offset)).astype(float)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (12.0, -1.0), (0.3, 0.7)])
def test_it_recovers_a_known_scaling(slope: float, offset: float) -> None:
    logits, labels = drawn(20_000, slope, offset)
    found = platt_scaling(logits, 1 - labels, labels)
    assert found == pytest.approx((slope, offset), rel=0.06, abs=0.05)


def test_weights_count_as_repetitions() -> None:
    logits, labels = drawn(200, 1.0, 0.2)
    weights = np.random.default_rng(1).integers(1, 4, 200)
    repeated = np.repeat(logits, weights), np.repeat(labels, weights)
    found = platt_scaling(logits, weights * (1 - labels), weights * labels)
    again = platt_scaling(repeated[0], 1 - repeated[1], repeated[1])
    assert found == pytest.approx(again, rel=1e-4)


def test_no_scaling_turns_the_ranking_or_runs_away() -> None:
    logits = np.linspace(-1, 1, 50)
    apart = (logits > 0).astype(float)
    slope, offset = platt_scaling(logits, 1 - apart, apart)
    assert 1 < slope <= SLOPES[1]
    assert abs(offset) < 1
    slope, offset = platt_scaling(logits, apart, 1 - apart)  # all the wrong way round
    assert slope == pytest.approx(SLOPES[0])
    assert expit(offset) == pytest.approx(0.5, abs=0.05)
    assert platt_scaling(logits, np.zeros(50), np.ones(50)) == (1.0, 0.0)


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_noisy_counts_calibrate_nearly_as_well_as_scores(spread: float) -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(500) < 0.45).astype(float)
    logits = spread * (rng.normal(size=500) + labels - 0.5)
    counts = unit_counts(labels, expit(logits), np.arange(500)).sum(dim=0).double().numpy()
    exact = platt_scaling(logits, 1 - labels, labels)

    def loss(point: tuple[float, float]) -> float:
        values = point[0] * logits + point[1]
        return float(np.mean(np.logaddexp(0, values) - labels * values))

    useless = float(-np.mean(labels * np.log(0.45) + (1 - labels) * np.log(0.55)))
    losses, reached = [], []
    for _ in range(40):
        found = likely_counts(counts @ haar_basis().T + rng.normal(size=counts.shape))
        losses.append(loss(platt_of_counts(found)))
        reached.append((logits[labels == 1] >= threshold_of_counts(found[1], 0.9)).mean())
    assert np.mean(losses) - loss(exact) < 0.1 * (useless - loss(exact))
    assert np.mean(reached) == pytest.approx(0.9, abs=0.03)


def test_hopeless_counts_give_a_bounded_point() -> None:
    rng = np.random.default_rng(3)
    for scale in (0.0, 1.0, 1e6):
        for _ in range(20):
            counts = likely_counts(scale * rng.normal(size=(2, BINS)))
            slope, offset = platt_of_counts(counts)
            assert SLOPES[0] * 0.999 <= slope <= SLOPES[1] * 1.001
            assert abs(offset) <= 30
            assert abs(threshold_of_counts(counts[1], 0.9)) < 41
    empty = np.zeros((2, BINS))
    assert platt_of_counts(empty) == (1.0, 0.0)
    assert threshold_of_counts(empty[1], 0.9) == 0.0


@pytest.mark.parametrize("sensitivity", [0.5, 0.8, 0.9, 0.97])
def test_the_threshold_is_the_highest_that_reaches_the_sensitivity(sensitivity: float) -> None:
    rng = np.random.default_rng(4)
    scores, positives = rng.random(60).round(2), rng.integers(0, 3, 60) / 2

    def reached(threshold: float) -> float:
        return float(positives[scores >= threshold].sum() / positives.sum())

    threshold = threshold_of_scores(scores, positives, sensitivity)
    assert reached(threshold) >= sensitivity - 1e-9
    above = scores[scores > threshold].min()
    assert reached(above + 1e-9) < sensitivity


def test_a_threshold_below_every_score_is_possible() -> None:
    assert threshold_of_scores(np.array([0.4, 0.6]), np.array([1.0, 0]), 0.9) == 0.2


def test_youdens_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.integers(0, 2, 40).astype(float)
        labels[:2] = 0, 1
        scores = np.round(0.3 * labels + 0.7 * rng.random(40), 1)

        def gain(threshold: float, labels: Array = labels, scores: Array = scores) -> float:
            called = scores >= threshold
            return float(called[labels == 1].mean() - called[labels == 0].mean())

        chosen = youden_threshold(scores, labels)
        assert gain(chosen) == pytest.approx(max(map(gain, np.linspace(0, 1, 101))))


def test_decisions_at_youdens_threshold_are_chosen_anew_on_each_redraw() -> None:
    rng = np.random.default_rng(1)
    columns = rng.integers(0, 30, 80)
    labels = rng.integers(0, 2, 80).astype(float)
    scores = np.round(0.2 * labels + 0.8 * rng.random((2, 80)), 2)
    weights = patient_weights(30, 12, rng)
    found = at_youden(labels, scores, columns.astype(np.intp), weights)
    for index, drawn in enumerate([np.ones(30, np.int64), *weights]):
        copies = np.repeat(np.arange(80), drawn[columns])
        expected = np.zeros(3)
        for one in scores:
            picked, truth = one[copies], labels[copies]
            called = picked >= youden_threshold(picked, truth)
            expected += [
                (called == truth).mean(),
                called[truth == 1].mean(),
                (~called[truth == 0]).mean(),
            ]
        for name, value in zip(
            ("accuracy", "sensitivity", "specificity"), expected / 2, strict=True
        ):
            assert [found[name].value, *found[name].draws][index] == pytest.approx(value), name


def test_decisions_of_one_class_have_no_value() -> None:
    weights = patient_weights(5, 3, np.random.default_rng(0))
    found = at_youden(np.ones(5), np.full((1, 5), 0.5), np.arange(5), weights)
    assert all(np.isnan(one.value) and np.isnan(one.draws).all() for one in found.values())
    none = at_youden(np.zeros(0), np.zeros((2, 0)), np.zeros(0, np.intp), weights)
    assert all(np.isnan(one.value) for one in none.values())
