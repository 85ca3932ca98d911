import math
from itertools import pairwise

import numpy as np
import pytest
from dp_accounting.pld import pld_pmf
from dp_accounting.pld.pld_pmf import DensePLDPmf

from synthdp.privacy.accounting import privacy_loss as accounting
from synthdp.privacy.accounting.composition import composed_losses, losses_on_grid, on_coarser_grid
from synthdp.privacy.accounting.gaussian import gaussian_epsilon
from synthdp.privacy.accounting.privacy_loss import PrivacyLoss
from synthdp.privacy.accounting.sampled_step import SampledSteps, step_delta

EPSILONS = np.linspace(-3, 12, 301)


def one_step(noise: float, rate: float, interval: float, *, cells: int = 400) -> DensePLDPmf:
    losses = np.arange(-cells, cells + 1, dtype=np.float64) * interval
    return losses_on_grid(step_delta(noise, rate, losses, add=False), -cells, interval)


def curve(losses: DensePLDPmf) -> np.ndarray:
    return np.asarray([losses.get_delta_for_epsilon(float(epsilon)) for epsilon in EPSILONS])


@pytest.mark.parametrize("interval", [1e-3, 0.05, 2.0])
def test_dots_are_connected_as_dp_accounting_connects_them(interval: float) -> None:
    deltas = step_delta(0.8, 0.2, np.arange(-50, 51, dtype=np.float64) * interval, add=False)
    theirs = pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(interval, -50, 50, deltas)
    ours = losses_on_grid(deltas, -50, interval)
    assert ours._lower_loss == -50
    assert ours._infinity_mass == theirs._infinity_mass
    assert ours._probs == pytest.approx(theirs.to_dense_pmf()._probs, rel=1e-9, abs=1e-13)


def test_a_curve_of_one_dot_is_that_loss_or_an_infinite_one() -> None:
    only = losses_on_grid(np.array([0.25]), 3, 0.5)
    assert (only._lower_loss, list(only._probs), only._infinity_mass) == (3, [0.75], 0.25)


def test_all_at_once_is_one_after_the_other() -> None:
    parts = [one_step(1.0, 0.1, 0.02), one_step(3.0, 0.5, 0.02), one_step(9.0, 1.0, 0.02)]
    times = [40, 7, 1]
    whole = parts[0].self_compose(times[0])
    for part, number in zip(parts[1:], times[1:], strict=True):
        whole = whole.compose(part.self_compose(number))
    at_once = curve(composed_losses(parts, times))
    assert np.all(np.abs(at_once - curve(whole)) < 1e-13)


@pytest.mark.parametrize("times", [1, 2, 1000])
def test_what_is_cut_off_counts_as_an_infinite_loss(times: int) -> None:
    part = one_step(2.0, 0.05, 0.01)
    whole = composed_losses([part], [times])
    assert 1 - 1e-12 < float(whole._probs.sum()) + whole._infinity_mass < 1 + 2e-12 * (times + 1)
    assert whole._infinity_mass >= part._infinity_mass + 1e-15
    assert whole._probs.min() >= 0


@pytest.mark.parametrize("factor", [1, 3, 27])
def test_a_coarser_grid_lies_above_and_keeps_both_probabilities(factor: int) -> None:
    fine = one_step(1.0, 0.3, 0.01)
    coarse = on_coarser_grid(fine, factor)
    assert coarse._discretization == pytest.approx(factor * 0.01)

    def strangers(losses: DensePLDPmf) -> float:
        at = (np.arange(losses.size) + losses._lower_loss) * losses._discretization
        return float(losses._probs @ np.exp(-at))

    assert coarse._probs.sum() == pytest.approx(fine._probs.sum(), rel=1e-13)
    assert strangers(coarse) == pytest.approx(strangers(fine), rel=1e-12)
    assert coarse._infinity_mass == fine._infinity_mass
    above = curve(coarse) - curve(fine)
    assert above.min() >= -1e-15
    # on the coarser grid's own losses the two curves are the same
    for loss in np.arange(-9, 9) * factor * 0.01:
        delta = fine.get_delta_for_epsilon(float(loss))
        assert coarse.get_delta_for_epsilon(float(loss)) == pytest.approx(delta, rel=1e-9)


@pytest.mark.parametrize("spread", [0.3, 4.0])
def test_a_hundred_kinds_are_just_above_the_exact_gaussian(spread: float) -> None:
    generator = np.random.default_rng(5)
    steps = [int(number) for number in np.exp(generator.uniform(0, 8, 100))]
    mus = 0.2 * np.exp(generator.uniform(-spread, 0, 100))
    parts = tuple(
        SampledSteps(math.sqrt(number) / mu, 1.0, number)
        for number, mu in zip(steps, mus, strict=True)
    )
    loss, exact = PrivacyLoss(0.3, parts), PrivacyLoss(math.hypot(0.3, *mus))
    for delta in (1e-1, 1e-4, 1e-9):
        alone = gaussian_epsilon(exact.mu, delta)
        assert alone <= loss.epsilon(delta) <= 1.001 * alone
    for rate in (1e-3, 0.1):
        found = exact.true_positive_rate(rate)
        assert found <= loss.true_positive_rate(rate) <= 1.002 * found


def test_a_record_that_grows_composes_only_what_is_new() -> None:
    noises = np.linspace(4.03, 9.07, 12)
    parts = tuple(SampledSteps(float(noise), 0.1, 400) for noise in noises)
    accounting._of_kind.cache_clear()
    epsilons, new = [], []
    for number in range(8, 13):
        before = accounting._of_kind.cache_info().misses
        epsilons.append(PrivacyLoss(sampled=parts[:number]).epsilon(1e-4))
        new.append(accounting._of_kind.cache_info().misses - before)
    assert all(less < more for less, more in pairwise(epsilons))
    assert max(new[1:]) <= new[0] / 8 + 1  # one kind on each grid


@pytest.mark.parametrize("noise", [800.0, 3e9, 3e15])
def test_a_kind_of_no_width_beside_a_wide_one(noise: float) -> None:
    wide = PrivacyLoss(2.0)
    loss = PrivacyLoss(2.0, (SampledSteps(noise, 0.001, 5), SampledSteps(noise, 0.01, 1000)))
    assert wide.epsilon(1e-5) <= loss.epsilon(1e-5) <= 1.001 * wide.epsilon(1e-5)


def test_rare_wide_losses_do_not_make_the_grid_of_many_steps_wide() -> None:
    part = SampledSteps(0.4, 0.003, 1000)
    for losses in accounting._of_kind(part, 0.01, 1):
        # was thousands wide in the direction of the unit that is added
        assert losses.size * 0.01 < 500
