"""The training of a network, or its last blocks, under attack: replay, canaries, membership.

A training takes minutes here, not a tenth of a second, so the attacks are those that one training
and a few of its steps allow. Everything real is run: the samples of patients, the hooks that make
their gradients, clipping, the sum and its noise. What is made up are canaries, patients whose
gradient is put in the place of what the network gives for them, long and along one weight.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from classify.model import features, load_classifier, logits
from classify.network.gradients import Examples, PatientGradients, Views
from classify.network.images import ImageExamples, Images, step_views
from classify.network.top import TrainedNetwork
from classify.network.train import train_private_network
from classify.settings.network import NetworkSettings
from synthdp.config.settings import AuditSettings
from synthdp.data.dataset import Dataset, Row, targets_array, units_of
from synthdp.machine.progress import progress
from synthdp.privacy.attacks.audit import (
    CanaryScores,
    canary_bounds,
    canary_fit,
    canary_refutes,
    noise_flaws,
)
from synthdp.privacy.attacks.membership import MembersFound, members_of_one_model
from synthdp.privacy.attacks.rerun import (
    Draw,
    PromisedTraining,
    RecordedNoise,
    audit_ledger,
    counted_steps,
    declared_bound,
    repeated_noise,
    scratch_folder,
)
from synthdp.privacy.ledger.steps import Observer
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.clipping import unit_means
from synthdp.privacy.noisy_sum.noise import KEY_BYTES, NoiseKind, NoiseSource
from synthdp.privacy.noisy_sum.sampling import sampled_units
from synthdp.runs.audit_record import (
    CHECKS,
    FALSE_ALARM_RATES,
    Audited,
    AuditResult,
    Clock,
    Replay,
    broken_bounds,
)

ONE_RUN = "canaries in one run"
#: Norms of the images of a canary of the replay, in clip norms: its mean is far above one.
_IMAGE_NORMS = (50.0, 20.0, 120.0)
#: That of the one image of a canary of the one run.
_NORM = 50.0
_EXTREMES = 2
#: Coordinates of the noise that are tested, at most.
_TESTED = 20_000
_CRASH_STEPS, _CRASH_BLOCK = 4, 2
_TAG_BYTES = 32
#: Rounding of float32 gradients, as a share of a patient's clip norm: grouped against one by one.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class NetworkSubject(PromisedTraining):
    """A private training of a network and head, ready to be run again; `top` is never moved.

    seed: moves what a step shows of patients; dataset: whose train split `examples` are of; delta:
    at which the mechanism's epsilon is stated; the rest as in `train_private_network`.
    """

    top: TrainedNetwork
    examples: Examples
    recipe: NetworkSettings
    mechanism: Mechanism
    delta: float
    seed: int = 0
    dataset: Dataset | None = None
    noise: NoiseKind = "shake256"

    @property
    def audited(self) -> Audited:
        """Whose promise is tried, for the record."""
        return Audited("network", self.epsilon, self.delta, self.mechanism.mu)

    def shown(self, examples: Examples, drawn: Tensor, step: int) -> Views:
        """What a step shows of the patients that it draws among `examples`."""
        return step_views(
            examples,
            drawn,
            step,
            fresh=self.recipe.augment is not None,
            max_images=self.recipe.max_images,
            seed=self.seed,
        )

    def shortened(self, steps: int, block_steps: int) -> "NetworkSubject":
        """The first steps of the training, under the same noise."""
        steps = min(steps, self.mechanism.steps)
        changes = {"steps": steps, "block_steps": min(steps, block_steps)}
        return replace(
            self,
            mechanism=self.mechanism.model_copy(update={"steps": steps}),
            recipe=self.recipe.model_copy(update=changes),
        )


@dataclass(frozen=True, eq=False)
class _Some:
    """Some images of examples, then made-up ones: `Examples` too, without a copy of them.

    base: the examples; chosen: (M,) int64, which of their images stand first; made: (K, ...) what
    the network sees of those that follow, in each view.
    """

    base: Examples
    chosen: Tensor
    made: Tensor
    targets: Tensor
    units: Tensor
    tags: Sequence[bytes]

    @property
    def n_views(self) -> int:
        """How many views an image has."""
        return self.base.n_views

    @property
    def positive_weights(self) -> Tensor | None:
        """What the loss of a positive is multiplied by."""
        return self.base.positive_weights

    def inputs(self, images: Tensor, views: Tensor) -> Tensor:
        """What the network sees of some views, (R, ...)."""
        own = images < len(self.chosen)
        rows = self.base.inputs(self.chosen[images[own]], views[own])
        if bool(own.all()):
            return rows
        values = rows.new_empty(len(images), *rows.shape[1:])
        values[own] = rows
        values[~own] = self.made[images[~own] - len(self.chosen)].to(rows)
        return values


def _no_input(examples: Examples) -> Tensor:
    """No input of the network, (0, ...): it tells an input's shape, though nobody may be there."""
    none = torch.zeros(0, dtype=torch.int64)
    return examples.inputs(none, none)


@dataclass(frozen=True, eq=False)
class _SomeImages:
    """Images at some places of others."""

    source: Images
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Those at some places of these."""
        return self.source.images(self.places[indices])


def _left_of(examples: ImageExamples, patient: int) -> ImageExamples:
    """All patients but one, whose images are drawn as of a set without that one."""
    kept = torch.nonzero(examples.units != patient).flatten()
    units = examples.units[kept]
    return replace(
        examples,
        source=_SomeImages(examples.source, kept.numpy()),
        targets=examples.targets[kept],
        units=units - (units > patient).long(),
        tags=[tag for index, tag in enumerate(examples.tags) if index != patient],
    )


@dataclass(frozen=True, eq=False)
class _Planted:
    """Real patients and made-up ones, who stand last.

    gradients: for each image a canary's weight, by its place in the flat vector, and the length of
    its gradient, (N,) each; a weight of -1 for images that are no canary's.
    """

    examples: _Some
    coordinates: Tensor
    lengths: Tensor

    def without(self, patient: int) -> "_Planted":
        """All patients but one; real images are made as where that one never was."""
        old = self.examples
        base, chosen = old.base, old.chosen
        if isinstance(base, ImageExamples) and patient < len(base.tags):
            base = _left_of(base, patient)
            chosen = torch.arange(len(base.units))
        else:
            chosen = chosen[old.units[: len(chosen)] != patient]
        kept = torch.nonzero(old.units != patient).flatten()
        units = old.units[kept]
        return _Planted(
            replace(
                old,
                base=base,
                chosen=chosen,
                made=old.made[old.units[len(old.chosen) :] != patient],
                targets=old.targets[kept],
                units=units - (units > patient).long(),
                tags=[tag for index, tag in enumerate(old.tags) if index != patient],
            ),
            self.coordinates[kept],
            self.lengths[kept],
        )


def _plant(
    examples: Examples,
    tags: Sequence[bytes],
    images: Tensor,
    owners: Tensor,
    gradients: tuple[Tensor, Tensor],
) -> _Planted:
    """Examples and made-up patients of these `tags`, whose images are of `owners`, from 0."""
    n, own = len(examples.units), len(examples.tags)
    labels = (torch.arange(len(images)) % 2).float().unsqueeze(1)
    coordinates, lengths = gradients
    return _Planted(
        _Some(
            examples,
            torch.arange(n),
            images,
            torch.cat([examples.targets, labels.repeat(1, examples.targets.shape[1])]),
            torch.cat([examples.units, owners + own]),
            [*examples.tags, *tags],
        ),
        torch.cat([torch.full((n,), -1), coordinates]),
        torch.cat([torch.zeros(n), lengths]),
    )


class _AuditedGradients(PatientGradients):
    """The training's own gradients, with canaries in place of what the network gives for them.

    With a `path`, (steps, P), each sum is taken at its weights, whatever the training's are.
    """

    def __init__(self, top: TrainedNetwork, planted: _Planted, path: Tensor | None = None) -> None:
        super().__init__(top)
        self._top, self._planted, self._path, self._step = top, planted, path, 0

    def clipped_sum(self, examples: Examples, views: Views, **named: Any) -> Tensor:
        if self._path is not None:
            self._top.load_flat(self._path[self._step])
        self._step += 1
        return super().clipped_sum(examples, views, **named)

    def _mean_gradient(
        self, examples: Examples, views: Views, patient: slice, batch: int
    ) -> list[Tensor]:
        mean = super()._mean_gradient(examples, views, patient, batch)
        images = views.images[patient]
        canaries = torch.nonzero(self._planted.coordinates[images] >= 0).flatten().tolist()
        if canaries:
            mean = [torch.zeros_like(values) for values in mean]
        ends = np.cumsum([values.numel() for values in mean])
        for view in canaries:
            coordinate = int(self._planted.coordinates[images[view]])
            index = int(np.searchsorted(ends, coordinate, side="right"))
            position = coordinate - (int(ends[index - 1]) if index else 0)
            length = self._planted.lengths[images[view]] * views.shares[patient][view]
            mean[index][np.unravel_index(position, mean[index].shape)] += float(length)
        return mean


def train_subject(
    subject: NetworkSubject,
    noise_source: NoiseSource,
    folder: Path,
    *,
    observe: Observer = lambda step, weights, released: None,
    on_block: Callable[[int], None] = lambda spent: None,
    gradients: Callable[[TrainedNetwork], PatientGradients] = PatientGradients,
) -> None:
    """Run the real training with its ledger and checkpoints in `folder`, or resume it there."""
    recipe, mechanism = subject.recipe, subject.mechanism
    train_private_network(
        copy.deepcopy(subject.top),
        subject.examples,
        recipe,
        ledger=audit_ledger(mechanism, folder, block_steps=recipe.block_steps),
        noise_source=noise_source,
        checkpoints=folder / "checkpoints",
        seed=subject.seed,
        on_block=on_block,
        observe=observe,
        gradients=gradients,
    )


# Replay: the same steps on patients and on all but one of them, and after a crash.


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

    The sums are taken in float32, whatever the training's precision. They are compared with sums
    of this file's own, one patient after the other. Those left out take part in the first step:
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


def _with_planted(subject: NetworkSubject, key: bytes, generator: np.random.Generator) -> _Planted:
    """The patients, and two made-up ones of tags that the first step draws."""
    tags: list[bytes] = []
    while len(tags) < 2:
        tag = generator.bytes(_TAG_BYTES)
        if len(sampled_units(subject.mechanism, [tag], NoiseSource(key, subject.noise), 0)):
            tags.append(tag)
    n_images = len(_IMAGE_NORMS) + 1
    none = _no_input(subject.examples)
    images = none.new_zeros(n_images, *none.shape[1:])
    images[-1] = math.nan
    coordinate = int(generator.integers(len(subject.top.flat())))
    lengths = torch.tensor([*_IMAGE_NORMS, 0.0]) * subject.mechanism.clip_norm
    coordinates = torch.tensor([coordinate] * len(_IMAGE_NORMS) + [-1])
    owners = torch.tensor([0] * len(_IMAGE_NORMS) + [1])
    return _plant(subject.examples, tags, images, owners, (coordinates, lengths))


def _traced(
    subject: NetworkSubject, planted: _Planted, key: bytes, path: Tensor | None = None
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
            gradients=partial(_AuditedGradients, planted=planted, path=path),
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


def patient_gradient(top: TrainedNetwork, examples: Examples, shown: Views) -> Tensor:
    """A patient's mean gradient by code of this file's own, (P,) float64: no hooks, no groups.

    Of the logistic loss summed over the known targets, averaged over all that is shown of the
    patient.
    """
    targets = examples.targets[shown.images]
    parameters = top.trained()
    device = parameters[0].device
    inputs = examples.inputs(shown.images, shown.views)
    values = top(inputs.to(device, torch.float32)).cpu()
    signs = 1 - 2 * targets.nan_to_num()  # softplus of minus the margin is the logistic loss
    losses = F.softplus(values * signs) * (~torch.isnan(targets)).float()
    if examples.positive_weights is not None:
        losses = torch.where(targets == 1, losses * examples.positive_weights.to(losses), losses)
    loss = losses.sum() / len(values)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return torch.cat([gradient.flatten().double().cpu() for gradient in gradients])


def declared_sum(
    top: TrainedNetwork, planted: _Planted, drawn: Sequence[int], shown: Views, clip_norm: float
) -> tuple[Tensor, dict[int, float]]:
    """The clipped sum that a step declares, (P,) float64, and the norm of each patient's gradient.

    It shares no line with the sum that the training takes: a patient at a time, scaled in float64
    where it is too long, left out where it is not finite.
    """
    total = torch.zeros(len(top.flat()), dtype=torch.float64)
    norms = {}
    for index, patient in enumerate(progress(drawn, what="the sum that is declared")):
        own = shown.patients == index
        of_patient = Views(shown.images[own], shown.views[own], shown.patients[own])
        images = of_patient.images
        if not len(images):
            continue
        if bool((planted.coordinates[images] >= 0).any()):
            vector = torch.zeros_like(total)
            lengths = planted.lengths[images].double() / len(images)
            vector.index_add_(0, planted.coordinates[images], lengths)
        else:
            vector = patient_gradient(top, planted.examples, of_patient)
        norm = float(vector.norm())
        if np.isfinite(norm):
            norms[patient] = norm
            bound = declared_bound(clip_norm, len(vector))
            total += vector * min(1.0, bound / norm if norm else 1.0)
    return total, norms


def _broken_sums(
    subject: NetworkSubject,
    planted: _Planted,
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

    Whoever stands first is left out too: on that one hangs what hangs on a place among patients.
    """
    n_real = len(subject.examples.tags)
    real = sorted((patient for patient in norms if patient < n_real), key=lambda p: -norms[p])
    drawn = generator.permutation(real)[:patients].tolist()
    first = range(min(n_real, 1))
    return list(dict.fromkeys([n_real, n_real + 1, *real[:_EXTREMES], *first, *drawn]))


def _own_sums(
    subject: NetworkSubject, planted: _Planted, patient: int, traced: tuple[_Trace, bytes]
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
    subject: NetworkSubject, planted: _Planted, patient: int, traced: tuple[_Trace, bytes]
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


# Canaries in one run.


def one_run(subject: NetworkSubject, generator: np.random.Generator, canaries: int) -> CanaryScores:
    """Scores of canaries in one whole training, each of which takes part by a fair coin.

    A canary has one image and a weight of its own, along which its gradient lies; its score is the
    sum of all that was released there, in units of the noise.
    """
    size = len(subject.top.flat())
    canaries = min(canaries, size)
    inside = generator.random(canaries) < 0.5
    own = torch.from_numpy(generator.permutation(size)[:canaries])
    present = torch.from_numpy(np.flatnonzero(inside))
    # one picture for all: what the network makes of it is replaced
    none = _no_input(subject.examples)
    images = none.new_zeros(1, *none.shape[1:]).expand(len(present), *none.shape[1:])
    lengths = torch.full((len(present),), _NORM * subject.mechanism.clip_norm)
    planted = _plant(
        subject.examples,
        [generator.bytes(_TAG_BYTES) for _ in present],
        images,
        torch.arange(len(present)),
        (own[present], lengths),
    )
    total = torch.zeros(canaries, dtype=torch.float64)

    def observe(step: int, weights: Tensor, released: Tensor) -> None:
        total.add_(released.cpu()[own].double())

    with scratch_folder() as folder:
        train_subject(
            replace(subject, examples=planted.examples),
            NoiseSource(generator.bytes(KEY_BYTES), subject.noise),
            folder,
            observe=observe,
            gradients=partial(_AuditedGradients, planted=planted),
        )
    mechanism = subject.mechanism
    unit = subject.noise_scale * mechanism.steps**0.5
    scores = (total * mechanism.normaliser / unit).numpy()
    return CanaryScores(scores[inside], scores[~inside])


# Membership, from the finished model.


def held_out_membership(
    run: Path,
    subject: NetworkSubject,
    generator: np.random.Generator,
    *,
    rates: Sequence[float],
    confidence: float,
) -> list[MembersFound]:
    """How many patients of train the finished model tells from those of val and test.

    By its confidence in the labels, the mean over a patient's images; one threshold for all. Both
    sides may differ in more than membership, so that no verdict follows from it. None where nobody
    was held out.
    """
    if subject.dataset is None:
        return []
    dataset, classifier = subject.dataset, load_classifier(run)

    def scores(rows: Sequence[Row]) -> NDArray[np.float64]:
        values = logits(classifier, features(classifier, dataset, rows, finite=False))
        targets = torch.from_numpy(targets_array(rows, len(dataset.info.targets)))
        towards = torch.nan_to_num((2 * targets - 1) * values).mean(dim=1, keepdim=True)
        names, units = np.unique(units_of(rows, subject.mechanism.unit), return_inverse=True)
        means = unit_means(towards.double(), torch.from_numpy(units), len(names))
        result: NDArray[np.float64] = means[:, 0].numpy()
        return result

    members = dataset.split("train", may_be_empty=True)
    strangers = [
        row for split in ("val", "test") for row in dataset.split(split, may_be_empty=True)
    ]
    if not members or not strangers:
        return []
    return members_of_one_model(
        scores(members),
        scores(strangers),
        promised=subject.mechanism.loss(),
        rates=rates,
        confidence=confidence,
        generator=generator,
    )


def attack(
    subject: NetworkSubject,
    settings: AuditSettings,
    broken_before: Sequence[str] = (),
    *,
    run: Path,
) -> AuditResult:
    """All parts of the audit, one after the other.

    Args:
        subject: the training to attack.
        settings: how hard.
        broken_before: what is known to be broken already, in words.
        run: the finished run, whose model is asked who was in.
    """
    seeds = np.random.SeedSequence(settings.seed).spawn(3)
    for_replay, for_one, for_members = (np.random.default_rng(seed) for seed in seeds)
    risk, clock = settings.false_alarms / CHECKS, Clock()
    replayed = clock.timed(
        "replay",
        lambda: replay(
            subject,
            for_replay,
            steps=settings.replayed_steps,
            patients=settings.replayed,
            risk=risk,
        ),
    )
    scores = clock.timed("one run", lambda: one_run(subject, for_one, settings.canaries))
    members = clock.timed(
        "membership",
        lambda: held_out_membership(
            run,
            subject,
            for_members,
            rates=FALSE_ALARM_RATES,
            confidence=settings.confidence,
        ),
    )
    bounds = canary_bounds(
        ONE_RUN,
        scores,
        subject.mechanism,
        delta=subject.delta,
        confidence=settings.confidence,
    )
    broken = [*broken_before, *replayed.broken, *broken_promise(subject, scores, risk)]
    return AuditResult(
        replayed=replayed,
        bounds=tuple(bounds),
        members=tuple(members),
        broken=tuple(dict.fromkeys(broken)),
        seconds=clock.seconds,
        replay_words=f"the first {settings.replayed_steps} steps, and a crash resumed.",
        members_title="Members found by the finished model's confidence",
        members_words="Patients of train against those held out, who may differ otherwise too.",
    )


def broken_promise(subject: NetworkSubject, scores: CanaryScores, risk: float) -> list[str]:
    """In words, when canaries refute the promise in a way that a sound training seldom shows."""
    broken = []
    if canary_refutes(scores, subject.mechanism, risk):
        broken.append(f"{ONE_RUN} (f-DP) show more than the promised {subject.epsilon:.3g}")
    fit = canary_fit(ONE_RUN, scores, delta=subject.delta, confidence=1 - risk)
    return [*broken, *broken_bounds([fit], subject.epsilon)]
