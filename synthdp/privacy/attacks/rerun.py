"""What an audit keeps of a training that it runs again: each draw of noise, in a scratch folder."""

import json
import math
import os
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.storage.files import short_lived_folder

_RAM = Path("/dev/shm")  # noqa: S108 (a private folder is made in it)


class Draw(NamedTuple):
    """One call of a noise source, and what it gave."""

    stream: int
    shape: tuple[int, ...]
    scale: float
    noise: Tensor

    def in_units_of(self, noise_scale: float) -> Tensor:
        """The noise, flat, where `noise_scale` is the declared deviation of what was drawn.

        Noise is drawn in steps of a lattice, and so is its scale.
        """
        return self.noise.flatten().double() * (noise_scale / self.scale)


class PromisedTraining:
    """What an audit runs again: the public numbers that its promise is made of.

    delta: at which the mechanism's epsilon is stated.
    """

    mechanism: Mechanism
    delta: float

    @property
    def epsilon(self) -> float:
        """The epsilon that is promised for this training alone."""
        return self.mechanism.loss().epsilon(self.delta)

    @property
    def noise_scale(self) -> float:
        """Declared standard deviation, from the public numbers and not from the code under test."""
        return self.mechanism.noise_multiplier * self.mechanism.clip_norm


@dataclass(frozen=True, repr=False)
class RecordedNoise(NoiseSource):
    """A noise source that keeps what it drew."""

    draws: list[Draw] = field(default_factory=list)

    def gaussian(self, shape: tuple[int, ...], scale: float, *, stream: int) -> Tensor:
        """As `NoiseSource.gaussian`, kept in `draws`."""
        noise = super().gaussian(shape, scale, stream=stream)
        self.draws.append(Draw(stream, shape, scale, noise))
        return noise


def repeated_noise(draws: Sequence[Draw]) -> list[str]:
    """What is wrong with all that one key gave: a stream, or its values, used twice."""
    broken = []
    if len({draw.stream for draw in draws}) < len(draws):
        broken.append("a stream of noise is drawn twice")
    values = {draw.noise.numpy().tobytes() for draw in draws if draw.noise.numel() > 1}
    if len(values) < sum(draw.noise.numel() > 1 for draw in draws):
        broken.append("the same noise is drawn twice")
    return broken


def counted_steps(ledger: Path) -> list[tuple[object, ...]]:
    """What a ledger says of steps, in order: nothing of it may depend on who is there."""
    lines = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    return [tuple(line.get(key) for key in ("event", "first", "steps")) for line in lines]


def declared_bound(clip_norm: float, size: int) -> float:
    """What vectors of `size` entries are declared to be clipped to, by code of its own.

    It is the clip norm less what rounding a sum to its lattice can add: a step for each entry, the
    step 2^-20 of the greatest power of two in the clip norm.
    """
    step = 2.0 ** (math.floor(math.log2(clip_norm)) - 20)
    return clip_norm - math.sqrt(size) * step


def scratch_folder() -> AbstractContextManager[Path]:
    """A private folder for ledgers and checkpoints, in memory where there is some.

    It goes with its block; what a killed audit left there goes when the next begins.
    """
    in_memory = _RAM.is_dir() and os.access(_RAM, os.W_OK)
    parent = _RAM if in_memory else Path(tempfile.gettempdir())
    return short_lived_folder(parent / "synthdp-audit")


def audit_ledger(mechanism: Mechanism, folder: Path, *, block_steps: int) -> Ledger:
    """The ledger of an audited training in `folder`, claimed."""
    release = Release(
        id="0" * 16,
        stage="audit",
        data="audit",
        unit=mechanism.unit,
        mu=mechanism.mu,
        mechanism=mechanism,
    )
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.claim(release, fingerprint="audit", block_steps=block_steps)
    return ledger
