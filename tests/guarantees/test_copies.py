"""Runs and sets that are killed, copied and put back at random moments; what they drew is known.

A world is a run folder and a data set. In each the draws of noise are noted before they are made,
in files that are copied with the folder, so that a copy knows what was drawn before it was taken. A
kill, or a copy, comes at any draw of noise and at any write that is waited for.
"""

import os
import random
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from made_up import clinic_set
from torch import Tensor

from classify.head.examples import HeadExamples
from classify.head.train import HeadRecipe, train_private_head
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.noisy_sum.noise import NoiseSource, open_noise_source
from synthdp.privacy.promise.plan import plan_privacy
from synthdp.privacy.settings import PrivacySettings

KILLS = 100
STEPS, BLOCK = 24, 4
PRIVACY = PrivacySettings(epsilon=6, delta=1e-3, population=50, noise="philox")
RECIPE = HeadRecipe(steps=STEPS, lr=0.5, average_from=0.5, block_steps=BLOCK)
REFUSED = r"is a copy|older than this run|different ways|ledger is gone"


class Killed(BaseException):
    """The end of a process, at once."""


@dataclass
class Moments:
    """What happens at which draw or waited-for write of a process; counts on until it does."""

    rng: random.Random
    kill_in: int = -1
    copy_in: int = -1
    copy: Callable[[], None] = field(default=lambda: None)
    noted_in: tuple[Path, ...] = ()
    killed: int = 0

    def pass_one(self) -> None:
        self.copy_in -= 1
        if self.copy_in == 0:
            self.copy()
        self.kill_in -= 1
        if self.kill_in == 0:
            self.killed += 1
            raise Killed


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Moments:
    moments = Moments(random.Random(0))
    gaussian, fsync, copying = NoiseSource.gaussian, os.fsync, [False]

    def witnessed(
        source: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int
    ) -> Tensor:
        moments.pass_one()
        for folder in moments.noted_in:
            with open(folder / "drawn", "a", encoding="utf-8") as notes:
                notes.write(f"{source.key.hex()} {stream}\n")
        return gaussian(source, shape, scale, stream=stream)

    def passed(descriptor: int) -> None:
        fsync(descriptor)
        if not copying[0]:
            copying[0] = True
            try:
                moments.pass_one()
            finally:
                copying[0] = False

    monkeypatch.setattr(NoiseSource, "gaussian", witnessed)
    monkeypatch.setattr(os, "fsync", passed)
    return moments


def drawn_in(folder: Path) -> list[tuple[str, int]]:
    lines = (folder / "drawn").read_text().splitlines() if (folder / "drawn").exists() else []
    return [(key, int(stream)) for key, stream in (line.split() for line in lines)]


def examples() -> HeadExamples:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.nn.functional.normalize(torch.randn(12, 3, generator=generator), dim=1)
    return HeadExamples(inputs, (inputs[:, :1] > 0).float(), torch.arange(12))


def train(run: Path, data: Path, moments: Moments) -> Release:
    """What finetune does with ledgers, in a run folder that stands at `run`."""
    moments.noted_in = (run, data)
    dataset = open_dataset(data)
    plan = plan_privacy(
        dataset,
        PRIVACY,
        stage="finetune",
        subject="classifier",
        ancestors=Lineage(),
        cohort=None,
        n_units=50,
        steps=STEPS,
    ).with_release_id((run / "id").read_text())
    ledger = Ledger(run / "ledger.jsonl")
    plan = plan.claim(ledger, fingerprint="f", block_steps=BLOCK)
    assert plan.mechanism is not None
    train_private_head(
        torch.zeros(1, 3),
        examples(),
        RECIPE,
        ledger=ledger,
        noise_source=open_noise_source(PRIVACY),
        checkpoints=run / "checkpoints",
    )
    return ledger.close()


@dataclass
class End:
    """How a run ended: its release, and the draws that led to it."""

    release: Release
    drawn: tuple[tuple[str, int], ...]


def go_on(
    run: Path, data: Path, moments: Moments, kills: int, ends: list[End], *, last: bool = True
) -> str:
    """Start and be killed so often, then once more if `last`; how the last start ended."""
    for left in range(kills, -1 if last else 0, -1):
        moments.kill_in = moments.rng.randrange(1, 60) if left else -1
        try:
            release = train(run, data, moments)
        except Killed:
            continue
        except InputError as error:
            if re.search(REFUSED, str(error)) is None:
                raise
            return "refused"
        ends.append(End(release, tuple(drawn_in(run))))
        return "done"
    return "killed"


def check(runs: list[Path], sets: list[Path], ends: list[End]) -> None:
    """Make sure that whatever was drawn is counted."""
    for data in sets:
        streams = [stream for _, stream in drawn_in(data)]
        assert len(set(streams)) == len(streams), "one step was drawn twice on one record"
        dataset = open_dataset(data)
        recorded = recorded_releases(dataset.ledger_path, dataset.info.ledger)
        assert not streams or len(recorded) == 1
        assert all(release.mechanism is not None for release in recorded)
    for run in runs:
        streams = [stream for _, stream in drawn_in(run)]
        assert len(set(streams)) == len(streams), "one run drew a step twice"
        assert Ledger(run / "ledger.jsonl").spent_steps >= max(streams, default=-1) + 1
    together = Lineage().joined(Lineage(releases=(end.release,)) for end in ends)
    different = {end.drawn for end in ends}
    assert len(together.releases) >= len(different), "releases of two copies count as one"


def outcomes_of_a_world(
    root: Path, moments: Moments, copied: Sequence[str], where: str
) -> list[str]:
    """Train, kill and copy in one world, go on there and in the copy; how each start ended."""
    run, data, saved = root / "run", root / "set", root / "saved"
    rng, ends = moments.rng, list[End]()

    def copy() -> None:
        for name in copied:
            shutil.copytree(root / name, saved / name)

    moments.copy, moments.copy_in = copy, rng.randrange(1, 90)
    go_on(run, data, moments, rng.randrange(3), ends, last=rng.random() < 0.3)
    moments.copy_in = -1
    if not saved.exists():
        copy()
    check([run], [data], ends)
    if where == "in place":
        for name in copied:  # what stood there is gone
            shutil.rmtree(root / name)
            shutil.copytree(saved / name, root / name)
        turns = [(run, data)]
    else:
        other = [saved / name if name in copied else root / name for name in ("run", "set")]
        turns = [(run, data), (other[0], other[1])]
        rng.shuffle(turns)
    outcomes = [go_on(*turn, moments, rng.randrange(2), ends, last=False) for turn in turns]
    outcomes += [go_on(*turn, moments, 0, ends) for turn in turns]
    runs, sets = ([place / name for place in (root, saved)] for name in ("run", "set"))
    check(*([folder for folder in part if folder.exists()] for part in (runs, sets)), ends)
    return outcomes


@pytest.mark.slow
@pytest.mark.parametrize("copied", [("run",), ("set",), ("run", "set")], ids="-".join)
@pytest.mark.parametrize("where", ["in place", "elsewhere"])
def test_every_copy_that_goes_on_is_refused_or_counted(
    tmp_path: Path, moments: Moments, copied: tuple[str, ...], where: str
) -> None:
    moments.rng.seed(f"{copied} {where}")
    clinic, outcomes, worlds = clinic_set(tmp_path / "clinic"), list[str](), 0
    while moments.killed < KILLS / 6:
        worlds += 1
        root = tmp_path / f"world-{worlds}"
        shutil.copytree(clinic, root / "set")
        (root / "run").mkdir()
        (root / "run" / "id").write_text(f"{worlds:016x}")
        outcomes += outcomes_of_a_world(root, moments, copied, where)
    assert "done" in outcomes
    assert ("refused" in outcomes) == (len(copied) == 1), "of copies of one alone some are refused"


def test_copies_that_went_on_by_themselves_count_as_two_and_as_one_before(
    tmp_path: Path, moments: Moments
) -> None:
    data, run = clinic_set(tmp_path / "a" / "set"), tmp_path / "a" / "run"
    run.mkdir()
    (run / "id").write_text("0" * 16)
    moments.kill_in = 60
    with pytest.raises(Killed):
        train(run, data, moments)
    moments.kill_in = -1
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    marks = open_dataset(data).info.ledger
    begun = Lineage(releases=recorded_releases(data / "private" / "ledger.jsonl", marks))
    releases = [train(tmp_path / n / "run", tmp_path / n / "set", moments) for n in "ab"]
    first, second = (Lineage(releases=(release,)) for release in releases)
    assert len(first.joined([first, begun]).releases) == 1
    both = begun.joined([first, second])
    assert len(both.releases) == 2
    assert both.epsilon(1e-3) > 1.3 * first.epsilon(1e-3)
    (recorded,) = recorded_releases(data / "private" / "ledger.jsonl", marks)
    assert recorded.starts == releases[0].starts
