"""How much runs of few seeds vary, known from all recipes of a study together."""

import numpy as np
import pytest
from scipy.special import polygamma

from synthdp.evaluation.uncertainty.differences import Correlated, difference, mean_over_runs
from synthdp.evaluation.uncertainty.seed_spread import SeedSpread, moderated_spreads


def test_two_seeds_apart_do_not_make_an_interval_of_everything() -> None:
    runs = [np.array([mean - 0.1, mean + 0.1 + 0.01 * mean]) for mean in (0.6, 0.7, 0.75, 0.8)]
    figures = Correlated(runs[1], np.full((2, 2), 1e-4))
    alone = mean_over_runs(figures, [0, 1]).interval()
    assert alone.ci_low < 0  # Student's with one degree of freedom
    assert alone.ci_high > 1
    spread = moderated_spreads(runs)[1]
    together = mean_over_runs(figures, [0, 1], spread)
    assert together.degrees_of_freedom == pytest.approx(4, rel=0.05)
    assert 0.4 < together.interval().ci_low < 0.5
    one_side = difference(figures, [0, 1], [0], (spread, None))
    assert one_side.degrees_of_freedom == pytest.approx(4, rel=0.05)


def test_recipes_that_vary_alike_are_pooled() -> None:
    rng = np.random.default_rng(0)
    runs = [rng.normal(0.7, 0.03, size=3) for _ in range(4)]
    spreads = moderated_spreads(runs)
    pooled = float(np.mean([values.var(ddof=1) for values in runs]))
    assert spreads == [SeedSpread(pytest.approx(pooled), 8.0)] * 4


def test_where_variances_differ_each_is_drawn_half_way() -> None:
    sds = 0.02 * np.exp(np.linspace(-3, 3, 40))
    runs = [np.array([0.7 - sd, 0.7, 0.7 + sd]) for sd in sds]
    spreads = moderated_spreads(runs)
    assert all(one is not None for one in spreads)
    first, last = (one for one in (spreads[0], spreads[-1]) if one is not None)
    assert sds[0] ** 2 < first.variance
    assert last.variance < sds[-1] ** 2
    d0 = last.degrees_of_freedom - 2
    # Smyth's condition: what logarithms vary beyond chance is trigamma(d0 / 2)
    beyond = float(np.log(sds**2).var(ddof=1) - polygamma(1, 1.0))
    assert float(polygamma(1, d0 / 2)) == pytest.approx(beyond)


def test_one_seed_equal_runs_and_undefined_figures_moderate_nothing() -> None:
    pair = np.array([0.7, 0.8])
    spreads = moderated_spreads([np.array([0.7]), np.array([0.7, 0.7]), np.full(2, np.nan), pair])
    assert spreads == [None, SeedSpread(0.0, 1.0), None, SeedSpread(pytest.approx(0.005), 1.0)]
    assert moderated_spreads([]) == []


@pytest.mark.parametrize("ratio", [1.0, 3.0])
def test_intervals_of_two_seeds_hold_the_truth_as_often_as_they_say(ratio: float) -> None:
    rng = np.random.default_rng(1)
    held, n_recipes, patients = [], 6, 0.03
    for _ in range(400):
        sds = 0.03 * np.where(np.arange(n_recipes) % 2, ratio, 1.0)
        common = patients * rng.normal()
        runs = list(common + sds[:, None] * rng.normal(size=(n_recipes, 2)))
        for values, spread in zip(runs, moderated_spreads(runs), strict=True):
            figures = Correlated(values, np.full((2, 2), patients**2))
            interval = mean_over_runs(figures, [0, 1], spread).interval()
            held.append(interval.ci_low <= 0 <= interval.ci_high)
    assert 0.90 < np.mean(held) < 0.98
