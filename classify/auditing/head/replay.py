"""Replay: the same training on patients and on all but one of them, step by step; and after stops.

Both runs get the same noise and, in each step, the weights of the first one. All that may differ
then is the clipped sum, by the clip norm at most. A method of "Privacy in Theory, Bugs in Practice"
(arXiv 2602.17454). A training that is cut off and started again may use no noise twice.
"""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classify.auditing.head.subject import (
    HeadSubject,
    in_processes,
    open_ledger,
    train_subject,
)
from classify.head.examples import HeadExamples
from synthdp.errors import RunError
from synthdp.machine.progress import progress
from synthdp.privacy.attacks.audit import noise_flaws
from synthdp.privacy.attacks.rerun import (
    Draw,
    RecordedNoise,
    counted_steps,
    declared_bound,
    repeated_noise,
    scratch_folder,
)
from synthdp.privacy.keys import KEY_BYTES
from synthdp.runs.audit_record import Replay

#: Images of a made-up patient, and how far their inputs are beyond what features are.
_PLANTED_IMAGES, _PLANTED_NORM = 6, 1e3
_EXTREMES = 2
_CRASHES = 2


@dataclass(frozen=True, eq=False)
class _Followed(HeadExamples):
    """Examples whose sums are taken at given weights (steps, T, D), in their order."""

    path: Tensor | None = None
    at: Iterator[int] = field(default_factory=count)

    def patient_sum(self, weights: Tensor, clip_norm: float | None) -> Tensor:
        step = next(self.at)
        if self.path is not None and step >= len(self.path):
            raise RunError("replay: a neighbour takes more steps than the run that it follows")
        return super().patient_sum(weights if self.path is None else self.path[step], clip_norm)

    def of(self, drawn: Tensor) -> HeadExamples:
        """Some patients, whose sums are taken at the weights that they are asked for."""
        own = HeadExamples(
            self.inputs,
            self.targets,
            self.units,
            self.loss,
            positive_weights=self.positive_weights,
        )
        return own.of(drawn)


@dataclass(frozen=True)
class _Trace:
    """All that a run did: steps, weights before and means released by each, draws, ledger."""

    steps: list[int]
    weights: Tensor
    released: Tensor
    draws: list[Draw]
    blocks: list[int]
    ledger: list[tuple[object, ...]]

    @property
    def flow(self) -> tuple[object, ...]:
        """What may not depend on patients."""
        draws = [(draw.stream, draw.shape, draw.scale) for draw in self.draws]
        return self.steps, draws, self.blocks, self.ledger


def replay(
    subject: HeadSubject,
    generator: np.random.Generator,
    *,
    patients: int,
    risk: float,
    workers: int = 1,
) -> Replay:
    """Compare the training with neighbours, its noise with its declaration, and crash it.

    Beside real patients, the worst and some at random, made-up ones are left out: some with many
    images and gradients far above the clip norm, one with a NaN.

    Args:
        subject: the training.
        generator: chooses patients and moments of a crash, and gives keys.
        patients: how many random patients are left out, one at a time.
        risk: chance that a sound training is called broken, at most.
        workers: processes.
    """
    subject = subject.on(_with_planted(subject.examples, subject.start))
    key = generator.bytes(KEY_BYTES)
    whole = _traced(subject, key)
    broken = _broken_noise(subject, whole, risk)
    left_out = _left_out(subject.examples, whole, generator, patients)
    compared = in_processes(
        partial(_compared, subject, whole, key), left_out, workers, what="replay without a patient"
    )
    broken += [words for _, by_neighbour in compared for words in by_neighbour]
    broken += _after_crashes(subject, generator) + _after_ctrl_c(subject, generator)
    return Replay(
        neighbours=len(left_out),
        largest_move=max(move for move, _ in compared),
        draws=sum(draw.noise.numel() for draw in whole.draws),
        broken=tuple(dict.fromkeys(broken)),
    )


def without_patient(examples: HeadExamples, unit: int) -> HeadExamples:
    """All patients but one."""
    everybody = torch.arange(examples.n_units)
    return examples.of(everybody[everybody != unit])


def _with_planted(examples: HeadExamples, start: Tensor) -> HeadExamples:
    """The examples and three made-up patients, who stand last."""
    n_targets, n_features = start.shape
    inputs = torch.zeros(2 * _PLANTED_IMAGES + 1, n_features)
    inputs[:_PLANTED_IMAGES, 0] = _PLANTED_NORM
    inputs[_PLANTED_IMAGES:-1] = -_PLANTED_NORM / math.sqrt(n_features)
    inputs[-1] = math.nan
    # half of each label: whatever the weights, one half is wrong and its gradients are large
    targets = (torch.arange(len(inputs)) % 2).float().unsqueeze(1).repeat(1, n_targets)
    who = torch.tensor([0] * _PLANTED_IMAGES + [1] * _PLANTED_IMAGES + [2])
    return replace(
        examples,
        inputs=torch.cat([examples.inputs, inputs]),
        targets=torch.cat([examples.targets, targets]),
        units=torch.cat([examples.units, who + examples.n_units]),
    )


def _traced(subject: HeadSubject, key: bytes, path: Tensor | None = None) -> _Trace:
    noise_source = RecordedNoise(key, subject.noise)
    own = subject.examples
    followed = _Followed(
        own.inputs,
        own.targets,
        own.units,
        own.loss,
        positive_weights=own.positive_weights,
        path=path,
    )
    steps: list[int] = []
    weights: list[Tensor] = []
    released: list[Tensor] = []
    blocks: list[int] = []

    def observe(step: int, before: Tensor, mean: Tensor) -> None:
        steps.append(step)
        weights.append(before)
        released.append(mean)

    with scratch_folder() as folder:
        train_subject(
            subject.on(followed), noise_source, folder, observe=observe, on_block=blocks.append
        )
        ledger = counted_steps(folder / "ledger.jsonl")
    return _Trace(
        steps, torch.stack(weights), torch.stack(released), noise_source.draws, blocks, ledger
    )


def _sums(subject: HeadSubject, trace: _Trace) -> Tensor:
    """What was released, times the declared normaliser: each step's sum with its noise."""
    return (trace.released.double() * subject.mechanism.normaliser).flatten(1)


def _tolerance(subject: HeadSubject, trace: _Trace) -> float:
    """Room for the lattice and float32 means, as a norm: a thousandth of the clip norm."""
    clip_norm, size = subject.mechanism.clip_norm, trace.released[0].numel()
    return 1e-3 * clip_norm + 1e-6 * subject.noise_scale * math.sqrt(size)


def declared_sum(gradients: Tensor, units: Tensor, clip_norm: float) -> Tensor:
    """The clipped sum that a step declares, by code of its own: float64, (T * D,).

    It shares no line with the sum that the training takes, so that a fault in one shows against the
    other. Each unit's mean over its rows is scaled to `clip_norm` where it is longer, and left out
    where it is not finite.

    Args:
        gradients: (N, T * D), one row an image.
        units: (N,) int64, the patient of each row, counted from 0.
        clip_norm: the bound on each patient's mean.
    """
    total = gradients.new_zeros(gradients.shape[1], dtype=torch.float64)
    if not len(units):
        return total
    size = int(units.max()) + 1
    means = total.repeat(size, 1).index_add_(0, units, gradients.double())
    means = means / torch.bincount(units, minlength=size).clamp(min=1).unsqueeze(1)
    means = means[torch.isfinite(means).all(dim=1)]
    norms = means.norm(dim=1, keepdim=True)
    bound = declared_bound(clip_norm, means.shape[1])
    clipped: Tensor = means * (bound / norms.clamp(min=bound))
    return clipped.sum(dim=0)


def _broken_noise(subject: HeadSubject, trace: _Trace, risk: float) -> list[str]:
    """What is wrong with the noise of a run: drawn and released alike."""
    broken = repeated_noise(trace.draws)
    noisy = _sums(subject, trace)
    own = subject.examples
    clip_norm = subject.mechanism.clip_norm
    steps = progress(trace.weights, what="sums compared", public_unit="steps")
    at_each_step = (own.gradients(weights) for weights in steps)
    declared = torch.stack([declared_sum(rows, own.units, clip_norm) for rows in at_each_step])
    drawn = [draw.in_units_of(subject.noise_scale) for draw in trace.draws]
    if [len(noise) for noise in drawn] != [noisy.shape[1]] * len(noisy):
        broken.append("not one draw of noise in each step, of the size of its sum")
    else:
        gap = (noisy - declared - torch.stack(drawn)).norm(dim=1)
        if not bool((gap <= _tolerance(subject, trace)).all()):
            broken.append(
                "released x declared normaliser is not the clipped sum plus the noise drawn"
            )
    scaled = ((noisy - declared) / subject.noise_scale).numpy()
    if not np.isfinite(scaled).all():
        return [*broken, "released means are not finite"]
    words = [f"the noise is {what}, not as declared" for what in noise_flaws(scaled, risk)]
    return broken + words


def _left_out(
    examples: HeadExamples, trace: _Trace, generator: np.random.Generator, patients: int
) -> list[int]:
    """The made-up patients, the worst real ones, and some at random."""
    n_units = examples.n_units
    images = torch.bincount(examples.units, minlength=n_units)[: n_units - 3]
    halfway = examples.gradients(trace.weights[len(trace.weights) // 2]).double()
    means = torch.zeros(n_units, halfway.shape[1], dtype=torch.float64)
    means.index_add_(0, examples.units, halfway)
    norms = means.norm(dim=1)[: n_units - 3] / images.clamp(min=1)
    worst = [*images.argsort(descending=True)[:_EXTREMES].tolist()]
    worst += norms.argsort(descending=True)[:_EXTREMES].tolist()
    drawn = generator.choice(n_units - 3, size=min(patients, n_units - 3), replace=False)
    planted = range(n_units - 3, n_units)
    return list(dict.fromkeys([*planted, *worst, *(int(unit) for unit in drawn)]))


def _compared(
    subject: HeadSubject, whole: _Trace, key: bytes, unit: int
) -> tuple[float, list[str]]:
    """The largest move of a sum, in clip norms, and what a run without one patient shows."""
    trace = _traced(subject.on(without_patient(subject.examples, unit)), key, whole.weights)
    broken = []
    if trace.flow != whole.flow:
        broken.append("steps, draws or ledger entries depend on who is there")
    if len(trace.steps) != len(whole.steps):
        return math.inf, broken
    moved = (_sums(subject, trace) - _sums(subject, whole)).norm(dim=1)
    clip_norm = subject.mechanism.clip_norm
    if not bool((moved <= clip_norm + _tolerance(subject, whole)).all()):
        broken.append("one patient moves a step's sum by more than the clip norm")
    return float(moved.max()) / clip_norm, broken


class _CrashError(Exception):
    """Stands for a power cut."""


def _after_crashes(subject: HeadSubject, generator: np.random.Generator) -> list[str]:
    """What is wrong when a training goes on after two crashes in the middle of blocks."""
    noise_source = RecordedNoise(generator.bytes(KEY_BYTES), subject.noise)

    def crash() -> None:
        raise _CrashError

    with scratch_folder() as folder:
        for _ in range(_CRASHES):
            at = _inside_a_block(subject, folder, generator)
            _train_until(subject, noise_source, folder, at, crash)
        train_subject(subject, noise_source, folder)
        spent = open_ledger(subject, folder).spent_steps
    return _broken_by_stop(subject, noise_source, spent, "a crash")


def _after_ctrl_c(subject: HeadSubject, generator: np.random.Generator) -> list[str]:
    """As `_after_crashes` for a stop; none outside the main thread, which alone hears signals."""
    if threading.current_thread() is not threading.main_thread():
        return []
    noise_source = RecordedNoise(generator.bytes(KEY_BYTES), subject.noise)
    with scratch_folder() as folder:
        at = _inside_a_block(subject, folder, generator)
        _train_until(subject, noise_source, folder, at, lambda: signal.raise_signal(signal.SIGINT))
        train_subject(subject, noise_source, folder)
        spent = open_ledger(subject, folder).spent_steps
    return _broken_by_stop(subject, noise_source, spent, "a clean stop")


def _broken_by_stop(
    subject: HeadSubject, noise_source: RecordedNoise, spent: int, stop: str
) -> list[str]:
    broken = [f"after {stop}, {words}" for words in repeated_noise(noise_source.draws)]
    if spent < len(noise_source.draws) or len(noise_source.draws) > subject.mechanism.steps:
        broken.append(f"after {stop}, more steps are taken than ledger or mechanism count")
    return broken


def _inside_a_block(subject: HeadSubject, folder: Path, generator: np.random.Generator) -> int:
    """A step in the next block but one, before its last; the very last step where there is none."""
    block = subject.recipe.block_steps
    first = open_ledger(subject, folder).spent_steps + block
    last = min(first + block, subject.mechanism.steps) - 1
    return int(generator.integers(first, last)) if first < last else last


def _train_until(
    subject: HeadSubject,
    noise_source: RecordedNoise,
    folder: Path,
    at: int,
    stop: Callable[[], None],
) -> None:
    """Train, and stop in the step `at`, after its noise is drawn."""

    def observe(step: int, weights: Tensor, released: Tensor) -> None:
        if step == at:
            stop()

    try:
        train_subject(subject, noise_source, folder, observe=observe)
    except (_CrashError, KeyboardInterrupt):
        return
