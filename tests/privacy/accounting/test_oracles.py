"""The accountant against others' code, over a fixed grid of 100 settings.

The grid is the first 100 points of an unscrambled Halton sequence over (epsilon 0.05 to 60, rate
0.002 to 0.5, steps 10 to 5000, delta 1e-6 to 1e-3), each log-uniform; every third point has rate 1.
The noise follows from the central limit of Bu, Dong, Long and Su (arXiv 1911.11607), so that the
true epsilon is near the drawn one; the tests compare epsilons at that noise.

Opacus takes the error to expect as an argument and returns its estimate plus that error; the error
is taken off again here, or an oracle with error 0.01 could only be compared within 0.02. Its worst
error is set to the tolerance of the comparison. riskcal stands on dp_accounting's own discretised
steps, which aren't ours; its grid is a tenth of a step's standard deviation, since its default of
1e-4 takes minutes where losses are wide, and is coarse where they are narrow.
"""

import functools
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from opacus.accountants import PRVAccountant
from riskcal.analysis import (
    get_advantage_from_gdp,
    get_advantage_from_pld,
    get_beta_from_gdp,
    get_beta_from_pld,
)
from riskcal.calibration.dpsgd import create_dpsgd_epsilon_evaluator
from scipy.stats import qmc

from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.accounting.privacy_loss import PrivacyLoss
from synthdp.privacy.mechanism import Mechanism


@dataclass(frozen=True)
class Setting:
    noise: float
    rate: float
    steps: int
    delta: float

    @functools.cached_property
    def loss(self) -> PrivacyLoss:
        mechanism = Mechanism(
            sampling_rate=self.rate, noise_multiplier=self.noise, steps=self.steps, normaliser=1
        )
        return mechanism.loss()

    @functools.cached_property
    def epsilon(self) -> float:
        return self.loss.epsilon(self.delta)

    @property
    def interval(self) -> float:
        """A tenth of the standard deviation of one step's loss, about."""
        return max(0.1 * self.rate * math.sqrt(math.expm1(min(self.noise**-2, 3.0))), 1e-5)


def settings() -> list[Setting]:
    low, high = np.log([0.05, 0.002, 10, 1e-6]), np.log([60, 0.5, 5000, 1e-3])
    drawn = np.exp(qmc.scale(qmc.Halton(4, scramble=False).random(101)[1:], low, high))
    found = []
    for number, (epsilon, drawn_rate, drawn_steps, delta) in enumerate(drawn):
        rate, steps = 1.0 if number % 3 == 0 else float(drawn_rate), round(drawn_steps)
        mu = gaussian_mu(epsilon, delta) / (rate * math.sqrt(steps))
        noise = 1 / mu if rate == 1 else 1 / math.sqrt(math.log1p(mu**2))
        found.append(Setting(float(noise), rate, steps, float(delta)))
    return found


GRID = settings()


def agrees(ours: float, theirs: float) -> bool:
    return abs(ours - theirs) <= max(0.01, 0.01 * theirs)


@pytest.mark.slow
def test_the_grid_is_what_it_says() -> None:
    epsilons = [setting.epsilon for setting in GRID]
    assert len(GRID) == 100
    assert sum(setting.rate == 1 for setting in GRID) == 34
    assert min(epsilons) < 0.06
    assert max(epsilons) > 40


@pytest.mark.slow
def test_epsilon_agrees_with_opacus_prv() -> None:
    wrong = []
    for setting in GRID:
        accountant = PRVAccountant()
        accountant.history = [(setting.noise, setting.rate, setting.steps)]
        error = max(0.01, 0.01 * setting.epsilon)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # it takes log(0) at rate 1
            theirs = accountant.get_epsilon(setting.delta, eps_error=error) - error
        if not agrees(setting.epsilon, theirs):
            wrong.append((setting, setting.epsilon, theirs))
    assert not wrong


@pytest.mark.slow
def test_epsilon_agrees_with_riskcal() -> None:
    wrong = []
    for setting in GRID:
        evaluate = create_dpsgd_epsilon_evaluator(
            setting.rate, setting.steps, setting.delta, grid_step=setting.interval
        )
        theirs = evaluate(setting.noise).epsilon
        if not agrees(setting.epsilon, theirs):
            wrong.append((setting, setting.epsilon, theirs))
    assert not wrong


@pytest.mark.parametrize("false_alarms", [1e-3, 0.01, 0.1])
def test_gaussian_attackers_odds_are_riskcals(false_alarms: float) -> None:
    for setting in [setting for setting in GRID if setting.rate == 1]:
        beta = get_beta_from_gdp(setting.loss.mu, false_alarms)
        advantage = get_advantage_from_gdp(setting.loss.mu)
        assert setting.loss.true_positive_rate(false_alarms) == pytest.approx(1 - beta, rel=1e-9)
        assert 2 * setting.loss.best_accuracy - 1 == pytest.approx(advantage, rel=1e-6)


@pytest.mark.slow
def test_attackers_odds_with_samples_agree_with_riskcal() -> None:
    rates = np.array([1e-3, 0.01, 0.1])
    for setting in [setting for setting in GRID if setting.rate < 1][::8]:
        distribution = privacy_loss_distribution.from_gaussian_mechanism(
            setting.noise,
            sampling_prob=setting.rate,
            value_discretization_interval=setting.interval,
        ).self_compose(setting.steps)
        theirs = 1 - np.asarray(get_beta_from_pld(distribution, alpha=rates))
        ours = [setting.loss.true_positive_rate(rate) for rate in rates]
        assert ours == pytest.approx(theirs, rel=0.01, abs=1e-5), setting
        advantage = get_advantage_from_pld(distribution)
        assert 2 * setting.loss.best_accuracy - 1 == pytest.approx(advantage, rel=0.01), setting
