"""Risks and groups against riskcal and dp_accounting, at settings drawn at random.

Seeds are fixed. The noise is drawn so that the whole composition's mu is from 0.05 to about 4, with
one or two kinds of sampled steps and, for every second setting, steps of every unit before them.
riskcal and dp_accounting stand on dp_accounting's own steps; their grid is a fifteenth of a step's
standard deviation, and theirs are upper bounds too, so that each may lie a little above the other.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from riskcal.analysis import get_advantage_from_pld, get_bayes_risk_from_pld, get_beta_from_pld
from scipy.stats import binom

from synthdp.privacy.accounting.privacy_loss import PrivacyLoss
from synthdp.privacy.accounting.sampled_step import SampledSteps


@dataclass(frozen=True)
class Drawn:
    loss: PrivacyLoss
    delta: float


def drawn(seed: int, *, groups: bool) -> Drawn:
    generator = np.random.default_rng([seed, groups])

    def between(low: float, high: float) -> float:
        return float(np.exp(generator.uniform(math.log(low), math.log(high))))

    parts = []
    for _ in range(1 + int(generator.integers(2))):
        rate, steps = between(0.005, 0.5), round(between(10, 800))
        group = int(generator.integers(2, 9)) if groups else 1
        mu = between(0.05, 2.5) / (group * rate * math.sqrt(steps))
        noise = max(1 / math.sqrt(math.log1p(mu**2)), 0.4 * group)
        parts.append(SampledSteps(noise, rate, steps, group))
    before = between(0.05, 1.0) if seed % 2 else 0.0
    return Drawn(PrivacyLoss(before, tuple(parts)), between(1e-7, 1e-3))


@lru_cache
def of_dp_accounting(loss: PrivacyLoss) -> PrivacyLossDistribution:
    """The composition as dp_accounting has it, all on one grid."""
    kinds = [*loss.sampled, *([SampledSteps(1 / loss.mu, 1.0, 1)] if loss.mu else [])]
    widths = [
        part.group * part.sampling_rate * math.sqrt(math.expm1(min(part.noise_multiplier**-2, 3)))
        for part in kinds
    ]
    interval = max(min(widths) / 15, 1e-3)
    made = [
        privacy_loss_distribution.from_mixture_gaussian_mechanism(
            part.noise_multiplier,
            sensitivities=np.arange(part.group + 1.0),
            sampling_probs=binom.pmf(np.arange(part.group + 1), part.group, part.sampling_rate),
            value_discretization_interval=interval,
        ).self_compose(part.steps)
        for part in kinds
    ]
    whole = made[0]
    for one in made[1:]:
        whole = whole.compose(one)
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("groups", [False, True])
def test_risks_of_compositions_agree_with_riskcal_and_dp_accounting(groups: bool) -> None:
    rates = np.array([1e-9, 1e-6, 1e-3, 0.01, 0.1, 0.5, 0.9])
    epsilons = np.linspace(-5, 40, 1500)
    for seed in range(4):
        setting = drawn(seed, groups=groups)
        theirs = of_dp_accounting(setting.loss)
        ours = [setting.loss.success(float(rate)) for rate in rates]
        lines = np.exp(epsilons) * rates[:, None] + theirs.get_delta_for_epsilon(epsilons)
        assert ours == pytest.approx(list(lines.min(axis=1)), rel=0.01), setting
        found = 1 - np.asarray(get_beta_from_pld(theirs, alpha=rates))
        # riskcal 1.5.1 scales the tails that a grid has cut off back into it, and so falls below
        # chance itself at 1e-9: there it is no bound, and ours must lie above it alone
        assert np.all(ours >= found * 0.99), setting
        assert ours[2:] == pytest.approx(list(found[2:]), rel=0.01), setting
        advantage = get_advantage_from_pld(theirs)
        assert setting.loss.gain == pytest.approx(advantage, rel=0.01), setting
        epsilon = theirs.get_epsilon_for_delta(setting.delta)
        assert setting.loss.epsilon(setting.delta) == pytest.approx(epsilon, rel=0.01), setting


@pytest.mark.slow
def test_no_attribute_of_two_values_is_told_apart_more_often_than_stated() -> None:
    # with one value the patient is there, with the other as if not there: riskcal's Bayes risk
    for seed in range(6):
        setting = drawn(seed, groups=False)
        theirs = of_dp_accounting(setting.loss)
        for prior in (0.02, 0.3, 0.5, 0.9):
            right = 1 - get_bayes_risk_from_pld(theirs, prior)
            blind = max(prior, 1 - prior)
            assert right <= setting.loss.success(blind) * 1.001, setting
            assert right <= blind + setting.loss.gain * 1.001, setting
