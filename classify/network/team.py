"""Several processes that train one network: the first leads, the others compute gradients for it.

The first alone holds the run: its folder, its ledger, its noise, the weights between two steps. In
a step it tells the others who was sampled and what the weights are; each sums the clipped gradients
of its part of these patients, in whole numbers of the lattice, and the first adds the sums up. Sums
of whole numbers are exact in any order, so that N processes of as many threads give the bits of
one, and there is one noise for all.

A process that dies ends the step for all of them, before its noise is added: the step stands
reserved in the ledger and stays spent, as after any crash, and nothing of it was released.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256

import torch
from torch import Tensor, distributed

from classify.network.gradients import Views
from synthdp.errors import InputError, RunError
from synthdp.machine.devices import kernels
from synthdp.machine.interrupts import deferred_stop
from synthdp.machine.rank import Rank

#: How long a process waits for another: the first may compute features, or wait for a lock.
_PATIENCE = timedelta(days=2)
#: A step's time below which times say nothing of speed, and the least of an even share that a
#: process keeps, by which it is measured again.
_LEAST_S, _LEAST_SHARE = 1e-3, 0.05
#: In place of a step's number: that there is none left, and that there is something to train.
_NO_STEP, _ANNOUNCED = -1, -2


@dataclass(frozen=True, eq=False)
class Task:
    """A step as the first process sends it: its number, who was sampled (U,), the weights (P,)."""

    step: int
    drawn: Tensor
    weights: Tensor


class Team:
    """The processes of one training, seen by one of them; made by `joined_team`.

    Alone it tells nobody anything, and its part is everything. With privacy, whoever took longer
    than the others in a step has fewer images in the next: the first draws the noise as well.
    """

    def __init__(self, rank: Rank) -> None:
        self.rank = rank
        self._in_step = False
        self._shares = torch.full((rank.count,), 1 / rank.count, dtype=torch.float64)
        self._begun = time.perf_counter()

    def announce(self) -> None:
        """Of the first process: tell the others that there is something to train."""
        if self.rank.count > 1:
            with _lost_process_named():
                distributed.broadcast(torch.tensor([_ANNOUNCED, 0, 0]), src=0)

    def is_announced(self) -> bool:
        """Of the others: wait for the first; whether there is something to train.

        False where the run is finished.
        """
        head = torch.empty(3, dtype=torch.int64)
        with _lost_process_named():
            distributed.broadcast(head, src=0)
        return int(head[0]) == _ANNOUNCED

    def refuse_different(self, identity: bytes) -> None:
        """Refuse processes that are about to train something else, or by other kernels.

        Who computes a patient's gradient depends on who else is sampled. So all processes must give
        the same bits for it, or it would depend on others too.

        Args:
            identity: of settings and images, as this process knows them.

        Raises:
            InputError: when another process has others, or computes otherwise.
        """
        if self.rank.count == 1:
            return
        self._compare(
            identity,
            "the processes of torchrun were started with different settings or data; start them "
            "by one command, on folders that all of them see",
        )
        self._compare(
            kernels().encode(),
            "the processes of torchrun don't compute alike, so that a patient's gradient would "
            "depend on which of them has it; start all on processors, or GPUs, of one kind, with "
            "one version of torch and as many threads each (OMP_NUM_THREADS)",
        )

    def _compare(self, content: bytes, otherwise: str) -> None:
        """Refuse, in these words, what is not the same in all processes."""
        own = torch.frombuffer(bytearray(sha256(content).digest()), dtype=torch.uint8)
        others = [torch.empty_like(own) for _ in range(self.rank.count)]
        with _lost_process_named():
            distributed.all_gather(others, own)
        if not all(torch.equal(one, own) for one in others):
            raise InputError(otherwise)

    def send(self, task: Task) -> None:
        """Of the first process: begin a step with the others."""
        if self.rank.count == 1:
            return
        self._in_step = True  # until all sums are added nobody listens for a dismissal
        head = torch.tensor([task.step, len(task.drawn), len(task.weights)])
        with _lost_process_named():
            for values in (head, task.drawn, task.weights.detach().cpu(), self._shares):
                distributed.broadcast(values, src=0)
        self._begun = time.perf_counter()

    def next_task(self) -> Task | None:
        """Of the others: the next step; None when there is none left."""
        head = torch.empty(3, dtype=torch.int64)
        with _lost_process_named():
            distributed.broadcast(head, src=0)
            step, n_drawn, n_weights = head.tolist()
            if step == _NO_STEP:
                return None
            drawn = torch.empty(n_drawn, dtype=torch.int64)
            weights = torch.empty(n_weights, dtype=torch.float32)
            distributed.broadcast(drawn, src=0)
            distributed.broadcast(weights, src=0)
            distributed.broadcast(self._shares, src=0)
        self._begun = time.perf_counter()
        return Task(step, drawn, weights)

    def own_part(self, views: Views) -> Views:
        """The views of this process's patients: about its share of them, a patient's together."""
        if self.rank.count == 1:
            return views
        owners = _owners(views.patients, self._shares)
        own = owners == self.rank.number
        return replace(
            views,
            images=views.images[own],
            views=views.views[own],
            patients=views.patients[own],
        )

    def add_up(self, sums: Sequence[Tensor]) -> None:
        """Add, in place, what the other processes summed: of the first it is then the whole.

        Sums of int64 are exact, modulo 2^64 as everywhere on the lattice.
        """
        if self.rank.count == 1:
            return
        if not sums[0].is_floating_point():  # floats would be rounded otherwise in each run
            self._balance(time.perf_counter() - self._begun)
        with _lost_process_named():
            for values in sums:
                on_cpu = values.cpu()  # gloo adds there
                distributed.reduce(on_cpu, dst=0)
                values.copy_(on_cpu)
        self._in_step = False

    def _balance(self, seconds: float) -> None:
        """Of the first process: change the shares by how long each took for its part.

        They decide who computes a patient's gradient, and no bit of it. All go by those that the
        first tells: two opinions could count a patient twice.
        """
        own = torch.tensor([seconds], dtype=torch.float64)
        if not self.rank.leads:
            with _lost_process_named():
                distributed.gather(own, dst=0)
            return
        of_all = [torch.empty_like(own) for _ in range(self.rank.count)]
        with _lost_process_named():
            distributed.gather(own, of_all, dst=0)
        self._shares = balanced_shares(self._shares, torch.cat(of_all))

    def dismiss(self) -> None:
        """Of the first process: tell the others that no step is left, if they listen for one."""
        if self.rank.count > 1 and self.rank.leads and not self._in_step:
            with _lost_process_named():
                distributed.broadcast(torch.tensor([_NO_STEP, 0, 0]), src=0)


#: One process by itself.
ALONE = Team(Rank())


@contextmanager
def joined_team(rank: Rank) -> Iterator[Team]:
    """The processes that `torchrun` started, joined; they part when the first is done.

    A stop by Ctrl-C or SIGTERM, which reaches all of them, is the first one's to obey.

    Raises:
        RunError: when another process is gone.
    """
    if rank.count == 1:
        yield Team(rank)
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(rank.local)
    with _lost_process_named():
        # what is told is small beside the gradients' work, and gloo adds whole numbers exactly
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    team = Team(rank)
    try:
        if rank.leads:
            yield team
        else:
            with deferred_stop():
                yield team
    finally:
        try:
            team.dismiss()
        except RunError:  # whoever is gone need not be told
            pass
        finally:
            distributed.destroy_process_group()


def balanced_shares(shares: Tensor, seconds: Tensor) -> Tensor:
    """Shares of the next step, (count,) float64, from those of a step and the times these took.

    Half way towards what would take all processes the same time, if time grew with the share alone.
    What does not, as the noise, is balanced after a few steps.
    """
    speeds = shares / seconds.clamp(min=_LEAST_S)
    nearer = (shares + speeds / speeds.sum()) / 2
    nearer = nearer.clamp(min=_LEAST_SHARE / len(shares))
    return nearer / nearer.sum()


def _owners(patients: Tensor, shares: Tensor) -> Tensor:
    """Which process has each view, (R,), from the ordered patients of views."""
    if not len(patients):
        return patients
    # by where the middle of a patient's views lies among all: so a patient's stay together
    _, of_each, sizes = torch.unique_consecutive(patients, return_inverse=True, return_counts=True)
    middles = (sizes.cumsum(0) - sizes / 2) / len(patients)
    owners: Tensor = torch.searchsorted(shares.cumsum(0)[:-1], middles)[of_each]
    return owners


@contextmanager
def _lost_process_named() -> Iterator[None]:
    """Around what waits for other processes: what torch raises when one is gone, as a run's error.

    Raises:
        RunError: that says so.
    """
    try:
        yield
    except RuntimeError as error:
        raise RunError(
            "another process of this training is gone, so that the step was ended without a "
            "result; it stays counted as spent, and the same command goes on after it"
        ) from error
