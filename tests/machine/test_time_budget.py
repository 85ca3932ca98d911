"""A training that a clock ends follows its schedule to the end; any other is untouched."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from synthdp.machine.time_budget import TimeBudget


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def trained(
    budget: TimeBudget, clock: Clock, seconds_a_step: float, begun: int = 0
) -> Iterator[tuple[int, float]]:
    """The steps that are taken, each with the share of the training that is done before it."""
    step = begun
    while not budget.is_over(step):
        yield step, budget.share(step)
        clock.now += seconds_a_step
        step += 1
        budget.note(step)


@pytest.mark.parametrize("seconds", [None, 1001.0])
def test_a_clock_that_ends_nothing_changes_nothing(seconds: float | None) -> None:
    clock = Clock()
    taken = list(trained(TimeBudget(1000, seconds, clock), clock, 1.0))
    assert taken == [(step, step / 1000) for step in range(1000)]


def test_a_training_that_time_ends_has_followed_its_schedule() -> None:
    clock = Clock()
    budget = TimeBudget(100_000, 600.0, clock)
    taken = list(trained(budget, clock, 1.0))
    assert len(taken) == 600
    shares = [share for _, share in taken]
    assert shares == sorted(shares)
    assert max(after - before for before, after in pairwise(shares)) < 2 / 600
    assert 0.99 < shares[-1] <= 1
    assert 0.45 < shares[300] < 0.55


def test_a_machine_that_slows_down_still_ends_in_time() -> None:
    clock = Clock()
    budget = TimeBudget(100_000, 600.0, clock)
    shares, step = [0.0], 0
    while not budget.is_over(step):
        shares.append(budget.share(step))
        clock.now += 1.0 if step < 200 else 4.0
        step += 1
        budget.note(step)
    assert clock.now - 1000 < 600 + 4
    assert step == 300
    assert shares == sorted(shares)
    assert shares[-1] > 0.95


def test_one_that_gets_faster_takes_no_more_than_its_steps() -> None:
    clock = Clock()
    budget = TimeBudget(1000, 600.0, clock)
    step = 0
    while not budget.is_over(step):
        clock.now += 2.0 if step < 100 else 0.1
        step += 1
        budget.note(step)
    assert step == 1000
    assert clock.now - 1000 < 600
    assert budget.share(1000) == pytest.approx(1)


def test_a_resumed_training_goes_on_with_what_is_left() -> None:
    clock = Clock()
    whole = list(trained(TimeBudget(100_000, 600.0, clock), clock, 1.0))
    clock = Clock()
    first = TimeBudget(100_000, 600.0, clock)
    taken = []
    for step, share in trained(first, clock, 1.0):
        taken.append((step, share))
        if step == 250:
            break
    clock.now += 1
    state = first.state()
    clock.now += 86_400  # a night in which nothing ran
    second = TimeBudget(100_000, 600.0, clock)
    second.load(state)
    taken += list(trained(second, clock, 1.0, begun=251))
    assert [step for step, _ in taken] == [step for step, _ in whole]
    assert [share for _, share in taken] == pytest.approx([share for _, share in whole], abs=0.01)


def test_time_left_is_told_where_time_ends_it() -> None:
    clock = Clock()
    budget = TimeBudget(1000, 60.0, clock)
    assert budget.seconds_left() is None
    for _ in trained(budget, clock, 1.0):
        pass
    assert budget.seconds_left() == 0
