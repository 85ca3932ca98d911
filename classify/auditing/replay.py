"""Replay: the same training on patients and on all but one of them, step by step.

Both runs get the same noise and, in each step, the weights of the first one. All that may differ
then is the clipped sum, by the clip norm at most. A method of "Privacy in Theory, Bugs in Practice"
(arXiv 2602.17454).
"""

import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classify.auditing.subject import (
    Draw,
    RecordedNoise,
    Subject,
    open_ledger,
    scratch_folder,
    spread,
    train,
)
from classify.head.examples import Examples
from synthdp.errors import RunError
from synthdp.privacy.audit import noise_findings

# Stops: a training that is cut off and started again may use no noise twice.

CRASHES = 2
_KEY_BYTES = 32


class _CrashError(Exception):
    """Stands for a power cut."""


def stream_findings(drawn: Sequence[Draw]) -> list[str]:
    """What is wrong with all that one key gave: a stream, or its values, used twice."""
    findings = []
    if len({draw.stream for draw in drawn}) < len(drawn):
        findings.append("a stream of noise is drawn twice")
    values = {draw.noise.numpy().tobytes() for draw in drawn if draw.noise.numel() > 1}
    if len(values) < sum(draw.noise.numel() > 1 for draw in drawn):
        findings.append("the same noise is drawn twice")
    return findings


def after_stops(subject: Subject, generator: np.random.Generator) -> list[str]:
    """What is wrong when a training is stopped in the middle of blocks and goes on afterwards.

    Two crashes in one training, and a stop by Ctrl-C in another, at random steps.
    """
    return _after_crashes(subject, generator) + _after_ctrl_c(subject, generator)


def _after_crashes(subject: Subject, generator: np.random.Generator) -> list[str]:
    source = RecordedNoise(generator.bytes(_KEY_BYTES), subject.noise)

    def crash() -> None:
        raise _CrashError

    with scratch_folder() as folder:
        for _ in range(CRASHES):
            at = _inside_a_block(subject, folder, generator)
            _train_until(subject, source, folder, at, crash)
        train(subject, source, folder)
        spent = open_ledger(subject, folder).spent_steps
    return _finished(subject, source, spent, "a crash")


def _after_ctrl_c(subject: Subject, generator: np.random.Generator) -> list[str]:
    """None outside the main thread, which alone hears signals."""
    if threading.current_thread() is not threading.main_thread():
        return []
    source = RecordedNoise(generator.bytes(_KEY_BYTES), subject.noise)
    with scratch_folder() as folder:
        at = _inside_a_block(subject, folder, generator)
        _train_until(subject, source, folder, at, lambda: signal.raise_signal(signal.SIGINT))
        train(subject, source, folder)
        spent = open_ledger(subject, folder).spent_steps
    return _finished(subject, source, spent, "a clean stop")


def _finished(subject: Subject, source: RecordedNoise, spent: int, stop: str) -> list[str]:
    findings = [f"after {stop}, {finding}" for finding in stream_findings(source.drawn)]
    if spent < len(source.drawn) or len(source.drawn) > subject.mechanism.steps:
        findings.append(f"after {stop}, more steps are taken than ledger or mechanism count")
    return findings


def _inside_a_block(subject: Subject, folder: Path, generator: np.random.Generator) -> int:
    """A step in the next block but one, before its last; the very last step where there is none."""
    block = subject.recipe.block_steps
    first = open_ledger(subject, folder).spent_steps + block
    last = min(first + block, subject.mechanism.steps) - 1
    return int(generator.integers(first, last)) if first < last else last


def _train_until(
    subject: Subject, source: RecordedNoise, folder: Path, at: int, stop: Callable[[], None]
) -> None:
    """Train, and stop in the step `at`, after its noise is drawn."""

    def observe(step: int, weights: Tensor, released: Tensor) -> None:
        if step == at:
            stop()

    try:
        train(subject, source, folder, observe=observe)
    except (_CrashError, KeyboardInterrupt):
        return


#: Images of a made-up patient, and how far their inputs are beyond what features are.
_PLANTED_IMAGES, _PLANTED_NORM = 6, 1e3
_EXTREMES = 2
_KEY_BYTES_audit_replay = 32


@dataclass(frozen=True)
class Replay:
    """What a replay compared, and what it found.

    neighbours: how many neighbouring sets; largest_move: of a clipped sum, in clip norms; draws:
    Gaussian values that were tested; findings: broken promises, in words; none when sound.
    """

    neighbours: int
    largest_move: float
    draws: int
    findings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Followed(Examples):
    """Examples whose sums are taken at given weights (steps, T, D), in their order."""

    path: Tensor | None = None
    at: Iterator[int] = field(default_factory=count)

    def patient_sum(self, weights: Tensor, clip_norm: float | None) -> Tensor:
        step = next(self.at)
        if self.path is not None and step >= len(self.path):
            raise RunError("replay: a neighbour takes more steps than the run that it follows")
        return super().patient_sum(weights if self.path is None else self.path[step], clip_norm)

    def of(self, drawn: Tensor) -> Examples:
        """Some patients, whose sums are taken where they are asked for."""
        return Examples(self.inputs, self.targets, self.units, self.loss).of(drawn)


@dataclass(frozen=True)
class _Trace:
    """All that a run did: steps, weights before and means released by each, draws, ledger."""

    steps: list[int]
    weights: Tensor
    released: Tensor
    drawn: list[Draw]
    blocks: list[int]
    ledger: bytes

    @property
    def flow(self) -> tuple[object, ...]:
        """What may not depend on patients."""
        draws = [(draw.stream, draw.shape, draw.scale) for draw in self.drawn]
        return self.steps, draws, self.blocks, self.ledger


def replay(
    subject: Subject,
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
        risk: chance of a finding on a sound training, at most.
        workers: processes.
    """
    examples = _with_planted(subject.examples, subject.start)
    subject = subject.on(examples)
    key = generator.bytes(_KEY_BYTES_audit_replay)
    whole = _traced(subject, key)
    findings = _noise_of(subject, whole, risk)
    chosen = _chosen(subject.examples, whole, generator, patients)
    compared = spread(partial(_compared, subject, whole, key), chosen, workers)
    findings += [finding for _, found in compared for finding in found]
    findings += after_stops(subject, generator)
    return Replay(
        neighbours=len(chosen),
        largest_move=max(move for move, _ in compared),
        draws=sum(draw.noise.numel() for draw in whole.drawn),
        findings=tuple(dict.fromkeys(findings)),
    )


def without(examples: Examples, unit: int) -> Examples:
    """All patients but one."""
    kept = examples.units != unit
    _, units = torch.unique(examples.units[kept], return_inverse=True)
    return replace(
        examples, inputs=examples.inputs[kept], targets=examples.targets[kept], units=units
    )


def _with_planted(examples: Examples, start: Tensor) -> Examples:
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


def _traced(subject: Subject, key: bytes, path: Tensor | None = None) -> _Trace:
    source = RecordedNoise(key, subject.noise)
    told = subject.examples
    followed = _Followed(told.inputs, told.targets, told.units, told.loss, path=path)
    steps: list[int] = []
    weights: list[Tensor] = []
    released: list[Tensor] = []
    blocks: list[int] = []

    def observe(step: int, before: Tensor, mean: Tensor) -> None:
        steps.append(step)
        weights.append(before)
        released.append(mean)

    with scratch_folder() as folder:
        train(subject.on(followed), source, folder, observe=observe, on_block=blocks.append)
        ledger = (folder / "ledger.jsonl").read_bytes()
    return _Trace(steps, torch.stack(weights), torch.stack(released), source.drawn, blocks, ledger)


def _sums(subject: Subject, trace: _Trace) -> Tensor:
    """What was released, times the declared normaliser: each step's sum with its noise."""
    return (trace.released.double() * subject.mechanism.normaliser).flatten(1)


def _tolerance(subject: Subject, trace: _Trace) -> float:
    """Rounding of float32 sums and noise, as a Euclidean norm: a thousandth of the clip norm."""
    clip_norm, size = subject.mechanism.clip_norm, trace.released[0].numel()
    return 1e-3 * clip_norm + 1e-6 * subject.noise_scale * math.sqrt(size)


def clipped_sum(gradients: Tensor, units: Tensor, clip_norm: float) -> Tensor:
    """The sum that a step declares, written once more and apart: float64, (T * D,).

    Each unit's mean over its rows, scaled to `clip_norm` where it is longer; nothing where it is
    not finite.
    """
    total = gradients.new_zeros(gradients.shape[1], dtype=torch.float64)
    if not len(units):
        return total
    size = int(units.max()) + 1
    means = total.repeat(size, 1).index_add_(0, units, gradients.double())
    means = means / torch.bincount(units, minlength=size).clamp(min=1).unsqueeze(1)
    means = means[torch.isfinite(means).all(dim=1)]
    norms = means.norm(dim=1, keepdim=True)
    clipped: Tensor = means * (clip_norm / norms.clamp(min=clip_norm))
    return clipped.sum(dim=0)


def _noise_of(subject: Subject, trace: _Trace, risk: float) -> list[str]:
    """What is wrong with the noise of a run: drawn and released alike."""
    findings = stream_findings(trace.drawn)
    noisy = _sums(subject, trace)
    told = subject.examples
    declared = torch.stack(
        [clipped_sum(told.gradients(at), told.units, subject.mechanism.clip_norm)
         for at in trace.weights]
    )  # fmt: skip
    drawn = [draw.noise.flatten() for draw in trace.drawn]
    if [len(noise) for noise in drawn] != [noisy.shape[1]] * len(noisy):
        findings.append("not one draw of noise in each step, of the size of its sum")
    else:
        gap = (noisy - declared - torch.stack(drawn)).norm(dim=1)
        if not bool((gap <= _tolerance(subject, trace)).all()):
            findings.append(
                "released x declared normaliser is not the clipped sum plus the noise drawn"
            )
    scaled = ((noisy - declared) / subject.noise_scale).numpy()
    if not np.isfinite(scaled).all():
        return [*findings, "released means are not finite"]
    words = [f"the noise is {what}, not as declared" for what in noise_findings(scaled, risk)]
    return findings + words


def _chosen(
    examples: Examples, trace: _Trace, generator: np.random.Generator, patients: int
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


def _compared(subject: Subject, whole: _Trace, key: bytes, unit: int) -> tuple[float, list[str]]:
    """The largest move of a sum, in clip norms, and what a run without one patient shows."""
    trace = _traced(subject.on(without(subject.examples, unit)), key, whole.weights)
    findings = []
    if trace.flow != whole.flow:
        findings.append("steps, draws or ledger entries depend on who is there")
    if len(trace.steps) != len(whole.steps):
        return math.inf, findings
    moved = (_sums(subject, trace) - _sums(subject, whole)).norm(dim=1)
    clip_norm = subject.mechanism.clip_norm
    if not bool((moved <= clip_norm + _tolerance(subject, whole)).all()):
        findings.append("one patient moves a step's sum by more than the clip norm")
    return float(moved.max()) / clip_norm, findings
