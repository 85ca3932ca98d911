import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare, norm

from synthdp.privacy.noisy_sum import discrete
from synthdp.privacy.noisy_sum.discrete import discrete_gaussian


def words_of(seed: int) -> discrete.Words:
    generator = np.random.default_rng(seed)
    return lambda count: generator.integers(0, 2**64, count, dtype=np.uint64)


def chances(scale: float, values: NDArray[np.int64]) -> NDArray[np.float64]:
    everything = np.arange(-int(40 * scale) - 40, int(40 * scale) + 41)
    masses = np.exp(-(everything**2) / (2 * scale**2))
    return np.exp(-(values**2) / (2 * scale**2)) / masses.sum()


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.5, 2.7, 40.0])
def test_each_number_has_its_chance(scale: float) -> None:
    n = 200_000
    drawn = discrete_gaussian(n, scale, words_of(1))
    values = np.arange(-math.ceil(3 * scale), math.ceil(3 * scale) + 1)
    expected = chances(scale, values) * n
    observed = np.array([(drawn == value).sum() for value in values])
    keep = expected > 5
    rest = n - expected[keep].sum(), n - observed[keep].sum()
    found = chisquare([*observed[keep], rest[1]], [*expected[keep], rest[0]])
    assert found.pvalue > 1e-4


def test_a_fine_lattice_has_a_gaussians_tails() -> None:
    drawn = discrete_gaussian(200_000, 1e7, words_of(2)) / 1e7
    for at in (-3.0, -1.0, 0.5, 2.0, 3.5):
        expected = norm.cdf(at)
        error = math.sqrt(expected * (1 - expected) / len(drawn))
        assert abs((drawn <= at).mean() - expected) < 5 * error


def test_no_scale_is_no_noise() -> None:
    assert discrete_gaussian(3, 0.0, words_of(0)).tolist() == [0, 0, 0]


def test_what_float64_cannot_tell_is_decided_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = chances(2.0, np.arange(-3, 4))
    monkeypatch.setattr(discrete, "_FLOAT_ERROR", 0.9)  # nearly all comparisons are then unclear
    drawn = discrete_gaussian(4000, 2.0, words_of(3))
    found = np.array([(drawn == value).mean() for value in range(-3, 4)])
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / 4000)).all()


def test_a_comparison_takes_more_bits_where_the_first_do_not_tell() -> None:
    first = int(math.exp(-1) * 2**53) << 11  # float64's own digits of 1/e: a word is not enough
    asked = []

    def words(count: int) -> NDArray[np.uint64]:
        asked.append(count)
        return np.zeros(count, dtype=np.uint64)

    tie = int(discrete._powers()[-1])  # the first 64 bits of 1/e
    assert discrete._Uniform(tie, words).below_exp(Fraction(1))
    assert asked == [1]
    assert discrete._Uniform(tie - 1, words).below_exp(Fraction(1))
    assert not discrete._Uniform(tie + 1, words).below_exp(Fraction(1))
    assert asked == [1]
    assert abs(first - tie) < 2**12


def test_words_at_the_edges_of_the_geometric_distribution() -> None:
    tie = int(discrete._powers()[-1])
    edges = np.array([tie, tie - 1, tie + 1, 2**64 - 1, 0], dtype=np.uint64)
    found = discrete._geometric(edges, lambda count: np.full(count, 2**63, dtype=np.uint64))
    assert found[1:4].tolist() == [1, 0, 0]
    assert found[0] in (0, 1)
    assert found[4] >= 44


def curve_gap(scale: float, mu: float) -> float:
    """The largest difference of delta(epsilon) between the discrete and the true Gaussian."""
    shift = round(mu * scale)
    values = np.arange(-int(12 * scale), int(12 * scale) + shift)
    one, other = (np.exp(-((values - s) ** 2) / (2 * scale**2)) for s in (0, shift))
    one, other = one / one.sum(), other / other.sum()
    exact = shift / scale
    gaps = []
    for epsilon in np.linspace(0, 6, 25):
        found = np.maximum(other - math.exp(epsilon) * one, 0).sum()
        true = norm.cdf(exact / 2 - epsilon / exact) - math.exp(epsilon) * norm.cdf(
            -exact / 2 - epsilon / exact
        )
        gaps.append(abs(found - true))
    return max(gaps)


def test_its_curve_is_the_gaussians_up_to_terms_of_the_step_squared() -> None:
    for mu in (0.5, 1.5):
        gaps = [curve_gap(scale, mu) for scale in (32.0, 128.0, 512.0)]
        assert gaps[0] < 1e-3
        assert gaps[2] < gaps[0] / 100  # 256 times, but for where the kink falls
