import math
import random

import pytest

from synthdp.privacy.accounting.bounds import (
    at_least,
    at_most,
    at_most_times,
    epsilon_text,
    exactly,
    percent,
    percent_interval,
)


def random_bounds(seed: int) -> list[float]:
    """Thousands of numbers of all sizes between 1e-9 and 1e6, and some that lie close to edges."""
    rng = random.Random(seed)
    spread = [10 ** rng.uniform(-9, 6) for _ in range(4000)]
    near = [
        math.nextafter(rng.randint(1, 999) * 10.0 ** rng.randint(-6, 3), math.inf)
        for _ in range(500)
    ]
    return [*spread, *near]


def test_no_printed_bound_is_below_what_it_bounds() -> None:
    for value in random_bounds(0):
        assert float(epsilon_text(value)) >= value
        assert float(at_most(value, digits=2)) >= value
        assert float(at_least(value, digits=4)) <= value
        share = min(value, 1.0)
        assert float(percent(share).removesuffix(" %")) / 100 >= share


def test_a_printed_interval_holds_all_of_the_interval() -> None:
    for value in random_bounds(2):
        low, high = sorted((min(value, 1.0), min(value * 1.0001, 1.0)))
        printed = percent_interval(low, high).removesuffix(" %").split(" to ")
        assert float(printed[0]) / 100 <= low
        assert float(printed[1]) / 100 >= high


def test_a_chosen_number_is_printed_as_it_is() -> None:
    for value in random_bounds(1):
        assert float(exactly(value)) == value
    assert [exactly(value) for value in (6.0, 1e-5, 1.2345649e-3)] == ["6", "1e-05", "0.0012345649"]


def test_rounding_up_takes_one_step_of_the_last_digit_at_most() -> None:
    for value in random_bounds(1):
        assert float(epsilon_text(value)) <= value * 1.01 + 1e-300
        assert float(at_least(value, digits=4)) >= value * 0.999


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"), (0.01, "1 %"), (0.07, "7 %"), (0.0101, "1.1 %"), (0.1930, "20 %"),
        (0.19, "19 %"), (0.2, "20 %"), (0.991, "100 %"), (0.99, "99 %"), (1.0, "100 %"),
        (0.00274, "0.28 %"), (1e-9, "0.0000001 %"),
    ],
)  # fmt: skip
def test_percentages(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [
        (6.0, "6"), (5.999999992654864, "6"), (6.0000001, "6.01"), (0.98, "0.98"),
        (0.1, "0.1"), (17.801, "17.9"), (1342.0, "1350"), (1e6, "1000000"), (0.0, "0"),
        (math.inf, "inf"), (1.234e-7, "1.24e-07"), (1.5e-11, "1.5e-11"),
    ],
)  # fmt: skip
def test_epsilons(epsilon: float, text: str) -> None:
    assert epsilon_text(epsilon) == text


@pytest.mark.parametrize(
    ("count", "share", "text"),
    [
        (600, 1e-4, "0.06"), (997, 1e-3, "0.997"), (600, 0.00166101, "0.997"), (10, 0.1, "1"),
        (1, 0.99999999995, "0.99999999995"), (50, 1e-3, "0.05"), (90_000, 1e-5, "0.9"),
        (50_000, 1e-3, "50"), (1, 1e-12, "1e-12"), (99, 0.01001, "0.991"), (995, 1e-3, "0.995"),
    ],
)  # fmt: skip
def test_a_product_below_one_is_not_told_as_one(count: int, share: float, text: str) -> None:
    """A delta must be below 1 / N: rounded up to two digits, 0.997 read as the 1 it may not be."""
    assert at_most_times(count, share) == text
