"""What an audit attacks: a head's training, with everything that decides it but the noise."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from joblib import Parallel, delayed
from torch import Tensor

from classify.head.examples import HeadExamples, PublicExamples
from classify.head.train import HeadRecipe, train_private_head
from synthdp.machine.progress import counted, progress, silence_bars
from synthdp.privacy.attacks.rerun import PromisedTraining, audit_ledger
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.steps import Observer
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseKind, NoiseSource
from synthdp.runs.audit_record import Audited

_CHUNKS_A_WORKER = 4
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class HeadSubject(PromisedTraining):
    """A private training of a head, ready to be run again on neighbouring patients.

    delta: at which the mechanism's epsilon is stated; the rest as in `train_private_head`.
    """

    examples: HeadExamples
    recipe: HeadRecipe
    mechanism: Mechanism
    start: Tensor
    delta: float
    noise: NoiseKind = "shake256"
    public: PublicExamples | None = None

    @property
    def audited(self) -> Audited:
        """Whose promise is tried, for the record."""
        return Audited("head", self.epsilon, self.delta, self.mu)

    @property
    def mu(self) -> float:
        """Signal-to-noise that is promised."""
        return self.mechanism.mu

    def on(self, examples: HeadExamples) -> "HeadSubject":
        """The same training of other patients."""
        return replace(self, examples=examples)


def open_ledger(subject: HeadSubject, folder: Path) -> Ledger:
    """The ledger of the audited training in `folder`, claimed."""
    return audit_ledger(subject.mechanism, folder, block_steps=subject.recipe.block_steps)


def train_subject(
    subject: HeadSubject,
    noise_source: NoiseSource,
    folder: Path,
    *,
    observe: Observer = lambda step, weights, released: None,
    on_block: Callable[[int], None] = lambda spent: None,
) -> Tensor:
    """Run the real training with its ledger and checkpoints in `folder`, or resume it there."""
    return train_private_head(
        subject.start,
        subject.examples,
        subject.recipe,
        ledger=open_ledger(subject, folder),
        noise_source=noise_source,
        checkpoints=folder / "checkpoints",
        public=subject.public,
        on_block=on_block,
        observe=observe,
    )


def in_processes(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int, *, what: str
) -> list[Result]:
    """What `work` gives for each task, in order, by some processes of one thread each.

    `what` is the name of all of it, where progress is shown.
    """
    if workers == 1:
        return [work(task) for task in progress(tasks, what=what)]
    size = max(1, -(-len(tasks) // (workers * _CHUNKS_A_WORKER)))
    chunks = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    parallel = Parallel(n_jobs=workers, return_as="generator")
    by_chunk = parallel(delayed(_in_turn)(work, chunk, os.getpid()) for chunk in chunks)
    results: list[Result] = []
    with counted(what, total=len(tasks)) as advance:
        for chunk in by_chunk:
            results += chunk
            advance(len(chunk))
    return results


def _in_turn(work: Callable[[Task], Result], tasks: Sequence[Task], parent: int) -> list[Result]:
    if os.getpid() != parent:
        silence_bars()  # the parent counts
    torch.set_num_threads(1)
    return [work(task) for task in tasks]
