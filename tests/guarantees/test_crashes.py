"""Trainings that are killed, or lose their disk, at random moments; what they ever drew is known.

Each draw of noise is witnessed by an unbuffered write before it is made, so that the witness is
never behind what a process has computed, however it ends.
"""

import errno
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from classify.head.examples import HeadExamples
from classify.head.train import HeadRecipe, train_private_head
from synthdp.checkpoint import load_checkpoint
from synthdp.errors import RunError
from synthdp.privacy.keys import new_key
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource

KILLS, FULL_DISKS = 100, 60
STEPS, BLOCK = 120, 4
MECHANISM = Mechanism(noise_multiplier=4.0, steps=STEPS, normaliser=20)
RECIPE = HeadRecipe(steps=STEPS, lr=0.5, average_from=0.5, block_steps=BLOCK)
RELEASE = Release(id="0" * 16, stage="t", data="d", mu=MECHANISM.mu, mechanism=MECHANISM)


def examples() -> HeadExamples:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.nn.functional.normalize(torch.randn(20, 5, generator=generator), dim=1)
    return HeadExamples(inputs, (inputs[:, :1] > 0).float(), torch.arange(20))


def train(folder: Path) -> Tensor:
    folder.mkdir(exist_ok=True)
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.claim(RELEASE, fingerprint="f", block_steps=BLOCK)
    return train_private_head(
        torch.zeros(1, 5),
        examples(),
        RECIPE,
        ledger=ledger,
        noise_source=NoiseSource(new_key()),
        checkpoints=folder / "checkpoints",
    )


def check(folder: Path, drawn: list[int]) -> bool:
    """Whether the budget is spent, after making sure that nothing was lost or counted too low."""
    spent = Ledger(folder / "ledger.jsonl").spent_steps if folder.exists() else 0
    assert len(set(drawn)) == len(drawn), "noise was used twice"
    assert spent >= max(drawn, default=-1) + 1, "the ledger counts less than was drawn"
    assert spent <= STEPS
    checkpoint = load_checkpoint(folder / "checkpoints")
    if checkpoint is not None:
        assert checkpoint.step <= spent
        assert all(torch.isfinite(tensor).all() for tensor in checkpoint.weights.values())
    return spent == STEPS


def killed_after(draws: int, seconds: float, folder: Path, drawn: Callable[[], list[int]]) -> bool:
    """Train in a child that is killed a moment after some draws; whether the child was faster.

    The wait is for draws, and not for a time alone, so that a slow machine kills as late as a fast.
    """
    before = len(drawn())
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        train(folder)
        os._exit(0)
    while len(drawn()) < before + draws:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        time.sleep(0.0005)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return not os.WIFSIGNALED(status)


@pytest.mark.slow
def test_a_hundred_kills_leave_nothing_corrupt_and_nothing_under_counted(
    tmp_path: Path, witness: Callable[[], list[int]]
) -> None:
    moments = random.Random(0)
    kills, runs = 0, 0
    while kills < KILLS:
        runs += 1
        folder, before, finished = tmp_path / f"run-{runs}", len(witness()), False
        while not finished and kills < KILLS:
            draws, seconds = moments.randrange(3 * BLOCK), moments.uniform(0, 0.005)
            finished = killed_after(draws, seconds, folder, witness)
            kills += not finished
            check(folder, witness()[before:])
        weights = train(folder)
        assert check(folder, witness()[before:])
        assert torch.isfinite(weights).all()
    assert len(witness()) > KILLS, "hardly a step ran before its process was killed"


def test_a_disk_that_fills_up_at_any_moment_loses_nothing(
    tmp_path: Path, witness: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = random.Random(0)
    fsync, write, left = os.fsync, os.write, [0]

    def full() -> bool:
        left[0] -= 1
        return left[0] == 0

    def failing_fsync(descriptor: int) -> None:
        if full():
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    def failing_write(descriptor: int, content: bytes) -> int:
        if full():
            write(descriptor, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr(os, "fsync", failing_fsync)
    monkeypatch.setattr(os, "write", failing_write)
    failures, runs = 0, 0
    while failures < FULL_DISKS:
        runs += 1
        folder, before, finished = tmp_path / f"run-{runs}", len(witness()), False
        while not finished:
            left[0] = moments.randrange(1, 40)
            try:
                train(folder)
                finished = True
            except RunError:
                failures += 1
            assert check(folder, witness()[before:]) or not finished
