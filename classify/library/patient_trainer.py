"""Private training of any torch module, in a loop of your own: one turn is one private step.

A step hands the loss the images of one patient at a time, so that a patient's gradient can't hold
anybody else; it is clipped, summed on the lattice and noised as in every stage
(`synthdp.privacy.noisy_sum`), and only then is it a gradient that an optimiser sees.
"""

import hmac
import os
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import LBFGS, Optimizer
from torch.utils.data import default_collate

from classify.library.kept_by_module import (
    differ,
    held_tensors,
    kept_values,
    refuse_changed_values,
    refuse_leftovers,
    refuse_memory,
)
from classify.library.ledger_folder import LedgerFolder, open_ledger_folder, plan_for_arrays
from classify.library.patient_names import patient_names
from classify.network.added import added_gradients
from classify.network.apart import (
    refuse_complex_weights,
    refuse_mixing_layers,
)
from synthdp.errors import InputError
from synthdp.machine.devices import reproducible
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.steps import reserved_blocks
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.clipped_total import ClippedTotal
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import open_noise_source
from synthdp.privacy.noisy_sum.sampling import sampled_units
from synthdp.privacy.promise.plan import PrivacyPlan
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.settings import PrivacySettings

_DECLARED = (
    "which items of the Dataset are one patient's, as patients says",
    "that an item of the Dataset is made of that patient's images alone",
    "that the module's weights before the first step come of no patient's images, but for what "
    "starts_from states",
)


class Items(Protocol):
    """A Dataset whose items are found by number, such as `torch.utils.data.Dataset`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


#: The newest trainer of each optimiser.
_trainer_of: WeakKeyDictionary[Optimizer, "weakref.ref[PatientTrainer]"] = WeakKeyDictionary()
#: Where a layer holds the ids of the releases that moved it; its copies and pickles have it too.
_MOVED_BY = "_synthdp_moved_by"
#: Given the module and a batch of ONE patient's items: one loss, or one for each item.
Loss = Callable[[nn.Module, Any], Tensor]


class PatientTrainer:
    """Trains a module with a promise to each patient, in your own loop.

    A turn of `for step in trainer` is one step of the plan, reserved in the ledger on disk before
    it is given. `trainer.step(loss)` takes it: for each patient who takes part, the mean gradient
    over that patient's images, clipped as one vector; their sum, with Gaussian noise; then
    `optimizer.step()` on it. Momentum, Adam, schedules and averages of weights after that cost
    nothing.

    What can't be done by mistake: a turn without its step, two steps in a turn, more steps than
    planned, an `optimizer.step()` past the trainer, weights that something else moves between
    steps: each raises. A layer that mixes images of a batch or keeps figures of them (BatchNorm) is
    refused by its name. A trainer can't be copied, and a fork can't use it. Dropout, and random
    augmentation in the Dataset, are drawn anew for each patient and step from a secret seed, so
    that nobody moves another patient's.

    After a crash a new trainer is a new release: both count. A loop may end before its last step,
    and its statement counts the whole plan.

    Args:
        model: any module; its parameters that require gradients are trained.
        optimizer: of exactly these parameters; not LBFGS, which asks for more than one gradient.
        dataset: items by number; an item is one image with whatever the loss needs beside it.
        patients: (N,) the patient of each item, such as an id.
        epsilon: for each patient, end to end; `math.inf` for the same recipe without clipping and
            noise.
        delta: below 1 / population.
        population: a public round number, surely at least the number of patients; sums are divided
            by it, so that the true number enters nothing that is public.
        steps: how many; more cost no privacy, since each gets its share of noise.
        clip_norm: bound on each patient's gradient.
        sampling_rate: with which each patient takes part in a step (Poisson); 1 for everybody.
        ledger: a folder that counts what is released of these patients: new, or of an earlier
            training, or of their data set. None keeps it in memory, and the statement says so.
        starts_from: the statement of what the module's weights descend from, if it cost privacy;
            what that spent on the same patients is taken off epsilon.
        collate: items of one patient to a batch.
        images_at_once: of a patient with more, so many go through the module at a time.
        block_steps: steps that are reserved on the disk at a time.

    Guarantee: all weights that the steps ever gave cost a patient what `statement` says, as far as
    the loss and the Dataset give for a patient's items a function of that patient's images, the
    weights, and the randomness of `random`, `numpy.random` and `torch`. Assumed, as everywhere
    here: that the same kernels give the same bits for the same patient in two runs on one machine.

    Raises:
        InputError: when module, optimiser, data or settings don't fit.

    >>> from torch.utils.data import TensorDataset
    >>> images, labels = torch.randn(60, 1, 8, 8), torch.arange(60) % 2
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    >>> trainer = PatientTrainer(
    ...     model, optimizer, TensorDataset(images, labels), [n // 2 for n in range(60)],
    ...     epsilon=6, delta=1e-3, population=40, steps=5)
    >>> def loss(model, batch):
    ...     return nn.functional.cross_entropy(model(batch[0]), batch[1])
    >>> for step in trainer:
    ...     trainer.step(loss)
    >>> trainer.statement().epsilon <= 6
    True
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        dataset: Items,
        patients: Sequence[object],
        *,
        epsilon: float,
        delta: float,
        population: int,
        steps: int,
        clip_norm: float = 1.0,
        sampling_rate: float = 1.0,
        ledger: Path | str | None = None,
        starts_from: Statement | None = None,
        collate: Callable[[list[Any]], Any] = default_collate,
        images_at_once: int = 64,
        block_steps: int = 10,
    ) -> None:
        if images_at_once < 1 or block_steps < 1:
            raise InputError("images_at_once and block_steps: at least 1")
        self._model, self._optimizer, self._dataset = model, optimizer, dataset
        self._collate, self._at_once, self._block_steps = collate, images_at_once, block_steps
        self._trained = _trained_parameters(model, optimizer)
        refuse_mixing_layers(model)
        refuse_complex_weights(model)
        names, self._items = _by_patient(dataset, patients)
        self._folder: LedgerFolder = open_ledger_folder(ledger)
        self._tags = self._folder.tags(names)
        self._plan: PrivacyPlan = plan_for_arrays(
            self._folder,
            stage="PatientTrainer",
            subject="model",
            epsilon=epsilon,
            delta=delta,
            population=population,
            steps=steps,
            clip_norm=clip_norm,
            sampling_rate=sampling_rate,
            declared=_DECLARED,
            starts_from=starts_from,
        )
        # an unprotected training samples and divides as a private one does
        self._sampling = self._plan.mechanism or Mechanism(
            noise_multiplier=0,
            steps=steps,
            sampling_rate=sampling_rate,
            normaliser=population * sampling_rate,
        )
        self._noise_source = open_noise_source(PrivacySettings())
        self._ledger: Ledger | None = None
        self._numbers = self._reserved()
        self._turn: int | None = None
        self._ended = False
        self._process = os.getpid()
        self._moving = False
        self._compared = False
        self._held = held_tensors(model)
        _refuse_forgotten(model, starts_from)
        _refuse_steps_past(self, optimizer)

    def __len__(self) -> int:
        """How many steps are planned."""
        return self._sampling.steps

    def __iter__(self) -> "PatientTrainer":
        return self

    def __next__(self) -> int:
        """The number of the next step, which `step` is to take.

        Raises:
            InputError: when the turn before ended without `step`, an error ended the training, or
                the trainer was made in another process.
        """
        self._refuse_elsewhere()
        if self._turn is not None:
            raise InputError(
                f"turn {self._turn} of the loop ended without trainer.step(loss), so that a step "
                "was paid for and not taken; call it once in each turn (after a stop in the "
                "middle of it: once more, and then go on with the loop)"
            )
        try:
            number = next(self._numbers)
        except StopIteration:
            if not self._ended:
                raise InputError(
                    "an error has ended this training; mend what it told, and make a new trainer, "
                    "which is a release of its own"
                ) from None
            raise
        self._turn = number
        return number

    def step(self, loss: Loss) -> None:
        """Take the step of this turn: put the noisy mean gradient in place, and move the weights.

        Args:
            loss: called with the module and a batch of ONE patient's items, as `collate` makes it;
                gives one loss, or one for each item. It tells nothing to the loop: a loss of
                patients is private. Watch the training on synthetic images instead.

        Raises:
            InputError: outside a turn, or a second time in one; when something else has moved the
                weights; when the loss, or a layer, remembers other patients; or when the trainer
                was made in another process.
        """
        self._refuse_elsewhere()
        if self._turn is None:
            raise InputError(
                "trainer.step(loss) takes the step of a turn, once: call it inside "
                "`for step in trainer:`, one time in each turn"
            )
        self._refuse_moved()
        refuse_mixing_layers(self._model)
        number = self._turn
        drawn = sampled_units(self._sampling, self._tags, self._noise_source, number).tolist()
        total = self._summed(loss, drawn, number)
        self._turn = None  # from here on the step is taken, whatever happens: its noise is drawn
        if self._plan.mechanism is None:
            released = (total / self._sampling.normaliser).float()
        else:
            assert self._ledger is not None  # a turn was given
            released = noisy_mean(total, self._ledger.mechanism, self._noise_source, number)
        self._move(released)

    def statement(self) -> Statement:
        """The promise for all weights that the planned steps give, whether or not all are taken.

        A loop that ends early may have ended because of what was released (a figure on public
        images), which fewer steps would not cover.

        Raises:
            InputError: when something else has moved the weights since the last step.
        """
        self._refuse_moved()
        if self._ledger is None:
            return self._plan.statement
        release = self._plan.release
        if self._plan.mechanism is not None:
            release = release.started(self._ledger.spent().starts)
        return self._plan.statement_after(release)

    @property
    def mechanism(self) -> Mechanism | None:
        """Noise, clip norm, sampling rate, steps and normaliser; None without privacy."""
        return self._plan.mechanism

    def _reserved(self) -> Iterator[int]:
        """The numbers of the steps; the release goes on record before the first."""
        counts = {"units_beyond_population": self._beyond_population()}
        self._plan, self._ledger, _ = self._folder.claimed(
            self._plan, block_steps=self._block_steps, counts=counts
        )
        for layer in _layers_of(self._model, self._trained):
            layer.__dict__[_MOVED_BY] = (*_moved_by(layer), self._plan.release.id)
        if self._plan.mechanism is None:
            yield from range(self._sampling.steps)
        else:
            blocks = reserved_blocks(self._ledger, state_at=0, block_steps=self._block_steps)
            yield from chain.from_iterable(blocks)
            self._ledger.close()
        self._ended = True

    def _beyond_population(self) -> int:
        return max(0, len(self._tags) - (self._plan.population or len(self._tags)))

    def _summed(self, loss: Loss, drawn: list[int], number: int) -> Tensor:
        """The sum over patients of their gradients, clipped where something is promised: (P,)."""
        clipped = ClippedTotal(self._trained, self._sampling.clip_norm)
        plain = torch.zeros(sum(p.numel() for p in self._trained), device=self._trained[0].device)
        first: list[Tensor] = []
        kept = kept_values(self._model)
        with _own_randomness(self._trained[0].device), reproducible():
            for patient in drawn:
                gradient = self._gradient(loss, patient, number)
                first = first or gradient
                if self._plan.mechanism is None:
                    plain += torch.cat([part.flatten() for part in gradient])
                else:
                    clipped.add(gradient)
            self._refuse_moved()  # before the comparison, since it names the layer
            refuse_changed_values(kept, kept_values(self._model))
            if drawn and not self._compared:
                refuse_memory(first, self._gradient(loss, drawn[0], number))
                refuse_leftovers(self._model, first, lambda: self._gradient(loss, drawn[0], number))
                self._compared = True
        return plain if self._plan.mechanism is None else clipped.total

    def _gradient(self, loss: Loss, patient: int, number: int) -> list[Tensor]:
        """The mean over a patient's items of the gradient: float32, shaped as each parameter."""
        _seed(self._noise_source.key, self._tags[patient], number)
        with torch.enable_grad():
            return added_gradients(self._trained, self._losses(loss, self._items[patient]))

    def _losses(self, loss: Loss, items: Sequence[int]) -> Iterator[tuple[Tensor, float]]:
        """The loss of each few of a patient's items, and their share of all."""
        for start in range(0, len(items), self._at_once):
            some = items[start : start + self._at_once]
            value = loss(self._model, self._collate([self._dataset[item] for item in some]))
            if not isinstance(value, Tensor) or not value.requires_grad:
                raise InputError(
                    "the loss gives nothing that depends on the module's trained weights; "
                    "return a tensor made from model(images), without detach() or item()"
                )
            yield value.mean(), len(some) / len(items)

    def _move(self, released: Tensor) -> None:
        """Let the optimiser take its step on what was released."""
        parts = released.split([parameter.numel() for parameter in self._trained])
        for parameter, part in zip(self._trained, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
        self._moving = True
        try:
            self._optimizer.step()
        finally:
            self._moving = False
            self._optimizer.zero_grad(set_to_none=True)
            self._held = held_tensors(self._model)

    def __reduce_ex__(self, protocol: object) -> Any:
        raise InputError(
            "a trainer can't be copied, pickled or handed to another process: both would add the "
            "same noise, and what they release would differ by the patients alone; make one there"
        )

    def _refuse_elsewhere(self) -> None:
        """Refuse to go on in a fork, which would add the noise that others add, too."""
        if os.getpid() != self._process:
            raise InputError(
                "the trainer was made in another process, whose forks would all add the same "
                "noise, so that what they release would differ by the patients alone; make a "
                "trainer in each"
            )

    def _refuse_moved(self) -> None:
        """Refuse weights, or figures of a layer, that something but a step has moved."""
        now = held_tensors(self._model)
        moved = [
            name
            for name in {**self._held, **now}
            if name not in now or name not in self._held or differ(now[name], self._held[name])
        ]
        if moved:
            raise InputError(
                f"{moved[0]}: something but trainer.step has moved it (an optimiser of its own, a "
                "layer that keeps figures of what it saw, weights that were loaded), so that the "
                "statement would not hold for it; move weights by trainer.step alone, and average "
                "them in a copy"
            )
        trained = [p for p in self._model.parameters() if p.requires_grad]
        if [id(p) for p in trained] != [id(p) for p in self._trained]:
            raise InputError(
                "other parameters require gradients than when the trainer was made; make a new "
                "trainer for them, which is a release of its own"
            )


def _trained_parameters(model: nn.Module, optimizer: Optimizer) -> list[nn.Parameter]:
    """The parameters that are trained, which are exactly those of the optimiser.

    Raises:
        InputError: when they are not, none is, or the optimiser asks for more than a gradient.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise InputError("no parameter of the module requires gradients, so nothing is trained")
    for name, parameter in named.items():
        if is_lazy(parameter):
            raise InputError(
                f"{name}: its shape is not known yet; call the module once on a made-up image"
            )
    if len({parameter.device for parameter in named.values()}) > 1:
        raise InputError("the module stands on several devices; put all of it on one")
    if isinstance(optimizer, LBFGS):
        raise InputError("LBFGS asks for many gradients a step; take SGD, Adam or the like")
    of_optimizer = {id(p) for group in optimizer.param_groups for p in group["params"]}
    of_model = {id(parameter) for parameter in named.values()}
    if left := [name for name, p in named.items() if id(p) not in of_optimizer]:
        raise InputError(
            f"{left[0]}: is not among the optimiser's parameters; give it to the optimiser, or "
            "freeze it with requires_grad_(False) before the optimiser is made"
        )
    if of_optimizer - of_model:
        raise InputError(
            "the optimiser has parameters that the module doesn't train; put all that is trained "
            "into one module, and make the optimiser of its parameters that require gradients"
        )
    return list(named.values())


def _by_patient(
    dataset: Items, patients: Sequence[object]
) -> tuple[list[str], list[tuple[int, ...]]]:
    """The patients' names, and for each the numbers of its items, ascending.

    Raises:
        InputError: when items and patients are not as many, or an item has no patient.
    """
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise InputError("dataset: gives no items by number; take one with __getitem__ and __len__")
    items: dict[str, list[int]] = {}
    for number, name in enumerate(patient_names(patients, len(dataset), setting="patients")):
        items.setdefault(name, []).append(number)
    return list(items), [tuple(numbers) for numbers in items.values()]


def _layers_of(model: nn.Module, trained: Sequence[nn.Parameter]) -> list[nn.Module]:
    """The layers that hold these parameters themselves."""
    ids = {id(parameter) for parameter in trained}
    return [
        layer
        for layer in model.modules()
        if any(id(parameter) in ids for parameter in layer.parameters(recurse=False))
    ]


def _moved_by(layer: nn.Module) -> tuple[str, ...]:
    """The ids of the releases that moved a layer, or what it is a copy of."""
    ids: tuple[str, ...] = layer.__dict__.get(_MOVED_BY, ())
    return ids


def _refuse_forgotten(model: nn.Module, starts_from: Statement | None) -> None:
    """Refuse to go on with layers that a trainer has moved, as if nobody had been seen yet.

    Raises:
        InputError: when the statement of what was before leaves a release out.
    """
    releases = () if starts_from is None else starts_from.lineage.releases
    moved_by = {one for layer in model.modules() for one in _moved_by(layer)}
    if moved_by - {release.id for release in releases}:
        raise InputError(
            "starts_from: the module, or a layer of it, was trained by a PatientTrainer before, "
            "and its statement would leave that out; pass starts_from=trainer.statement() of that "
            "one (its epsilon is then taken off this one's), or begin with a new module"
        )


def _refuse_steps_past(trainer: PatientTrainer, optimizer: Optimizer) -> None:
    """Let the optimiser refuse every step but those that the newest trainer asks for."""
    if optimizer not in _trainer_of:
        optimizer.register_step_pre_hook(_refuse_step_past)
    _trainer_of[optimizer] = weakref.ref(trainer)


def _refuse_step_past(optimizer: Optimizer, *_: object) -> None:
    known = _trainer_of[optimizer]()
    if known is not None and not known._moving:
        raise InputError(
            "optimizer.step() was called past its trainer, on a gradient without noise; leave it "
            "out: trainer.step(loss) calls it"
        )


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Give back the states of all global generators after the block."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _seed(key: bytes, tag: bytes, step: int) -> None:
    """Seed the global generators for a patient's part in a step, whoever else is there."""
    digest = hmac.new(key, f"patient {step} ".encode() + tag, "sha256").digest()
    random.seed(digest)
    np.random.seed(np.frombuffer(digest, dtype=np.uint32))
    torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
