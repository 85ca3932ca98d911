import doctest
import itertools
import math
from types import ModuleType

import mpmath
import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import pld_privacy_accountant

from synthdp.errors import InputError
from synthdp.privacy import mechanism
from synthdp.privacy.accounting import gaussian
from synthdp.privacy.accounting import privacy_loss as accounting
from synthdp.privacy.accounting.gaussian import gaussian_delta, gaussian_epsilon, gaussian_mu
from synthdp.privacy.accounting.privacy_loss import NO_LOSS, PrivacyLoss, composed, noise_for
from synthdp.privacy.accounting.sampled_step import SampledSteps, step_delta
from synthdp.privacy.mechanism import Mechanism

DELTA = 1e-4


@pytest.mark.parametrize(
    ("epsilon", "mu"), [(1, 0.314), (6, 1.460), (12, 2.530), (20, 3.711), (60, 7.920)]
)
def test_known_values(epsilon: float, mu: float) -> None:
    assert gaussian_mu(epsilon, DELTA) == pytest.approx(mu, abs=5e-4)


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1, 3, 6, 12, 20, 60, 300])
@pytest.mark.parametrize("delta", [0.1, 1e-3, 1e-4, 1e-6, 1e-12])
def test_calibration_stays_on_the_safe_side(epsilon: float, delta: float) -> None:
    reached = gaussian_epsilon(gaussian_mu(epsilon, delta), delta)
    assert 0.999 * epsilon <= reached <= epsilon


@pytest.mark.parametrize("epsilon", [1e-12, 1e-9, 1e-6, 1e-5, 1e-3, 1, 60, 1000])
@pytest.mark.parametrize("delta", [1e-300, 1e-100, 1e-30, 1e-12, 0.5, 0.999, 1 - 1e-12])
@pytest.mark.parametrize("share", [0, 0.99])
def test_no_target_however_odd_is_exceeded(epsilon: float, delta: float, share: float) -> None:
    before = PrivacyLoss(mu=share * gaussian_mu(epsilon, delta))
    found = reaching(epsilon, delta=delta, before=before)
    assert before.with_loss(found.loss()).epsilon(delta) <= epsilon


def test_a_target_whose_square_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="no noise is enough at delta 1e-300; raise it"):
        reaching(1e-300, delta=1e-300)


@pytest.mark.parametrize("epsilon", [1.0, 6.0, 20.0])
def test_agrees_with_dp_accounting(epsilon: float) -> None:
    found = reaching(epsilon, steps=60)
    accountant = pld_privacy_accountant.PLDAccountant()
    accountant.compose(dp_event.GaussianDpEvent(found.noise_multiplier), found.steps)
    assert accountant.get_epsilon(DELTA) == pytest.approx(epsilon, rel=0.01)


def test_epsilon_grows_with_steps_and_falls_with_noise() -> None:
    def epsilon(steps: int, noise: float) -> float:
        return gaussian_epsilon(
            Mechanism(noise_multiplier=noise, steps=steps, normaliser=1).mu, DELTA
        )

    by_steps = [epsilon(steps, 5.0) for steps in (1, 10, 60, 200)]
    by_noise = [epsilon(60, noise) for noise in (2.0, 5.0, 20.0)]
    assert by_steps == sorted(by_steps)
    assert by_noise == sorted(by_noise, reverse=True)


def test_ends_of_the_scale() -> None:
    assert gaussian_epsilon(0.0, DELTA) == 0.0
    assert gaussian_epsilon(math.inf, DELTA) == math.inf
    assert Mechanism(noise_multiplier=0, steps=3, normaliser=1).mu == math.inf
    assert gaussian_delta(1.0, 0.0) == pytest.approx(0.3829, abs=1e-4)


@pytest.mark.parametrize(("module", "examples"), [(accounting, 2), (gaussian, 2), (mechanism, 5)])
def test_the_examples_in_the_docstrings(module: ModuleType, examples: int) -> None:
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted == examples


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 1e9, math.nan, math.inf])
def test_impossible_targets_are_refused(epsilon: float) -> None:
    with pytest.raises(InputError, match=r"privacy\.epsilon"):
        gaussian_mu(epsilon, DELTA)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-9, 2.0, math.nan])
def test_impossible_deltas_are_refused(delta: float) -> None:
    sampled = PrivacyLoss(sampled=(SampledSteps(4.0, 0.1, 10),))
    for ask in (
        lambda: gaussian_mu(1.0, delta),
        lambda: gaussian_epsilon(1.0, delta),
        lambda: sampled.epsilon(delta),
        lambda: reaching(1.0, delta=delta),
        lambda: reaching(1.0, delta=delta, sampling_rate=0.1),
    ):
        with pytest.raises(InputError, match="delta"):
            ask()


def exact_delta(mu: float, epsilon: float) -> mpmath.mpf:
    """Theorem 8 of Balle and Wang as it stands, to 80 digits."""
    with mpmath.workdps(80):
        m, e = mpmath.mpf(mu), mpmath.mpf(epsilon)

        def below(x: mpmath.mpf) -> mpmath.mpf:
            return mpmath.erfc(-x / mpmath.sqrt(2)) / 2

        return below(m / 2 - e / m) - mpmath.exp(e) * below(-m / 2 - e / m)


@pytest.mark.parametrize("mu", [1e-8, 1e-4, 0.01, 0.3, 0.999, 1.001, 3.0, 20.0, 60.0])
def test_delta_is_never_below_the_exact_one(mu: float) -> None:
    for deviations in [-3, -0.1, 0, 1e-3, 0.5, 1, 3, 7, 20]:
        epsilon = mu * (mu / 2 + deviations)
        exact = exact_delta(mu, epsilon)
        assert 0 <= gaussian_delta(mu, epsilon) / exact - 1 < 3e-12


@pytest.mark.parametrize("mu", [1e-3, 0.314, 1.46, 7.92, 60.0])
@pytest.mark.parametrize("delta", [0.01, 1e-4, 1e-12])
def test_epsilon_is_just_above_the_exact_one(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)
    assert exact_delta(mu, epsilon) <= delta
    if epsilon > 0:
        assert exact_delta(mu, epsilon * (1 - 1e-9)) > delta


def exact_step_delta(sigma: float, rate: float, epsilon: float, add: bool) -> mpmath.mpf:
    """The integral of (P - e^epsilon Q)+ over the noisy sum, with N and its mixture as P and Q."""
    with mpmath.workdps(30):

        def density(x: mpmath.mpf, mean: int) -> mpmath.mpf:
            return mpmath.npdf(x, mean, sigma)

        def excess(x: mpmath.mpf) -> mpmath.mpf:
            mixture = (1 - rate) * density(x, 0) + rate * density(x, 1)
            p, q = (density(x, 0), mixture) if add else (mixture, density(x, 0))
            return p - mpmath.exp(epsilon) * q

        signed = -epsilon if add else epsilon
        edge = mpmath.mpf(1) / 2 + sigma**2 * mpmath.log((mpmath.exp(signed) - 1 + rate) / rate)
        ends = [edge - 30 * sigma, edge] if add else [edge, edge + 30 * sigma]
        return mpmath.quad(excess, ends)


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize(("sigma", "rate"), [(0.5, 0.01), (1.0, 0.3), (5.0, 0.9), (2.0, 1.0)])
def test_one_steps_curve_is_the_integral(sigma: float, rate: float, add: bool) -> None:
    for epsilon in [-0.005, 0.0, 0.004, 0.05 if not add or rate > 0.1 else 0.009]:
        ours = step_delta(sigma, rate, np.array([epsilon]), add=add)[0]
        exact = float(exact_step_delta(sigma, rate, epsilon, add))
        assert ours == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("add", [False, True])
def test_one_steps_curve_beyond_its_ends(add: bool) -> None:
    losses = np.array([-50.0, 50.0])
    expected = [-math.expm1(-50), 0.0 if add else step_delta(0.2, 0.1, losses, add=False)[1]]
    assert step_delta(0.2, 0.1, losses, add=add) == pytest.approx(expected, rel=1e-12)
    assert step_delta(0.05, 1.0, np.array([40.0]), add=add)[0] == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 1000, 100_000])
def test_composed_distribution_is_above_the_exact_gaussian(steps: int) -> None:
    part = SampledSteps(math.sqrt(steps), 1.0, steps)  # mu = 1 in all
    loss = PrivacyLoss(sampled=(part,))
    for delta in [1e-2, 1e-4, 1e-6]:
        exact = gaussian_epsilon(1.0, delta)
        assert exact <= loss.epsilon(delta) <= 1.002 * exact
        assert delta <= loss.delta(exact) <= 1.01 * delta
    assert loss.epsilon(1e-10) >= gaussian_epsilon(1.0, 1e-10)
    assert loss.epsilon(1e-17) == math.inf  # below the rounding of the Fourier transform


@pytest.mark.parametrize("interval", [1e-2, 1e-3])
def test_every_grid_is_an_upper_bound(interval: float) -> None:
    part = SampledSteps(1.0, 0.1, 200)
    finest = composed((part,), 1e-4)
    for epsilon in [0.0, 0.5, 2.0, 8.0]:
        coarse = composed((part,), interval).get_delta_for_epsilon(epsilon)
        assert coarse >= finest.get_delta_for_epsilon(epsilon)


@pytest.mark.parametrize(
    "loss",
    [
        PrivacyLoss(mu=0.7, sampled=(SampledSteps(4.0, 0.1, 300),)),
        PrivacyLoss(mu=2.0, sampled=(SampledSteps(0.9, 0.01, 500), SampledSteps(8.0, 0.5, 60))),
        PrivacyLoss(sampled=(SampledSteps(1.5, 0.05, 100), SampledSteps(30.0, 0.3, 1000))),
    ],
)
def test_mixed_compositions_agree_with_dp_accounting(loss: PrivacyLoss) -> None:
    events: list[dp_event.DpEvent] = [
        dp_event.SelfComposedDpEvent(
            dp_event.PoissonSampledDpEvent(
                part.sampling_rate, dp_event.GaussianDpEvent(part.noise_multiplier)
            ),
            part.steps,
        )
        for part in loss.sampled
    ]
    if loss.mu:
        events.append(dp_event.GaussianDpEvent(1 / loss.mu))
    accountant = pld_privacy_accountant.PLDAccountant(value_discretization_interval=3e-4)
    accountant.compose(dp_event.ComposedDpEvent(events))
    assert loss.epsilon(DELTA) == pytest.approx(accountant.get_epsilon(DELTA), rel=3e-3)
    assert loss.delta(2.0) == pytest.approx(accountant.get_delta(2.0), rel=5e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mu", [28.0, 36.0, 60.0])
def test_a_whole_study_composes_though_its_losses_overflow_an_exponential(mu: float) -> None:
    loss = PrivacyLoss(mu, (SampledSteps(1.5, 0.1, 50),))
    alone = gaussian_epsilon(mu, 1e-4)
    assert alone <= loss.epsilon(1e-4) <= 1.01 * alone
    assert loss.true_positive_rate(0.01) == pytest.approx(1.0)


def test_losses_of_one_kind_compose_by_counting_steps() -> None:
    first = PrivacyLoss(mu=3.0, sampled=(SampledSteps(4.0, 0.1, 10), SampledSteps(2.0, 0.1, 1)))
    both = first.with_loss(PrivacyLoss(mu=4.0, sampled=(SampledSteps(4.0, 0.1, 5),)))
    assert both == PrivacyLoss(5.0, (SampledSteps(2.0, 0.1, 1), SampledSteps(4.0, 0.1, 15)))


def test_sampled_epsilon_is_monotone_in_steps_rate_and_noise() -> None:
    def epsilon(noise: float, rate: float, steps: int) -> float:
        return PrivacyLoss(sampled=(SampledSteps(noise, rate, steps),)).epsilon(DELTA)

    by_steps = [epsilon(3.0, 0.1, steps) for steps in (1, 2, 10, 100, 110, 1000, 3000)]
    by_rate = [epsilon(3.0, rate, 300) for rate in (0.001, 0.01, 0.011, 0.1, 0.5, 0.9, 0.999)]
    by_noise = [epsilon(noise, 0.1, 300) for noise in (0.2, 0.5, 1, 1.02, 5, 30, 200)]
    for values in (by_steps, by_rate, by_noise[::-1]):
        assert values == sorted(values)
        assert values[0] < values[-1]
    everyone = gaussian_epsilon(math.sqrt(300) / 3.0, DELTA)
    assert by_rate[-1] <= everyone


def test_attackers_odds_are_bounds_of_the_whole_curve() -> None:
    loss = PrivacyLoss(sampled=(SampledSteps(math.sqrt(50), 1.0, 50),))  # mu = 1, as samples
    exact = PrivacyLoss(mu=1.0)
    rates = [1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9]
    for rate in rates:
        assert (
            exact.true_positive_rate(rate)
            <= loss.true_positive_rate(rate)
            <= 1.005 * exact.true_positive_rate(rate)
        )
    assert exact.best_accuracy <= loss.best_accuracy <= exact.best_accuracy + 1e-3
    assert PrivacyLoss(mu=math.inf).true_positive_rate(0.01) == 1.0
    assert PrivacyLoss(sampled=(SampledSteps(0.0, 0.1, 1),)).best_accuracy == 1.0


def reaching(
    epsilon: float,
    *,
    delta: float = DELTA,
    steps: int = 100,
    sampling_rate: float = 1.0,
    before: PrivacyLoss = NO_LOSS,
) -> Mechanism:
    return Mechanism.reaching(
        epsilon=epsilon,
        delta=delta,
        steps=steps,
        normaliser=1,
        sampling_rate=sampling_rate,
        before=before,
    )


BEFORE = {
    "nothing": NO_LOSS,
    "gaussian": PrivacyLoss(mu=0.5),
    "sampled": PrivacyLoss(sampled=(SampledSteps(3.0, 0.05, 200),)),
    "both": PrivacyLoss(mu=0.4, sampled=(SampledSteps(3.0, 0.05, 200),)),
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_what_came_before_is_taken_off(before: str, rate: float) -> None:
    found = reaching(6.0, sampling_rate=rate, before=BEFORE[before])
    whole = BEFORE[before].with_loss(found.loss())
    assert 0.999 * 6.0 <= whole.epsilon(DELTA) <= 6.0


@pytest.mark.parametrize("before", ["gaussian", "sampled", "both"])
@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_a_spent_target_is_refused(before: str, rate: float) -> None:
    spent = BEFORE[before].epsilon(DELTA)
    for epsilon in (0.5 * spent, spent):
        with pytest.raises(InputError, match="spent"):
            reaching(epsilon, sampling_rate=rate, before=BEFORE[before])


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 1e9])
def test_impossible_targets_are_refused_with_samples(epsilon: float) -> None:
    with pytest.raises(InputError, match=r"privacy\.epsilon"):
        reaching(epsilon, sampling_rate=0.1)


@pytest.mark.parametrize(
    ("epsilon", "rate", "steps"),
    [(0.01, 0.001, 10), (60.0, 0.01, 10), (300.0, 0.5, 100), (1.0, 0.01, 100_000), (6.0, 0.999, 1)],
)
def test_calibration_in_the_corners(epsilon: float, rate: float, steps: int) -> None:
    found = reaching(epsilon, sampling_rate=rate, steps=steps)
    assert 0.999 * epsilon <= found.loss().epsilon(DELTA) <= epsilon


def test_a_target_that_needs_no_noise_is_refused() -> None:
    with pytest.raises(InputError, match="more than any noise needs"):
        reaching(1.0, steps=10, sampling_rate=1e-6)  # in a step at all with less than delta


def test_calibration_ends_when_the_loss_ignores_the_noise() -> None:
    for constant in (PrivacyLoss(mu=3.0), BEFORE["sampled"]):
        calls = itertools.count()

        def spent_at(_: float, loss: PrivacyLoss = constant, calls: object = calls) -> float:
            next(calls)  # type: ignore[call-overload]
            return loss.epsilon(DELTA)

        with pytest.raises(InputError):
            noise_for(0.1, spent_at, guess=1.0)
        assert next(calls) < 100


def test_a_target_that_was_reached_by_rounding_is_spent() -> None:
    spent = PrivacyLoss(mu=gaussian_mu(1.0, 1e-4))
    with pytest.raises(InputError, match="has spent"):
        Mechanism.reaching(epsilon=1.0, delta=1e-4, steps=10, normaliser=600, before=spent)
