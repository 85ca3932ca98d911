"""Bounds are tested on ideal scores: N(mu, 1) for canaries that took part, N(0, 1) for others."""

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from synthdp.privacy.accounting.gaussian import gaussian_epsilon, gaussian_mu
from synthdp.privacy.attacks.audit import (
    Counts,
    best_threshold,
    correct_guesses,
    expected_correct,
    fitted_mu,
    noise_flaws,
    one_run_mu,
    planned_guesses,
    too_many_correct,
)

DELTA = 1e-4


def coins(mu: float, canaries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    inside = generator.random(canaries) < 0.5
    return generator.normal(size=canaries) + mu * inside, inside


@pytest.mark.parametrize("mu", [0.3, 1.46, 3.7])
def test_one_coin_is_guessed_no_better_than_a_gaussian_allows(mu: float) -> None:
    best = norm.cdf(mu / 2)
    assert too_many_correct(mu, 1, 1, 1, best + 1e-6)
    assert not too_many_correct(mu, 1, 1, 1, best - 1e-6)


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.46])
def test_independent_coins_stay_within_the_bound_on_correct_guesses(mu: float) -> None:
    for correct in (25, 30, 36, 40):
        chance = binom.sf(correct - 1, 40, norm.cdf(mu / 2))
        assert not too_many_correct(mu, correct, 40, 40, chance * (1 - 1e-9))


@pytest.mark.parametrize(("epsilon", "noted"), [(6.0, 2.35), (12.0, 4.0), (20.0, 5.5)])
def test_the_fdp_bound_gives_the_figures_of_the_notes(epsilon: float, noted: float) -> None:
    """Those (notes/privacy.md, section 5) are for 578 canaries at 95 %, members guessed alone: one
    half of the canaries chooses the threshold, and the other half is counted."""
    mu, half, found = gaussian_mu(epsilon, DELTA), 289, []
    for seed in range(10):
        scores, inside = coins(mu, half, seed)
        right = np.cumsum(inside[np.argsort(-scores)])
        best = max(range(4, 145, 8), key=lambda n: one_run_mu(int(right[n - 1]), n, half, 0.95))
        threshold = np.sort(scores)[-best]
        scores, inside = coins(mu, half, seed + 100)
        guessed = scores >= threshold
        limit = one_run_mu(int(inside[guessed].sum()), int(guessed.sum()), half, 0.95)
        found.append(gaussian_epsilon(limit, DELTA))
    assert np.mean(found) == pytest.approx(noted, abs=0.6)


def test_guessing_both_ways_with_a_number_fixed_beforehand_is_tighter() -> None:
    mu = gaussian_mu(6.0, DELTA)
    guesses = planned_guesses(mu, 578, 0.95)
    found = []
    for seed in range(10):
        scores, inside = coins(mu, 578, seed)
        limit = one_run_mu(correct_guesses(scores, inside, guesses), guesses, 578, 0.95)
        found.append(gaussian_epsilon(limit, DELTA))
    assert 3.0 < np.mean(found) < 4.3
    assert max(found) < 6.0


def test_expected_share_of_correct_guesses() -> None:
    scores, inside = coins(1.46, 200_000, 0)
    for share in (0.1, 0.5, 1.0):
        guesses = int(share * len(scores))
        seen = correct_guesses(scores, inside, guesses) / guesses
        assert expected_correct(1.46, share) == pytest.approx(seen, abs=0.005)


def test_no_guess_shows_nothing_and_all_right_shows_much() -> None:
    assert one_run_mu(0, 0, 100, 0.99) == 0
    assert one_run_mu(50, 100, 100, 0.99) == 0
    assert 1.9 < one_run_mu(1000, 1000, 1000, 0.99) < one_run_mu(5000, 5000, 5000, 0.99)


@pytest.mark.parametrize("mu", [1.46, 7.9])
@pytest.mark.parametrize("number", [30, 250])
def test_the_limit_of_the_fit_covers_mu_as_often_as_it_says(mu: float, number: int) -> None:
    """2000 trials at 95 %: the share above mu is 5 % +- 0.5 %; 7.2 % is more than 4 sigma off."""
    generator = np.random.default_rng(0)
    inside, outside = (
        generator.normal(mu, 1, (2000, number)),
        generator.normal(0, 1, (2000, number)),
    )
    limits = [fitted_mu(3 * a, 3 * b, 0.95) for a, b in zip(inside, outside, strict=True)]
    assert 0.02 < np.mean(np.array(limits) > mu) < 0.072


def test_a_fit_without_any_spread_is_infinite_and_without_scores_is_nothing() -> None:
    assert math.isinf(fitted_mu(np.full(9, 2.0), np.zeros(9), 0.99))
    assert fitted_mu(np.zeros(9), np.zeros(9), 0.99) == 0
    assert fitted_mu(np.array([]), np.zeros(9), 0.99) == 0


def test_clopper_pearson_limits_are_known_ones() -> None:
    found, alarms = Counts(0, 250, 0, 250).limits(0.98)
    assert found == 0
    assert alarms == pytest.approx(1 - 0.01 ** (1 / 250))
    found, _ = Counts(250, 250, 250, 250).limits(0.98)
    assert found == pytest.approx(0.01 ** (1 / 250))


@pytest.mark.parametrize("epsilon", [1.0, 6.0, 20.0])
def test_clopper_pearson_bounds_are_below_the_truth(epsilon: float) -> None:
    """99 % limits: of 200 trials more than 8 above the truth have a chance below 0.1 %."""
    mu = gaussian_mu(epsilon, DELTA)
    threshold = best_threshold(mu, 250, 250, DELTA, 0.99)
    generator = np.random.default_rng(1)
    beaten_free = beaten_curve = 0
    for _ in range(200):
        inside, outside = generator.normal(mu, 1, 250), generator.normal(0, 1, 250)
        beaten_free += Counts.at(threshold, inside, outside).epsilon(DELTA, 0.99) > epsilon
        beaten_curve += Counts.at(mu / 2, inside, outside).mu(0.99) > mu
    assert beaten_free <= 8
    assert beaten_curve <= 8


def test_clopper_pearson_shows_something() -> None:
    mu = gaussian_mu(6.0, DELTA)
    generator = np.random.default_rng(1)
    inside, outside = generator.normal(mu, 1, 2000), generator.normal(0, 1, 2000)
    threshold = best_threshold(mu, 2000, 2000, DELTA, 0.99)
    assert Counts.at(threshold, inside, outside).epsilon(DELTA, 0.99) > 2
    assert Counts.at(mu / 2, inside, outside).mu(0.99) > 0.85 * mu


def test_sound_noise_passes() -> None:
    """300 trials at a risk of 1 %: more than 12 findings have a chance below 1e-4."""
    generator = np.random.default_rng(0)
    found = sum(bool(noise_flaws(generator.normal(size=(20, 5)), 0.01)) for _ in range(300))
    assert found <= 12


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda noise: noise * 2 / 3, "of another scale"),
        (lambda noise: noise * 0, "of another scale"),
        (np.sign, "not normal"),
        (lambda noise: np.tile(noise[:1], (len(noise), 1)), "repeated over steps"),
    ],
)
def test_unsound_noise_is_named(spoil: object, named: str) -> None:
    noise = np.random.default_rng(3).normal(size=(40, 12))
    assert named in noise_flaws(spoil(noise), 1e-6)
