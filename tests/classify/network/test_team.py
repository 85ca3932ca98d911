"""Trainings of several processes, started by torchrun: the bits of one, and what a loss does."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
import team_training
import torch
from team_training import train_plainly, train_privately
from torch import Tensor

from classify.network import team
from classify.network.gradients import Views
from classify.network.team import ALONE, Team, balanced_shares
from synthdp.errors import InputError
from synthdp.machine.devices import kernels
from synthdp.machine.rank import Rank, own_rank, refuse_several

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As torchrun gives each process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def started(folder: Path, *, dies_in: int = -1) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    if dies_in >= 0:  # torchrun itself sees a loss late, and lets the process that is left say it
        words.append("--monitor-interval=5")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words, team_training.__file__, str(folder), str(dies_in)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_give_the_bits_of_one(tmp_path: Path) -> None:
    """With one noise for both; without privacy they agree up to rounding."""
    done = started(tmp_path / "two")
    assert done.returncode == 0, done.stderr
    of_two = torch.load(tmp_path / "two" / "weights.pt")
    alone = train_privately(tmp_path)
    assert bool(torch.isfinite(alone).all())
    assert torch.equal(of_two["private"], alone)
    torch.testing.assert_close(of_two["plain"], train_plainly())


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_step_and_its_block_stays_spent(tmp_path: Path) -> None:
    """It dies in step 6, of the block 4 to 7: one process goes on with step 8, from the weights
    before step 4, as after any crash."""
    folder = tmp_path / "lost"
    lost = started(folder, dies_in=6)
    assert lost.returncode != 0
    assert "another process of this training is gone" in lost.stderr
    assert not (folder / "weights.pt").exists()
    ledger = team_training.Ledger(folder / "ledger.jsonl")
    ledger.claim(team_training.RELEASE, fingerprint="f", block_steps=4)
    assert ledger.spent_steps == 8
    assert ledger.steps_left == 4
    ledger.close()
    assert bool(torch.isfinite(train_privately(folder)).all())


def test_parts_are_whole_patients_and_all_of_them() -> None:
    patients = torch.repeat_interleave(torch.arange(7), torch.tensor([1, 9, 1, 1, 2, 1, 1]))
    images = torch.arange(len(patients))
    views = Views(images, torch.zeros_like(images), patients)
    parts = [Team(Rank(number, 3)).own_part(views) for number in range(3)]
    assert torch.equal(torch.cat([part.images for part in parts]), images)
    of_patients = [set(part.patients.tolist()) for part in parts]
    assert sum(map(len, of_patients)) == 7
    for part in parts:  # the mean over a patient's views is what it was
        assert torch.equal(part.shares, views.shares[part.images])
    assert ALONE.own_part(views) is views


def test_work_is_balanced_when_one_process_has_more_to_do() -> None:
    """The first draws noise for .7 s; images take the last process twice as long as others."""
    shares = torch.full((3,), 1 / 3, dtype=torch.float64)
    costs, noise = torch.tensor([1.0, 1.0, 2.0]), torch.tensor([0.7, 0.0, 0.0])
    for _ in range(30):
        shares = balanced_shares(shares, costs * 3 * shares + noise)
    seconds = costs * 3 * shares + noise
    torch.testing.assert_close(seconds, seconds.mean().expand(3), rtol=0.01, atol=0)
    assert float(shares.sum()) == pytest.approx(1)


def test_a_process_with_nothing_to_spare_keeps_a_part() -> None:
    shares = torch.tensor([0.5, 0.5], dtype=torch.float64)
    for _ in range(100):  # its noise alone takes longer than all images
        shares = balanced_shares(shares, torch.tensor([9.0, 0.0]) + shares)
    assert shares.tolist() == pytest.approx([0.025, 0.975], rel=0.05)
    assert bool(torch.isfinite(balanced_shares(shares, torch.zeros(2))).all())


def test_nobody_sampled_is_nobodys_part() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    part = Team(Rank(1, 2)).own_part(Views(nothing, nothing, nothing))
    assert not len(part.images)


def test_a_rank_is_read_from_torchruns_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert own_rank() == Rank(0, 1, 0)
    refuse_several("evaluate")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert own_rank() == Rank(1, 2, 0)
    assert not own_rank().leads
    with pytest.raises(InputError, match="evaluate: is computed by one process"):
        refuse_several("evaluate")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(InputError, match="RANK"):
        own_rank()
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(InputError, match="RANK"):
        own_rank()


@pytest.mark.parametrize(
    ("identity", "computes", "why"),
    [
        (b"same", kernels(), None),
        (b"other", kernels(), "different settings or data"),
        (b"same", kernels() + " of another kind", "don't compute alike"),
    ],
)
def test_processes_that_train_or_compute_otherwise_are_refused(
    monkeypatch: pytest.MonkeyPatch, identity: bytes, computes: str, why: str | None
) -> None:
    """Who computes a patient's gradient depends on others, so all must give it the same bits."""
    told = iter([identity, computes.encode()])

    def of_two(others: Sequence[Tensor], own: Tensor) -> None:
        others[0].copy_(own)
        others[1].copy_(torch.frombuffer(bytearray(sha256(next(told)).digest()), dtype=torch.uint8))

    monkeypatch.setattr(team.distributed, "all_gather", of_two)
    if why is None:
        Team(Rank(0, 2)).refuse_different(b"same")
        return
    with pytest.raises(InputError, match=why):
        Team(Rank(0, 2)).refuse_different(b"same")


def test_threads_are_part_of_how_a_process_computes() -> None:
    with_one = kernels()
    torch.set_num_threads(2)
    assert kernels() != with_one
