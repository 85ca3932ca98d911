"""Risks: bounds on guesses, held against exact values and riskcal, and noise that keeps a risk."""

import itertools
import math
from typing import Any

import mpmath
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from pydantic import ValidationError
from riskcal.analysis import get_bayes_risk_from_gdp, get_beta_from_gdp, get_beta_from_pld
from scipy.special import ndtri

from synthdp.errors import InputError
from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.accounting.odds import Odds
from synthdp.privacy.accounting.privacy_loss import NO_LOSS, PrivacyLoss
from synthdp.privacy.accounting.sampled_step import SampledSteps
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.promise.stated import parse_statement
from synthdp.privacy.promise.statement import Statement, make_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.privacy.settings import PrivacySettings, RiskTarget
from synthdp.privacy.target import Target

MUS = (1e-9, 1e-6, 1e-3, 0.1, 0.314, 1.46, 3.71, 7.92, 20.0, 59.9)
RATES = (1e-9, 1e-6, 1e-4, 0.01, 0.1, 0.5, 0.9, 1 - 1e-6)
SAMPLED = (
    PrivacyLoss(sampled=(SampledSteps(4.337, 1 / 9, 2700),)),
    PrivacyLoss(mu=0.4, sampled=(SampledSteps(3.0, 0.05, 200),)),
    PrivacyLoss(sampled=(SampledSteps(1.5, 0.05, 100), SampledSteps(30.0, 0.3, 1000))),
)
RISK = RiskTarget(found=0.05, false_alarms=0.01)


def exact_rate(mu: float, rate: float) -> mpmath.mpf:
    """Phi(Phi^-1(a) + mu), in 40 digits; Phi^-1 by Newton's method from the double."""
    with mpmath.workdps(40):
        a = mpmath.mpf(rate)
        x = mpmath.mpf(float(ndtri(rate)))
        for _ in range(6):
            x -= (mpmath.ncdf(x) - a) / mpmath.npdf(x)
        return mpmath.ncdf(x + mpmath.mpf(mu))


@pytest.mark.parametrize("mu", MUS)
def test_gaussian_risks_are_just_above_the_exact_ones(mu: float) -> None:
    loss = PrivacyLoss(mu)
    for rate in RATES:
        ours, exact = loss.success(rate), exact_rate(mu, rate)
        assert exact <= ours <= 1
        assert ours == pytest.approx(float(exact), rel=1e-10)


def test_every_risk_lies_above_the_exact_one_at_settings_drawn_at_random() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        mu = float(np.exp(generator.uniform(math.log(1e-6), math.log(50))))
        rate = float(np.exp(generator.uniform(math.log(1e-9), math.log(0.999))))
        loss = PrivacyLoss(mu)
        assert exact_rate(mu, rate) <= loss.success(rate) == loss.true_positive_rate(rate)
        theirs = float(1 - get_beta_from_gdp(mu, rate))  # whose 1 - beta holds 16 decimals
        assert loss.success(rate) >= theirs * (1 - 1e-9) - 1e-15
        assert loss.success(rate) - rate <= loss.gain * (1 + 1e-9) + 1e-10


def test_ends_of_the_scale_of_risks() -> None:
    for rate in (*RATES, 0.0, 1.0):
        assert NO_LOSS.success(rate) == rate  # nothing is rounded up from chance
        assert PrivacyLoss(math.inf).success(rate) == 1
        assert PrivacyLoss(1e9).success(rate) == 1
        assert rate <= SAMPLED[0].success(rate) <= 1
    assert PrivacyLoss(1.0).success(1.0) == 1
    assert (NO_LOSS.gain, NO_LOSS.best_accuracy) == (0.0, 0.5)
    assert math.copysign(1, NO_LOSS.gain) == 1
    assert PrivacyLoss(math.inf).gain == PrivacyLoss(math.inf).best_accuracy == 1


@pytest.mark.parametrize("mu", [0.1, 1.46, 5.0])
def test_an_even_attribute_is_found_as_two_opposite_patients_are_told_apart(mu: float) -> None:
    # gradients of the two values may point to opposite sides: twice the sensitivity, so twice mu
    told_apart = 1 - get_bayes_risk_from_gdp(2 * mu, 0.5)
    assert PrivacyLoss(mu).success(0.5) == pytest.approx(told_apart, rel=1e-9)


@pytest.mark.parametrize("prior", [0.03, 0.3, 0.5, 0.8])
def test_no_pair_of_attribute_values_is_told_apart_more_often_than_stated(prior: float) -> None:
    for mu in (0.05, 0.5, 1.46, 4.0):
        accuracy = 1 - get_bayes_risk_from_gdp(2 * mu, prior)
        assert accuracy <= PrivacyLoss(mu).success(max(prior, 1 - prior)) * (1 + 1e-9)


@pytest.mark.parametrize("loss", SAMPLED)
def test_risks_with_samples_are_riskcals(loss: PrivacyLoss) -> None:
    parts = (*loss.sampled, *([SampledSteps(1 / loss.mu, 1.0, 1)] if loss.mu else []))
    distributions = [
        privacy_loss_distribution.from_gaussian_mechanism(
            part.noise_multiplier,
            sampling_prob=part.sampling_rate,
            value_discretization_interval=2e-3,
        ).self_compose(part.steps)
        for part in parts
    ]
    whole = distributions[0]
    for distribution in distributions[1:]:
        whole = whole.compose(distribution)
    rates = np.array([1e-6, 1e-3, 0.01, 0.1, 0.5, 0.9])
    theirs = 1 - np.asarray(get_beta_from_pld(whole, alpha=rates))
    ours = [loss.success(rate) for rate in rates]
    assert ours == pytest.approx(theirs, rel=0.01)


def test_risks_with_samples_lie_above_the_exact_ones() -> None:
    # steps at rate 1 go through the same distributions, and their risk is known exactly
    for steps, mu in itertools.product((1, 50, 3000), (0.05, 1.0, 6.0)):
        loss = PrivacyLoss(sampled=(SampledSteps(math.sqrt(steps) / mu, 1.0, steps),))
        for rate in RATES:
            exact = float(exact_rate(mu, rate))
            assert exact <= loss.success(rate) <= min(exact * 1.003 + 1e-12, 1.0)


def test_odds_of_every_guess() -> None:
    mu = gaussian_mu(6, 1e-4)
    odds = Odds.of([PrivacyLoss(0.3), PrivacyLoss(mu)], 10**9)
    loss = PrivacyLoss(mu)
    assert odds.reidentified == loss.success(1e-9) == pytest.approx(2.8e-6, rel=0.02)
    assert odds.attribute_even == loss.success(0.5) == pytest.approx(0.928, abs=1e-3)
    assert odds.attribute_of_ten == loss.success(0.1) == pytest.approx(0.571, abs=1e-3)
    assert odds.reconstructed == loss.success(1e-6) == pytest.approx(4.94e-4, rel=1e-2)
    assert odds.gain == pytest.approx(2 * odds.best_accuracy - 1)
    older = {"found_at_1_percent": 0.2, "found_at_01_percent": 0.1, "best_accuracy": 0.7}
    assert Odds.model_validate(older).attribute_even is None


# Noise for a risk.


def keeping(risk: RiskTarget = RISK, **changes: Any) -> Mechanism:
    values: dict[str, Any] = {"delta": 1e-4, "steps": 60, "normaliser": 600, "risk": risk}
    return Mechanism.reaching(**{**values, **changes})


@pytest.mark.parametrize("false_alarms", [1e-9, 1e-4, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("more", [1e-6, 1e-3, 0.3, 0.9, 1 - 1e-6])
def test_noise_keeps_a_risk_and_wastes_none(false_alarms: float, more: float) -> None:
    risk = RiskTarget(found=false_alarms + more * (1 - false_alarms), false_alarms=false_alarms)
    for before in (NO_LOSS, PrivacyLoss(0.99 * Target(1e-4, risk=risk).mu)):
        whole = before.with_loss(keeping(risk, before=before).loss())
        assert whole.true_positive_rate(false_alarms) <= risk.found
        assert PrivacyLoss(whole.mu * (1 + 1e-4)).true_positive_rate(false_alarms) > risk.found


@pytest.mark.parametrize("risk", [RISK, RiskTarget(found=0.5, false_alarms=1e-3)])
@pytest.mark.parametrize(
    "before", [NO_LOSS, PrivacyLoss(0.1), PrivacyLoss(0.1, (SampledSteps(4.0, 0.02, 50),))]
)
@pytest.mark.parametrize("rate", [1.0, 0.05])
def test_what_came_before_is_taken_off_the_risk(
    risk: RiskTarget, before: PrivacyLoss, rate: float
) -> None:
    found = keeping(risk, sampling_rate=rate, before=before)
    rate_found = before.with_loss(found.loss()).true_positive_rate(risk.false_alarms)
    assert 0.995 * risk.found <= rate_found <= risk.found


def test_a_risk_is_an_epsilon_where_no_step_is_sampled() -> None:
    found = keeping()
    epsilon = found.loss().epsilon(1e-4)
    assert epsilon == pytest.approx(2.426, abs=1e-3)
    by_epsilon = keeping(risk=None, epsilon=epsilon)
    assert by_epsilon.noise_multiplier == pytest.approx(found.noise_multiplier, rel=1e-6)


@pytest.mark.parametrize("before", [PrivacyLoss(0.682), PrivacyLoss(2.0), SAMPLED[0]])
@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_a_risk_that_is_spent_is_refused(before: PrivacyLoss, rate: float) -> None:
    with pytest.raises(InputError, match=r"^privacy\.risk is at most 5 % of members.*has spent"):
        keeping(sampling_rate=rate, before=before)


@pytest.mark.parametrize(
    ("found", "false_alarms"), [(0.01, 0.01), (0.01, 0.05), (0.0, 0.01), (1.0, 0.5), (0.5, 0.0)]
)
def test_risks_that_are_none_are_refused(found: float, false_alarms: float) -> None:
    with pytest.raises(ValidationError, match=r"found|false_alarms"):
        RiskTarget(found=found, false_alarms=false_alarms)


def test_one_target_is_asked_for_and_a_population_with_it() -> None:
    asked = {"found": 0.05, "false_alarms": 0.01}
    assert PrivacySettings.model_validate({"risk": asked}).protects
    assert not PrivacySettings.model_validate({"risk": "none"}).protects
    with pytest.raises(ValidationError, match="epsilon and risk both say"):
        PrivacySettings.model_validate({"epsilon": 6, "risk": asked})
    with pytest.raises(ValueError, match=r"privacy\.population is missing"):
        PrivacySettings.model_validate({"risk": asked}).refuse_missing_population()
    with pytest.raises(ValueError, match=r"privacy\.risk is for a single run"):
        PrivacySettings.model_validate({"risk": asked}).refuse_risk()


# What a statement says of it.


def stated(mechanism: Mechanism, risk: RiskTarget | None) -> Statement:
    release = Release(stage="finetune", data="clinic", mu=mechanism.mu, mechanism=mechanism)
    return make_statement(
        Lineage(releases=(release,)),
        subject="classifier",
        population=600,
        stage=release,
        risk=risk,
    )


@pytest.mark.parametrize("rate", [1.0, 0.05])
def test_the_statement_gives_the_risk_that_was_asked_for_and_the_epsilon(rate: float) -> None:
    risk = RiskTarget(found=0.0333, false_alarms=0.01)
    made = stated(keeping(risk, sampling_rate=rate, normaliser=600 * rate), risk)
    text = statement_text(made)
    asked = "asked for: at most 3.33 % of members found while 1 % of strangers are falsely accused"
    assert f"- {asked}; kept" in text
    assert f"epsilon = {epsilon_text(made.epsilon)} for each patient" in text
    assert parse_statement(made.model_dump(mode="json"), where="x") == made


def test_a_risk_that_is_not_kept_is_said_not_to_be() -> None:
    made = stated(keeping(RISK), RiskTarget(found=0.02, false_alarms=0.01))
    assert "falsely accused; NOT kept: 5 % may be found" in statement_text(made)


def test_the_statement_has_words_for_every_guess() -> None:
    text = statement_text(stated(keeping(risk=None, epsilon=6.0), None))
    assert "as often true as not is guessed right in at most 93 % (chance: 50 %)" in text
    assert "one of ten equally likely values in 58 % (10 %)" in text
    assert "at most 54 percentage points more often than without the result" in text
    assert "once in a million times is reconstructed in at most 0.05 % of attempts" in text
    assert "asked for" not in text
    older = stated(keeping(), None)
    unset = {"attribute_even": None, "attribute_of_ten": None, "reconstructed": None, "gain": None}
    odds = older.odds.model_copy(update=unset)
    assert "a million" not in statement_text(older.model_copy(update={"odds": odds}))
