import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from synthdp.evaluation.metrics import auroc
from synthdp.evaluation.uncertainty.differences import (
    Estimate,
    correlated_aurocs,
    correlated_shares,
    difference,
    holm,
    mean_over_runs,
)
from synthdp.evaluation.uncertainty.intervals import auroc_draws, patient_weights

Array = NDArray[np.float64]


def markers() -> tuple[Array, Array]:
    """113 patients with a haemorrhage (Turck et al., Intensive Care Medicine 36:107, 2010).

    The data set by which R's pROC (Robin et al., BMC Bioinformatics 12:77, 2011) shows its tests.
    """
    table = np.loadtxt(Path(__file__).with_name("subarachnoid.csv"), delimiter=",", skiprows=1)
    return table[:, :1], table[:, 1:].T[:, :, None]


WFNS, S100B, NDKA = range(3)


@pytest.mark.parametrize(
    ("pair", "z", "p", "low", "high"),
    [
        (
            (WFNS, S100B),
            2.20898359144091,
            0.0271757822291882,
            0.0104061769564846,
            0.174214419249478,
        ),
        (
            (WFNS, NDKA),
            2.79777591868904,
            0.00514557970691098,
            0.0634011709339876,
            0.3600405634833566,
        ),
        (
            (NDKA, S100B),
            -1.39077002573558,
            0.164295175223054,
            -0.2876917446341914,
            0.0488706064228094,
        ),
    ],
)
def test_delong_gives_what_proc_publishes(
    pair: tuple[int, int], z: float, p: float, low: float, high: float
) -> None:
    targets, scores = markers()
    figures = correlated_aurocs(targets, scores, np.arange(113))
    found = difference(figures, pair[:1], pair[1:])
    assert found.value / found.standard_error == pytest.approx(z, rel=1e-10)
    assert found.p_value() == pytest.approx(p, rel=1e-8)
    interval = found.interval()
    assert (interval.ci_low, interval.ci_high) == pytest.approx((low, high), rel=1e-8)


def test_aurocs_and_their_variances_are_those_that_proc_publishes() -> None:
    targets, scores = markers()
    figures = correlated_aurocs(targets, scores, np.arange(113))
    assert figures.values[WFNS] == pytest.approx(0.823678861788618, rel=1e-12)
    assert figures.values[NDKA] == pytest.approx(0.611957994579946, rel=1e-12)
    variances = [0.00146991470882363, 0.00266868245717244, 0.0031908105493913]
    assert np.diag(figures.covariance) == pytest.approx(variances, rel=1e-10)


def clustered_scores(
    seed: int, n_patients: int = 25, n_models: int = 3
) -> tuple[Array, Array, NDArray[np.intp]]:
    """One to four images a patient, some patients with both classes, and ties."""
    generator = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), generator.integers(1, 5, n_patients))
    targets = (generator.random(patients.size) < generator.random(n_patients)[patients]) * 1.0
    own = generator.normal(size=(n_models, n_patients))[:, patients]
    scores = np.round(own + generator.normal(size=own.shape) + targets, 1)
    return targets, scores, patients


def plain_obuchowski(
    targets: Array, first: Array, second: Array, patients: NDArray[np.intp]
) -> float:
    """The covariance of two AUROCs as Obuchowski writes it, in loops over pairs of images."""
    ones, zeros = np.flatnonzero(targets == 1), np.flatnonzero(targets == 0)

    def parts(scores: Array) -> tuple[dict[int, float], dict[int, float], float]:
        wins = [
            [(scores[i] > scores[j]) + (scores[i] == scores[j]) / 2 for j in zeros] for i in ones
        ]
        area = float(np.mean(wins))
        above = dict(zip(ones.tolist(), np.mean(wins, axis=1), strict=True))
        below = dict(zip(zeros.tolist(), np.mean(wins, axis=0), strict=True))
        return above, below, area

    sums = []
    for scores in (first, second):
        above, below, area = parts(scores)
        by_patient = []
        for patient in np.unique(patients):
            images = np.flatnonzero(patients == patient).tolist()
            by_patient.append(
                [
                    sum(above[image] - area for image in images if image in above),
                    sum(below[image] - area for image in images if image in below),
                ]
            )
        sums.append(np.array(by_patient))
    n_ones, n_zeros, n_any = (
        np.unique(patients[chosen]).size for chosen in (ones, zeros, np.arange(patients.size))
    )
    m, n = ones.size, zeros.size
    both = n_any / (n_any - 1) * (sums[0][:, 0] @ sums[1][:, 1] + sums[0][:, 1] @ sums[1][:, 0])
    return float(
        n_ones / (n_ones - 1) * (sums[0][:, 0] @ sums[1][:, 0]) / m**2
        + n_zeros / (n_zeros - 1) * (sums[0][:, 1] @ sums[1][:, 1]) / n**2
        + both / (m * n)
    )


def test_images_clustered_in_patients_follow_obuchowski() -> None:
    for seed in range(5):
        targets, scores, patients = clustered_scores(seed)
        found = correlated_aurocs(targets[:, None], scores[:, :, None], patients)
        for i in range(3):
            assert found.values[i] == pytest.approx(auroc(targets, scores[i]), rel=1e-12)
            for j in range(3):
                plain = plain_obuchowski(targets, scores[i], scores[j], patients)
                assert found.covariance[i, j] == pytest.approx(plain, rel=1e-9)


def test_the_variance_over_patients_is_that_of_the_bootstrap() -> None:
    targets, scores, patients = clustered_scores(7, n_patients=150)
    found = correlated_aurocs(targets[:, None], scores[:, :, None], patients)
    weights = patient_weights(150, 4000, np.random.default_rng(0))
    draws = auroc_draws(targets[:, None], scores[:, :, None], patients, weights)
    assert np.cov(draws) == pytest.approx(found.covariance, rel=0.12, abs=1e-4)
    images = correlated_aurocs(targets[:, None], scores[:, :, None], np.arange(len(targets)))
    assert images.covariance[0, 0] < 0.8 * found.covariance[0, 0]


def test_paired_draws_are_the_metric_on_copies_of_the_patients() -> None:
    targets, scores, patients = clustered_scores(8)
    weights = patient_weights(25, 6, np.random.default_rng(1))
    draws = auroc_draws(targets[:, None], scores[:, :, None], patients, weights)
    for row, weight in enumerate(weights):
        copies = np.repeat(np.arange(targets.size), weight[patients])
        for model in range(3):
            plain = auroc(targets[copies], scores[model][copies])
            assert draws[model, row] == pytest.approx(plain, rel=1e-12)


def test_blocks_of_redraws_draw_what_one_block_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, scores, patients = clustered_scores(seed=6)
    weights = patient_weights(int(patients.max()) + 1, 23, np.random.default_rng(7))
    whole = auroc_draws(targets[:, None], scores[:, :, None], patients, weights)
    monkeypatch.setattr(
        "synthdp.evaluation.uncertainty.intervals._AUROC_CELLS_AT_ONCE", 4 * len(targets)
    )
    parts = auroc_draws(targets[:, None], scores[:, :, None], patients, weights)
    assert parts == pytest.approx(whole, abs=1e-12)


def test_several_targets_are_averaged_and_those_of_one_class_left_out() -> None:
    targets, scores, patients = clustered_scores(9, n_models=2)
    other = np.where(np.arange(targets.size) % 5 == 0, np.nan, np.roll(targets, 3))
    three = np.stack([targets, other, np.ones_like(targets)], axis=1)
    stacked = np.stack([scores, -scores, scores], axis=2)
    found = correlated_aurocs(three, stacked, patients)
    expected = (auroc(targets, scores[0]) + auroc(other, -scores[0])) / 2
    assert found.values[0] == pytest.approx(expected, rel=1e-12)
    weights = patient_weights(25, 3000, np.random.default_rng(2))
    draws = auroc_draws(three, stacked, patients, weights)
    spread = float(np.nanstd(draws[0] - draws[1]))
    assert difference(found, [0], [1]).standard_error == pytest.approx(spread, rel=0.15)


def test_one_class_alone_has_no_figure() -> None:
    scores = np.zeros((2, 4, 1))
    found = correlated_aurocs(np.ones((4, 1)), scores, np.arange(4))
    estimate = difference(found, [0], [1])
    assert math.isnan(estimate.value)
    assert math.isnan(estimate.p_value())
    interval = estimate.interval()
    assert math.isnan(interval.ci_low)
    assert math.isnan(interval.ci_high)
    assert np.isnan(auroc_draws(np.ones((4, 1)), scores, np.arange(4), np.ones((3, 4), int))).all()


def test_a_single_patient_of_a_class_has_a_figure_without_a_variance() -> None:
    targets = np.array([[1.0], [1], [0], [0]])
    found = correlated_aurocs(targets, np.array([[[3.0], [1], [2], [0]]]), np.array([0, 0, 1, 2]))
    estimate = mean_over_runs(found, [0])
    assert estimate.value == 0.75
    interval = estimate.interval()
    assert math.isnan(interval.ci_low)
    assert math.isnan(interval.ci_high)


def test_equal_models_are_equal_and_different_ones_without_variance_are_not_tested() -> None:
    targets, scores, patients = clustered_scores(3)
    figures = correlated_aurocs(targets[:, None], scores[[0, 0], :, None], patients)
    assert difference(figures, [0], [1]).p_value() == 1
    assert Estimate(0.1, 0.0, 0.0).p_value() != Estimate(0.1, 0.0, 0.0).p_value()


def simulated(
    generator: np.random.Generator, seeds: int, spread: float, lift: float = 0.0
) -> tuple[Array, Array, NDArray[np.intp]]:
    """60 patients of two images; runs share the patients' difficulty and differ in quality."""
    patients = np.repeat(np.arange(60), 2)
    targets = generator.integers(0, 2, 60)[patients] * 1.0
    own = generator.normal(size=60)[patients]
    quality = 1.2 + lift + spread * generator.normal(size=seeds)
    noise = (
        0.7 * generator.normal(size=(seeds, 120))
        + 0.5 * generator.normal(size=(seeds, 60))[:, patients]
    )
    return targets[:, None], (own + noise + quality[:, None] * targets)[:, :, None], patients


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_intervals_over_seeds_and_patients_cover_the_truth(spread: float) -> None:
    generator = np.random.default_rng(5)
    quality = 1.2 + spread * generator.normal(size=100_000)
    truth = norm.cdf(quality / math.sqrt(2 * (1 + 0.7**2 + 0.5**2))).mean()
    both, patients_alone = [], []
    for _ in range(400):
        targets, scores, patients = simulated(generator, 4, spread)
        found = mean_over_runs(correlated_aurocs(targets, scores, patients), range(4))
        interval = found.interval()
        both.append(interval.ci_low <= truth <= interval.ci_high)
        reach = 1.96 * math.sqrt(found.variance_patients)
        patients_alone.append(abs(found.value - truth) <= reach)
    assert 0.92 <= np.mean(both) <= 0.985
    if spread:
        assert np.mean(patients_alone) < np.mean(both) - 0.03


def test_shares_of_seeds_and_patients_are_those_that_were_simulated() -> None:
    generator = np.random.default_rng(6)
    found = []
    values = []
    for _ in range(600):
        targets, scores, patients = simulated(generator, 4, 0.5)
        found.append(mean_over_runs(correlated_aurocs(targets, scores, patients), range(4)))
        values.append(found[-1].value)
    variance = np.mean([one.variance_patients + one.variance_seeds for one in found])
    assert variance == pytest.approx(np.var(values), rel=0.12)


def test_equal_recipes_are_told_apart_no_more_often_than_the_level_says() -> None:
    generator = np.random.default_rng(7)
    false_alarms = []
    for _ in range(400):
        targets, scores, patients = simulated(generator, 8, 0.4)
        figures = correlated_aurocs(targets, scores, patients)
        false_alarms.append(difference(figures, range(4), range(4, 8)).p_value() < 0.05)
    assert 0.02 <= np.mean(false_alarms) <= 0.08


def test_one_run_each_holds_patients_alone() -> None:
    targets, scores, patients = clustered_scores(2)
    figures = correlated_aurocs(targets[:, None], scores[:, :, None], patients)
    found = difference(figures, [0], [1])
    assert (found.variance_seeds, found.degrees_of_freedom) == (0, math.inf)
    both = difference(figures, [0, 1], [2])
    assert both.degrees_of_freedom < math.inf


def test_non_inferiority_and_the_interval_agree() -> None:
    estimate = Estimate(-0.02, 0.01**2, 0.005**2, 9.0)
    low = estimate.interval().ci_low
    assert estimate.p_noninferior(-low) == pytest.approx(0.025)
    assert estimate.p_noninferior(0.05) < 0.025 < estimate.p_noninferior(0.03)
    plain = Estimate(-0.02, 0.01**2, 0.0)
    assert plain.p_noninferior(0.05) == pytest.approx(norm.sf(3))


def test_holm_by_a_textbook_example() -> None:
    """Four p-values at 0.05 of which Holm's steps reject 0.005 and 0.01 (1/4 and 1/3 of it)."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_by_its_definition() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        values = generator.random(7) ** 3
        adjusted = holm(values.tolist())
        for level in (0.01, 0.05, 0.3):
            rejected = [False] * 7
            for step, index in enumerate(np.argsort(values)):
                if values[index] > level / (7 - step):
                    break
                rejected[index] = True
            assert [value <= level for value in adjusted] == rejected


def test_holm_leaves_out_what_was_not_tested() -> None:
    found = holm([0.02, math.nan, 0.6, 0.7])
    assert found[0] == pytest.approx(0.06)
    assert math.isnan(found[1])
    assert found[2:] == [1, 1]
    assert holm([]) == []


def test_shares_vary_by_patient() -> None:
    generator = np.random.default_rng(1)
    patients = np.repeat(np.arange(80), 3)
    luck = generator.random((2, 80))[:, patients]
    hits = generator.random((2, 240)) < luck
    found = correlated_shares(hits, patients)
    weights = patient_weights(80, 4000, generator)
    draws = weights @ np.stack([np.bincount(patients, hit) for hit in hits]).T / 240
    assert found.values == pytest.approx(hits.mean(axis=1))
    assert found.covariance == pytest.approx(np.cov(draws.T), rel=0.12, abs=2e-4)
    assert np.isnan(correlated_shares(hits[:, :0], patients[:0]).values).all()
