"""A training of a small convolutional network on nine made-up patients, by one process or several.

`tests/classify/network/test_team.py` runs it, in its own process and under torchrun:
`team_training.py FOLDER STEP`, whose last process is killed in that step.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classify.network.images import ImageExamples
from classify.network.team import ALONE, Task, Team, joined_team
from classify.network.top import TrainedNetwork
from classify.network.train import follow, train_network, train_private_network
from classify.settings.network import NetworkSettings
from synthdp.machine.rank import own_rank
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource

MECHANISM = Mechanism(sampling_rate=0.4, noise_multiplier=2.0, steps=12, normaliser=4)
RELEASE = Release(id="0" * 16, stage="t", data="d", mu=MECHANISM.mu, mechanism=MECHANISM)
RECIPE = NetworkSettings(
    trainable_blocks="all", steps=12, sampling_rate=0.4, lr=0.5, batch=3, block_steps=4
)


class Network(TrainedNetwork):
    """Images to two logits."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.Mish(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head, self.scale = nn.Linear(32, 2, bias=False), 0.1

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(inputs))
        return logits


class _Made:
    def __init__(self, pixels: NDArray[np.float32]) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._pixels[indices]


def made_examples() -> ImageExamples:
    """Patients of one to five images, one label of whom is unknown."""
    units = torch.repeat_interleave(torch.arange(9), torch.tensor([1, 2, 1, 5, 1, 3, 1, 1, 2]))
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(len(units), 1, 16, 16)).astype(np.float32)
    targets = torch.from_numpy((rng.normal(size=(len(units), 2)) > 0).astype(np.float32))
    targets[3, 1] = float("nan")
    return ImageExamples(_Made(pixels), targets, units, [bytes([n]) * 8 for n in range(9)])


def train_privately(folder: Path, team: Team = ALONE) -> Tensor:
    """The weights after the training, or what is left of it in `folder`."""
    network = Network()
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.claim(RELEASE, fingerprint="f", block_steps=4)
    train_private_network(
        network,
        made_examples(),
        RECIPE,
        ledger=ledger,
        noise_source=NoiseSource(b"k" * 32),
        checkpoints=folder / "checkpoints",
        team=team,
    )
    return network.flat()


def train_plainly(team: Team = ALONE) -> Tensor:
    """The weights after the same training without privacy."""
    network, source = Network(), NoiseSource(b"k" * 32)
    train_network(network, made_examples(), RECIPE, normaliser=4.0, noise_source=source, team=team)
    return network.flat()


class _Mortal(Team):
    """Is killed in a step, as nothing can catch."""

    def __init__(self, team: Team, step: int) -> None:
        super().__init__(team.rank)
        self._step = step

    def next_task(self) -> Task | None:
        task = super().next_task()
        if task is not None and task.step == self._step and self.rank.number:
            os.kill(os.getpid(), signal.SIGKILL)
        return task


def main(words: Sequence[str]) -> None:
    """Be one of several processes."""
    folder, dies_in = Path(words[0]), int(words[1])
    torch.set_num_threads(1)
    with joined_team(own_rank()) as team:
        if not team.rank.leads:
            mortal = _Mortal(team, dies_in)
            for private in (True, False):
                assert mortal.is_announced()
                mortal.refuse_different(b"the same")
                follow(Network(), made_examples(), RECIPE, team=mortal, private=private)
            return
        results = {}
        for name, train in (
            ("private", lambda: train_privately(folder, team)),
            ("plain", lambda: train_plainly(team)),
        ):
            team.announce()
            team.refuse_different(b"the same")
            results[name] = train()
            team.dismiss()
        torch.save(results, folder / "weights.pt")


if __name__ == "__main__":
    main(sys.argv[1:])
