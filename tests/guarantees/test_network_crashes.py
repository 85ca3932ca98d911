"""Trainings of whole networks that are killed in the middle of a pass; what they drew is known.

As in `test_crashes`: each draw of noise is witnessed by an unbuffered write before it is made. What
a step shows is drawn anew in each, so that a step that is taken again would be another step.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from classify.network.train import train_network, train_private_network
from classify.settings.network import NetworkSettings
from synthdp.checkpoint import load_checkpoint
from synthdp.privacy.keys import new_key
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource
from tests.classify.network.test_images import image_examples
from tests.classify.network.test_train_whole import new_network

KILLS, STEPS, BLOCK = 3, 12, 3
MECHANISM = Mechanism(
    sampling_rate=0.5, noise_multiplier=4.0, steps=STEPS, normaliser=3, clip_norm=0.5
)
RECIPE = NetworkSettings.model_validate(
    {
        "trainable_blocks": "all",
        "steps": STEPS,
        "sampling_rate": 0.5,
        "optimizer": "nadam",
        "lr": 0.02,
        "augment": {},
        "max_images": 2,
        "block_steps": BLOCK,
    }
)
RELEASE = Release(id="0" * 16, stage="t", data="d", mu=MECHANISM.mu, mechanism=MECHANISM)


def train(folder: Path) -> Tensor:
    folder.mkdir(exist_ok=True)
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.claim(RELEASE, fingerprint="f", block_steps=BLOCK)
    network = new_network()
    train_private_network(
        network,
        image_examples(),
        RECIPE,
        ledger=ledger,
        noise_source=NoiseSource(new_key()),
        checkpoints=folder / "checkpoints",
    )
    return network.flat()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many threads here as in the children: sums of other parts round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def killed_after(draws: int, folder: Path, drawn: Callable[[], list[int]]) -> None:
    """Train in a child that is killed as soon as it has drawn so often, in the middle of a pass."""
    before = len(drawn())
    child = os.fork()
    if child == 0:
        train(folder)
        os._exit(0)
    while len(drawn()) < before + draws:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.slow
def test_a_killed_training_loses_no_step_and_doubles_none(
    tmp_path: Path, witness: Callable[[], list[int]]
) -> None:
    folder = tmp_path / "run"
    for kill in range(KILLS):
        killed_after(2 + kill, folder, witness)
        drawn = witness()
        assert len(set(drawn)) == len(drawn), "a step was taken twice"
        spent = Ledger(folder / "ledger.jsonl").spent_steps
        assert max(drawn, default=-1) + 1 <= spent <= STEPS, "the ledger counts less than was drawn"
        checkpoint = load_checkpoint(folder / "checkpoints")
        assert checkpoint is None or checkpoint.step <= spent
    weights = train(folder)
    drawn = witness()
    assert len(set(drawn)) == len(drawn)
    assert Ledger(folder / "ledger.jsonl").spent_steps == STEPS
    assert torch.isfinite(weights).all()


@pytest.mark.slow
def test_without_privacy_a_killed_training_ends_where_a_whole_one_does(tmp_path: Path) -> None:
    def plainly(folder: Path) -> Tensor:
        network = new_network()
        train_network(
            network,
            image_examples(),
            RECIPE,
            normaliser=3,
            noise_source=NoiseSource(bytes(32)),
            checkpoints=folder,
        )
        return network.flat()

    whole = plainly(tmp_path / "whole")
    child = os.fork()
    if child == 0:
        plainly(tmp_path / "torn")
        os._exit(0)
    while load_checkpoint(tmp_path / "torn") is None:
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert torch.equal(plainly(tmp_path / "torn"), whole)
