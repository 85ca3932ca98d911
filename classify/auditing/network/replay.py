"""Replay of a network's training: the same steps on patients and on all but one, and after a crash.

A training takes minutes, not a tenth of a second as a head's, so that its first steps alone are
taken again.
"""

import copy
import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from classify.auditing.network.declared import declared_sum
from classify.auditing.network.planted import (
    TAG_BYTES,
    PlantedGradients,
    PlantedPatients,
    no_input,
    planted_among,
)
from classify.auditing.network.subject import NetworkSubject, train_subject
from synthdp.machine.progress import progress
from synthdp.privacy.attacks.audit import CANARY_IMAGE_NORMS, noise_flaws
from synthdp.privacy.attacks.rerun import (
    Draw,
    RecordedNoise,
    audit_ledger,
    counted_steps,
    repeated_noise,
    scratch_folder,
)
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.noisy_sum.sampling import sampled_units
from synthdp.runs.audit_record import Replay

_EXTREMES = 2
#: Coordinates of the noise that are tested, at most.
_TESTED = 20_000
_CRASH_STEPS, _CRASH_BLOCK = 4, 2
#: Rounding of float32 gradients, as a share of a patient's clip norm: grouped against one by one.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class _Trace:
    """What a run did: weights before and means released by each step, draws, steps counted."""

    weights: Tensor
    released: Tensor
    draws: list[Draw]
    flow: tuple[object, ...]


def replay(
    subject: NetworkSubject,
    generator: np.random.Generator,
    *,
    steps: int,
    patients: int,
    risk: float,
) -> Replay:
    """Compare the first steps with neighbours and their noise with its declaration; crash once.

    The sums are taken in float32, whatever the training's precision. They are compared with those
    of `declared_sum`, one patient after the other. Those left out take part in the first step:
    made-up ones, one far above the clip norm and one with a NaN, the longest gradients and some at
    random.

    Args:
        subject: the training.
        generator: chooses patients, and gives keys.
        steps: how many are replayed.
        patients: how many random patients are left out, one at a time.
        risk: chance that a sound training is called broken, at most.
    """
    top = copy.deepcopy(subject.top)
    top.precision = torch.float32
    subject = replace(subject.shortened(steps, subject.recipe.block_steps), top=top)
    key = generator.bytes(KEY_BYTES)
    planted = _with_planted(subject, key, generator)
    whole = _traced(subject, planted, key)
    broken, norms = _broken_sums(subject, planted, (whole, key), generator, risk)
    left_out = _left_out(subject, norms, generator, patients)
    moves = []
    for patient in progress(left_out, what="replay without a patient"):
        moved, words = _compared(subject, planted, patient, (whole, key))
        moves.append(moved)
        broken += words
    broken += _after_a_crash(subject, generator)
    return Replay(
        neighbours=len(left_out),
        largest_move=max(moves),
        draws=sum(draw.noise.numel() for draw in whole.draws),
        broken=tuple(dict.fromkeys(broken)),
    )


def _with_planted(
    subject: NetworkSubject, key: bytes, generator: np.random.Generator
) -> PlantedPatients:
    """The patients, and two made-up ones of tags that the first step draws."""
    tags: list[bytes] = []
    while len(tags) < 2:
        tag = generator.bytes(TAG_BYTES)
        if len(sampled_units(subject.mechanism, [tag], NoiseSource(key, subject.noise), 0)):
            tags.append(tag)
    n_images = len(CANARY_IMAGE_NORMS) + 1
    none = no_input(subject.examples)
    images = none.new_zeros(n_images, *none.shape[1:])
    images[-1] = math.nan
    coordinate = int(generator.integers(len(subject.top.flat())))
    lengths = torch.tensor([*CANARY_IMAGE_NORMS, 0.0]) * subject.mechanism.clip_norm
    coordinates = torch.tensor([coordinate] * len(CANARY_IMAGE_NORMS) + [-1])
    owners = torch.tensor([0] * len(CANARY_IMAGE_NORMS) + [1])
    return planted_among(subject.examples, tags, images, owners, (coordinates, lengths))


def _traced(
    subject: NetworkSubject, planted: PlantedPatients, key: bytes, path: Tensor | None = None
) -> _Trace:
    noise_source = RecordedNoise(key, subject.noise)
    weights: list[Tensor] = []
    released: list[Tensor] = []
    blocks: list[int] = []

    def observe(step: int, before: Tensor, mean: Tensor) -> None:
        weights.append(before.clone())
        released.append(mean.clone())

    with scratch_folder() as folder:
        train_subject(
            replace(subject, examples=planted.examples),
            noise_source,
            folder,
            observe=observe,
            on_block=blocks.append,
            gradients=partial(PlantedGradients, planted=planted, path=path),
        )
        counted = counted_steps(folder / "ledger.jsonl")
    draws = [(draw.stream, draw.shape, draw.scale) for draw in noise_source.draws]
    return _Trace(
        torch.stack(weights),
        torch.stack(released),
        noise_source.draws,
        (len(weights), draws, blocks, counted),
    )


def _sums(subject: NetworkSubject, trace: _Trace) -> Tensor:
    """What was released, times the declared normaliser: each step's sum with its noise, float64."""
    return trace.released.double().cpu() * subject.mechanism.normaliser


def _tolerance(subject: NetworkSubject, n_drawn: int) -> float:
    """Rounding of gradients, of their sum and of the released mean, as a Euclidean norm."""
    size, clip_norm = len(subject.top.flat()), subject.mechanism.clip_norm
    of_noise = 1e-6 * subject.noise_scale * math.sqrt(size)
    return (1e-3 + _ROUNDING * n_drawn) * clip_norm + of_noise


def _broken_sums(
    subject: NetworkSubject,
    planted: PlantedPatients,
    traced: tuple[_Trace, bytes],
    generator: np.random.Generator,
    risk: float,
) -> tuple[list[str], dict[int, float]]:
    """What is wrong with sums and noise of a run with its key; norms of those in its first step."""
    trace, key = traced
    broken = repeated_noise(trace.draws)
    noisy, mechanism = _sums(subject, trace), subject.mechanism
    sampler = NoiseSource(key, subject.noise)
    top, first_norms, rests = copy.deepcopy(subject.top), dict[int, float](), []
    drawn_noise = [draw.in_units_of(subject.noise_scale) for draw in trace.draws]
    sound_draws = [len(noise) for noise in drawn_noise] == [noisy.shape[1]] * len(noisy)
    if not sound_draws:
        broken.append("not one draw of noise in each step, of the size of its sum")
    steps = progress(trace.weights, what="sums compared", public_unit="steps")
    for step, weights in enumerate(steps):
        top.load_flat(weights)
        sampled = sampled_units(mechanism, planted.examples.tags, sampler, step)
        drawn, shown = sampled.tolist(), subject.shown(planted.examples, sampled, step)
        declared, norms = declared_sum(top, planted, drawn, shown, mechanism.clip_norm)
        first_norms = first_norms or norms
        rests.append(noisy[step] - declared)
        if sound_draws:
            gap = float((rests[-1] - drawn_noise[step]).norm())
            if not gap <= _tolerance(subject, len(drawn)):
                broken.append(
                    "released x declared normaliser is not the clipped sum plus the noise drawn"
                )
    chosen = generator.permutation(noisy.shape[1])[:_TESTED]
    scaled = torch.stack([rest[chosen] for rest in rests]).numpy() / subject.noise_scale
    if not np.isfinite(scaled).all():
        return [*broken, "released means are not finite"], first_norms
    flaws = noise_flaws(scaled, risk)
    return [*broken, *(f"the noise is {what}, not as declared" for what in flaws)], first_norms


def _left_out(
    subject: NetworkSubject,
    norms: dict[int, float],
    generator: np.random.Generator,
    patients: int,
) -> list[int]:
    """The made-up patients, and of those in the first step the longest and some at random.

    The first of all is left out too: without that one every other patient's index is another, so
    that whatever depends on an index shows.
    """
    n_real = len(subject.examples.tags)
    real = sorted((patient for patient in norms if patient < n_real), key=lambda p: -norms[p])
    drawn = generator.permutation(real)[:patients].tolist()
    first = range(min(n_real, 1))
    return list(dict.fromkeys([n_real, n_real + 1, *real[:_EXTREMES], *first, *drawn]))


def _own_sums(
    subject: NetworkSubject, planted: PlantedPatients, patient: int, traced: tuple[_Trace, bytes]
) -> Tensor:
    """What one patient adds to the sum of each step, as declared: (steps, P) float64."""
    trace, key = traced
    mechanism, sampler = subject.mechanism, NoiseSource(key, subject.noise)
    top, alone = copy.deepcopy(subject.top), torch.tensor([patient])
    sums = torch.zeros(trace.weights.shape, dtype=torch.float64)
    for step, weights in enumerate(trace.weights):
        top.load_flat(weights)
        if len(sampled_units(mechanism, [planted.examples.tags[patient]], sampler, step)):
            shown = subject.shown(planted.examples, alone, step)
            sums[step], _ = declared_sum(top, planted, [patient], shown, mechanism.clip_norm)
    return sums


def _compared(
    subject: NetworkSubject, planted: PlantedPatients, patient: int, traced: tuple[_Trace, bytes]
) -> tuple[float, list[str]]:
    """The largest move of a sum, in clip norms, and what a run without one patient shows."""
    whole, key = traced
    trace = _traced(subject, planted.without(patient), key, whole.weights)
    broken = []
    if trace.flow != whole.flow:
        broken.append("steps, draws or ledger entries depend on who is there")
    if len(trace.released) != len(whole.released):
        return float("inf"), broken
    difference = _sums(subject, whole) - _sums(subject, trace)
    moved, clip_norm = difference.norm(dim=1), subject.mechanism.clip_norm
    if not bool((moved <= clip_norm + _tolerance(subject, 0)).all()):
        broken.append("one patient moves a step's sum by more than the clip norm")
    others = (difference - _own_sums(subject, planted, patient, traced)).norm(dim=1)
    if not bool((others <= 2 * _tolerance(subject, 1)).all()):
        broken.append("one patient moves what others add to a step's sum")
    return float(moved.max()) / clip_norm, broken


class _CrashError(Exception):
    """Stands for a power cut."""


def _after_a_crash(subject: NetworkSubject, generator: np.random.Generator) -> list[str]:
    """What is wrong when a training goes on after a crash in the middle of a block."""
    short = subject.shortened(_CRASH_STEPS, _CRASH_BLOCK)
    noise_source = RecordedNoise(generator.bytes(KEY_BYTES), subject.noise)
    taken: list[int] = []

    def crash(step: int, weights: Tensor, released: Tensor) -> None:
        taken.append(step)
        if len(taken) == 1:  # the first step of a block of two, after its noise is drawn
            raise _CrashError

    with scratch_folder() as folder:
        for _ in range(2):
            try:
                train_subject(short, noise_source, folder, observe=crash)
            except _CrashError:
                continue
        spent = audit_ledger(
            short.mechanism, folder, block_steps=short.recipe.block_steps
        ).spent_steps
    broken = [f"after a crash, {words}" for words in repeated_noise(noise_source.draws)]
    if spent < len(noise_source.draws) or len(noise_source.draws) > short.mechanism.steps:
        broken.append("after a crash, more steps are taken than ledger or mechanism count")
    return broken
