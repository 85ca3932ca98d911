import doctest
import math
from types import ModuleType

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import pld_privacy_accountant

from synthdp.errors import InputError
from synthdp.privacy import accounting, mechanism
from synthdp.privacy.accounting import gaussian_delta, gaussian_epsilon, gaussian_mu
from synthdp.privacy.mechanism import Mechanism

DELTA = 1e-4


@pytest.mark.parametrize(
    ("epsilon", "mu"), [(1, 0.314), (6, 1.460), (12, 2.530), (20, 3.711), (60, 7.920)]
)
def test_known_values(epsilon: float, mu: float) -> None:
    assert gaussian_mu(epsilon, DELTA) == pytest.approx(mu, abs=5e-4)


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1, 3, 6, 12, 20, 60, 300])
@pytest.mark.parametrize("delta", [1e-3, 1e-4, 1e-6])
def test_calibration_stays_on_the_safe_side(epsilon: float, delta: float) -> None:
    reached = gaussian_epsilon(gaussian_mu(epsilon, delta), delta)
    assert 0.999 * epsilon <= reached <= epsilon


@pytest.mark.parametrize("epsilon", [1.0, 6.0, 20.0])
def test_agrees_with_dp_accounting(epsilon: float) -> None:
    found = Mechanism.calibrate(mu=gaussian_mu(epsilon, DELTA), steps=60, normaliser=600)
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


@pytest.mark.parametrize("module", [accounting, mechanism])
def test_the_examples_in_the_docstrings(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted == 3


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 1e9])
def test_impossible_targets_are_refused(epsilon: float) -> None:
    with pytest.raises(InputError, match=r"privacy\.epsilon"):
        gaussian_mu(epsilon, DELTA)
