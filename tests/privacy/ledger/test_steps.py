import os
import signal
from pathlib import Path

import pytest

from synthdp.errors import InputError
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.steps import run_steps
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism

MECHANISM = Mechanism(noise_multiplier=5.0, steps=25, normaliser=600)


class Training:
    """Notes which steps ran and what was kept; dies or is stopped where it is told to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.jsonl"
        Ledger(self.path).claim(
            Release(id="0" * 16, stage="t", data="d", mu=MECHANISM.mu, mechanism=MECHANISM),
            fingerprint="f",
            block_steps=10,
        )
        self.taken: list[int] = []
        self.kept = [0]

    def run(self, *, die_at: int = -1, stop_at: int = -1) -> None:
        def take(step: int) -> None:
            if step == die_at:
                raise MemoryError
            self.taken.append(step)
            if step == stop_at:
                os.kill(os.getpid(), signal.SIGINT)

        run_steps(
            Ledger(self.path),
            state_at=self.kept[-1],
            block_steps=10,
            take=take,
            keep=self.kept.append,
        )


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)


def test_all_steps_run_once_in_blocks(training: Training) -> None:
    training.run()
    assert training.taken == list(range(25))
    assert training.kept == [0, 10, 20, 25]
    training.run()
    assert training.taken == list(range(25))


@pytest.mark.parametrize("at", [0, 4, 9, 10, 24])
def test_a_clean_stop_is_resumed_at_the_very_step(training: Training, at: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        training.run(stop_at=at)
    assert training.kept[-1] == at + 1
    training.run()
    assert training.taken == list(range(25))


def test_a_crash_after_a_clean_stop_hands_out_no_step_twice(training: Training) -> None:
    with pytest.raises(KeyboardInterrupt):
        training.run(stop_at=4)
    with pytest.raises(MemoryError):
        training.run(die_at=7)
    training.run()
    assert training.taken == [*range(7), *range(10, 25)]


def test_crashes_end_the_training_early(training: Training) -> None:
    for die_at in (3, 13, 23):
        with pytest.raises(MemoryError):
            training.run(die_at=die_at)
    training.run()
    assert training.taken == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert Ledger(training.path).steps_left == 0


def test_a_state_ahead_of_the_ledger_is_refused(training: Training) -> None:
    training.kept.append(3)
    with pytest.raises(InputError, match="fewer steps"):
        training.run()


def test_handlers_are_given_back(training: Training) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    training.run()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
