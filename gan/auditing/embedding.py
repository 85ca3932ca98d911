"""The one noisy release of an embedding under attack: replay, canaries, membership.

A release takes milliseconds once the images' vectors are there, so that all attacks are affordable,
the tight ones too: a worst-case patient in hundreds of releases, and releases of halves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gan.private.embedding import (
    PublicFeatures,
    image_vectors,
    patient_rows,
    released_sums,
    vectors_of_patients,
)
from gan.private.findings import FINDING, KNOWN, WHOLE
from gan.training.examples import UNLABELLED, Examples
from synthdp.machine.progress import progress
from synthdp.privacy.attacks.audit import (
    Bound,
    CanaryScores,
    Scores,
    canary_bounds,
    canary_fit,
    canary_refutes,
    noise_flaws,
    worst_case_bounds,
)
from synthdp.privacy.attacks.membership import MembersFound, members_at_rates
from synthdp.privacy.attacks.rerun import (
    PromisedTraining,
    RecordedNoise,
    declared_bound,
    repeated_noise,
)
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import release_once
from synthdp.privacy.noisy_sum.noise import KEY_BYTES, NoiseKind, NoiseSource
from synthdp.runs.audit_record import (
    CHECKS,
    FALSE_ALARM_RATES,
    Audited,
    AuditResult,
    Clock,
    Replay,
    broken_bounds,
)

ONE_RUN, MANY_RUNS = "canaries in one run", "worst-case patient in many runs"
MEMBERSHIP = "membership (likelihood ratio) of the release"
#: Norms of a canary's images, in clip norms: its mean is far above one, and so is each of them.
_IMAGE_NORMS = (50.0, 20.0, 120.0)
_EXTREMES = 2
#: Patients whose images are embedded again, with and without some of them.
_SEEN_AGAIN = 16
_SMALL_PATIENTS = 100
#: Rounding of each patient's float32 mean, as a share of the clip norm; those of many add up.
_ROUNDING = 1e-6
_LEAST_PATIENTS = 2


@dataclass(frozen=True, eq=False)
class Vectors:
    """Images as the public map gives them: vectors (N, K), labels (N,), units (N,) from 0.

    Of several findings labels are (N, T), and `shares` holds the public share of each.
    """

    vectors: Tensor
    labels: Tensor
    units: Tensor
    shares: tuple[float, ...] | None = None

    @property
    def n_units(self) -> int:
        """How many patients there are (private)."""
        return int(self.units.max()) + 1 if len(self.units) else 0

    def rows(self) -> Tensor:
        """One row a patient, by the code under test."""
        return vectors_of_patients(self.vectors, self.labels, self.units, self.n_units, self.shares)

    @property
    def row_size(self) -> int:
        """How many numbers a patient's row has."""
        size = self.vectors.shape[1]
        return 2 * size if self.shares is None else (1 + len(self.shares)) * size + len(self.shares)

    def classes(self, values: Sequence[int]) -> Tensor:
        """Labels of made-up images, the same for each finding."""
        labels = torch.tensor(values, dtype=torch.long)
        return labels if self.shares is None else labels[:, None].repeat(1, len(self.shares))

    def without(self, unit: int) -> "Vectors":
        """All patients but one."""
        kept = self.units != unit
        units = self.units[kept]
        units = units - (units > unit).long()
        return Vectors(self.vectors[kept], self.labels[kept], units, self.shares)

    def joined(self, other: "Vectors") -> "Vectors":
        """These patients, then others."""
        return Vectors(
            torch.cat([self.vectors, other.vectors]),
            torch.cat([self.labels, other.labels]),
            torch.cat([self.units, other.units + self.n_units]),
            self.shares,
        )


@dataclass(frozen=True, eq=False)
class EmbeddingSubject(PromisedTraining):
    """The private release of a generator, ready to be made again.

    features: the public map; examples: the patients' images; units: (N,) the patient of each;
    embedded: what the map gives for them; delta: at which the mechanism's epsilon is stated.
    """

    features: PublicFeatures
    examples: Examples
    units: Tensor
    embedded: Vectors
    mechanism: Mechanism
    delta: float
    noise: NoiseKind = "shake256"

    @classmethod
    def of(
        cls,
        features: PublicFeatures,
        examples: Examples,
        units: Tensor,
        *,
        mechanism: Mechanism,
        delta: float,
        noise: NoiseKind = "shake256",
        shares: tuple[float, ...] | None = None,
    ) -> "EmbeddingSubject":
        """With the images embedded."""
        vectors = image_vectors(features, examples.images)
        embedded = Vectors(vectors, examples.labels, units, shares)
        return cls(features, examples, units, embedded, mechanism, delta, noise)

    @property
    def audited(self) -> Audited:
        """Whose promise is tried, for the record."""
        return Audited("embedding", self.epsilon, self.delta, self.mechanism.mu)

    def released(self, embedded: Vectors, noise_source: NoiseSource) -> Tensor:
        """The release of embedded images by the code under test, as long as a row."""
        return release_once(embedded.rows(), self.mechanism, noise_source)


def declared_sum(embedded: Vectors, clip_norm: float) -> Tensor:
    """The clipped sum that the release declares, by code of its own: as long as a row, float64.

    A patient at a time: the mean over its images of what each declares; scaled where it is too
    long, left out where it is not finite.
    """
    total = torch.zeros(embedded.row_size, dtype=torch.float64)
    for unit in progress(range(embedded.n_units), what="the sum that is declared"):
        own = torch.nonzero(embedded.units == unit).flatten().tolist()
        mean = torch.zeros(embedded.row_size, dtype=torch.float64)
        for image in own:
            mean += _declared_row(embedded, image)
        mean /= max(len(own), 1)
        norm = float(mean.norm())
        if np.isfinite(norm):
            bound = declared_bound(clip_norm, len(mean))
            total += mean * min(1.0, bound / norm if norm else 1.0)
    return total


def _declared_row(embedded: Vectors, image: int) -> Tensor:
    """What an image declares: its vector in the half of its class, nothing for an unlabelled one.

    Of several findings its vector, then times its label less the public share for each, then which
    are known, by weights whose squares are public; the whole scaled to a length of 1 at most, as
    long as the vector's own is.
    """
    size, vector = embedded.vectors.shape[1], embedded.vectors[image].double()
    row = torch.zeros(embedded.row_size, dtype=torch.float64)
    if embedded.shares is None:
        label = int(embedded.labels[image])
        if label in (0, 1):
            row[label * size : (label + 1) * size] = vector
        return row
    count = len(embedded.shares)
    row[:size], square = WHOLE**0.5 * vector, WHOLE
    for place, (label, share) in enumerate(
        zip(embedded.labels[image].tolist(), embedded.shares, strict=True)
    ):
        first = (1 + place) * size
        part = label - share if label in (0, 1) else 0.0
        row[first : first + size] = FINDING**0.5 * part * vector
        row[len(row) - count + place] = (KNOWN / count) ** 0.5 * float(label in (0, 1))
        square += FINDING * part**2 + KNOWN / count * (label in (0, 1))
    scale: float = max(1.0, square) ** 0.5
    return row / scale


def broken_release(subject: EmbeddingSubject, released: Tensor, risk: float) -> list[str]:
    """What is wrong with the noise of a release that was made: with the sums of the run.

    Args:
        subject: its promise, and the patients that it was made of.
        released: what was saved and gave the generator.
        risk: chance that a sound release is called broken, at most.
    """
    declared = declared_sum(subject.embedded, subject.mechanism.clip_norm)
    rest = released.flatten().double() * subject.mechanism.normaliser - declared
    scaled = (rest / subject.noise_scale).numpy()[None]
    if not np.isfinite(scaled).all():
        return ["what the run released is not finite"]
    flaws = noise_flaws(scaled, risk)
    return [f"in what the run released the noise is {what}, not as declared" for what in flaws]


# Replay.


def replay(
    subject: EmbeddingSubject, generator: np.random.Generator, *, patients: int, risk: float
) -> Replay:
    """Compare the release with those of neighbours, and its noise with its declaration.

    From vectors on, with all patients and made-up ones: one far above the clip norm, one with a
    NaN, one unlabelled. From images on with some, and made-up ones of many images of both
    classes and with a NaN. Sums are compared with sums of this file's own.

    Args:
        subject: the release.
        generator: chooses patients, and gives keys.
        patients: how many random patients are left out, one at a time.
        risk: chance that a sound release is called broken, at most.
    """
    everybody = subject.embedded.joined(_planted_vectors(subject, generator))
    n_real = subject.embedded.n_units
    norms = subject.embedded.rows().double().norm(dim=1).nan_to_num()
    left_out = [*range(n_real, n_real + 3), *norms.argsort(descending=True)[:_EXTREMES].tolist()]
    left_out += generator.permutation(n_real)[:patients].tolist()
    worlds = [everybody, *(everybody.without(unit) for unit in dict.fromkeys(left_out))]
    key = generator.bytes(KEY_BYTES)
    from_vectors = [_World(one, partial(subject.released, one)) for one in worlds]
    draws, moves, broken = _compared(subject, from_vectors, key)
    from_images = _image_worlds(subject, generator)
    _, image_moves, image_broken = _compared(subject, from_images, key)
    flaws = noise_flaws(draws[None] / subject.noise_scale, risk)
    broken += [*image_broken, *(f"the noise is {what}, not as declared" for what in flaws)]
    return Replay(
        neighbours=len(from_vectors) + len(from_images) - 2,
        largest_move=max([*moves, *image_moves]),
        draws=draws.size,
        broken=tuple(dict.fromkeys(broken)),
    )


@dataclass(frozen=True, eq=False)
class _World:
    """A set of patients: what is declared of them, and the code under test that releases it."""

    embedded: Vectors
    release: Callable[[NoiseSource], Tensor]


def _compared(
    subject: EmbeddingSubject, worlds: Sequence[_World], key: bytes
) -> tuple[Scores, list[float], list[str]]:
    """What was released of the first world less what it declares; moves, in clip norms, of the
    others from it; and what is wrong."""
    clip_norm = subject.mechanism.clip_norm
    size = subject.embedded.row_size
    tolerance = 1e-4 * clip_norm + 1e-6 * subject.noise_scale * size**0.5
    broken: list[str] = []
    sums, flows = [], []
    for world in progress(worlds, what="releases compared"):
        source = RecordedNoise(key, subject.noise)
        noisy = world.release(source).flatten().double() * subject.mechanism.normaliser
        sums.append(noisy)
        flows.append([(draw.stream, draw.shape, draw.scale) for draw in source.draws])
        broken += repeated_noise(source.draws)
        drawn = torch.cat([draw.in_units_of(subject.noise_scale) for draw in source.draws])
        declared = declared_sum(world.embedded, clip_norm)
        rounding = _ROUNDING * clip_norm * world.embedded.n_units
        gap = float((noisy - declared - drawn).norm()) if len(drawn) == size else np.inf
        if not gap <= tolerance + rounding:
            broken.append(
                "released x declared normaliser is not the clipped sum plus the noise drawn"
            )
    if any(flow != flows[0] for flow in flows):
        broken.append("draws depend on who is there")
    moves = [float((one - sums[0]).norm()) / clip_norm for one in sums[1:]]
    if not all(move <= 1 + tolerance / clip_norm for move in moves):
        broken.append("one patient moves the sum by more than the clip norm")
    rest: Scores = (sums[0] - declared_sum(worlds[0].embedded, clip_norm)).numpy()
    return rest, moves, broken


def _planted_vectors(subject: EmbeddingSubject, generator: np.random.Generator) -> Vectors:
    """Three made-up patients: far above the clip norm, with a NaN, without a label."""
    size = subject.embedded.vectors.shape[1]
    n_long = len(_IMAGE_NORMS)
    direction = torch.from_numpy(generator.normal(size=size)).float()
    lengths = subject.mechanism.clip_norm * torch.tensor([*_IMAGE_NORMS, 1.0, 1.0])
    vectors = lengths[:, None] * F.normalize(direction, dim=0)
    vectors[n_long, 0] = torch.nan
    return Vectors(
        vectors,
        subject.embedded.classes([0] * n_long + [1, UNLABELLED]),
        torch.tensor([0] * n_long + [1, 2]),
        subject.embedded.shares,
    )


def _image_worlds(subject: EmbeddingSubject, generator: np.random.Generator) -> list[_World]:
    """Some patients and three made-up ones, and without each of these, from images on."""
    chosen = torch.from_numpy(
        np.sort(generator.permutation(subject.embedded.n_units)[:_SEEN_AGAIN])
    )
    kept = torch.isin(subject.units, chosen)
    side = subject.examples.images.shape[-1]
    broken = torch.full((1, 1, side, side), torch.nan)
    noise = torch.from_numpy(generator.normal(size=(5, 1, side, side))).float().clamp(-1, 1)
    images = torch.cat([subject.examples.images[kept], noise[:4], broken, noise[4:]])
    planted = subject.embedded.classes([0, 1, 1, 1, 0, 1])
    labels, shares = torch.cat([subject.examples.labels[kept], planted]), subject.embedded.shares
    units = torch.searchsorted(chosen, subject.units[kept])
    units = torch.cat([units, torch.tensor([0, 0, 0, 0, 1, 2]) + len(chosen)])
    with torch.no_grad():  # one at a time: nobody's vector may hang on who stands beside it
        vectors = torch.cat(
            [
                _embedded_alone(subject.features, image)
                for image in progress(images, what="features of single images")
            ]
        )

    def world(mask: Tensor) -> _World:
        names, own = torch.unique(units[mask], return_inverse=True)
        examples = Examples(images[mask], labels[mask], torch.zeros(len(own), 0).long())

        def release(source: NoiseSource) -> Tensor:
            rows = patient_rows(subject.features, examples, own, len(names), shares)
            return released_sums(rows, mechanism=subject.mechanism, noise_source=source)

        return _World(Vectors(vectors[mask], labels[mask], own, shares), release)

    everybody = torch.ones(len(units), dtype=torch.bool)
    return [world(everybody), *(world(units != len(chosen) + unit) for unit in range(3))]


def _embedded_alone(features: PublicFeatures, image: Tensor) -> Tensor:
    """The vector of one image (1, S, S) and its mirror image, (1, K)."""
    batch = image[None].to(features.mean.device)
    mean: Tensor = (features(batch) + features(torch.flip(batch, dims=[3]))).cpu() / 2
    return mean


# Canaries, and a worst-case patient in many releases.


def _with_canaries(embedded: Vectors, inside: NDArray[np.bool_], clip_norm: float) -> Vectors:
    """Patients with one more number in their vectors for each canary, and those `inside` there.

    A canary's images lie all along its own number, which is zero in every real image.
    """
    present = np.flatnonzero(inside)
    canaries = _canaries(embedded, present, len(inside), clip_norm)
    real = replace(embedded, vectors=F.pad(embedded.vectors, (0, len(inside))))
    return real.joined(canaries)


def _canaries(
    embedded: Vectors, present: NDArray[np.int64], count: int, clip_norm: float
) -> Vectors:
    """The canaries of these numbers, out of `count`, without anybody else."""
    own = embedded.vectors.shape[1] + torch.from_numpy(present).repeat_interleave(len(_IMAGE_NORMS))
    vectors = torch.zeros(len(own), embedded.vectors.shape[1] + count)
    norms = clip_norm * torch.tensor(_IMAGE_NORMS).repeat(len(present))
    vectors[torch.arange(len(vectors)), own] = norms
    units = torch.arange(len(present)).repeat_interleave(len(_IMAGE_NORMS))
    return Vectors(vectors, embedded.classes([0] * len(own)), units, embedded.shares)


def _scores(
    subject: EmbeddingSubject, embedded: Vectors, inside: NDArray[np.bool_], key: bytes
) -> Scores:
    """What one release shows along each canary, in units of the noise."""
    planted = _with_canaries(embedded, inside, subject.mechanism.clip_norm)
    released = subject.released(planted, NoiseSource(key, subject.noise)).double()
    everyone = _canaries(embedded, np.arange(len(inside)), len(inside), 1.0).rows().double()
    if embedded.shares is not None:  # all patients stand in what is known, so it tells of none
        everyone[:, everyone.shape[1] - len(embedded.shares) :] = 0
    along = F.normalize(everyone, dim=1) @ released * subject.mechanism.normaliser
    scores: Scores = (along / subject.noise_scale).numpy()
    return scores


def one_run(
    subject: EmbeddingSubject, generator: np.random.Generator, canaries: int
) -> CanaryScores:
    """Scores of canaries in one release, each of which takes part by the flip of a fair coin."""
    inside = generator.random(canaries) < 0.5
    scores = _scores(subject, subject.embedded, inside, generator.bytes(KEY_BYTES))
    return CanaryScores(scores[inside], scores[~inside])


def many_runs(
    subject: EmbeddingSubject, generator: np.random.Generator, *, runs: int, dimensions: int
) -> CanaryScores:
    """Scores of one worst-case patient, who takes part in half of the releases.

    Beside up to 100 patients, whose vectors are cut to `dimensions`.
    """
    chosen = generator.permutation(subject.embedded.n_units)[:_SMALL_PATIENTS]
    few = torch.isin(subject.units, torch.from_numpy(chosen))
    _, units = torch.unique(subject.units[few], return_inverse=True)
    small = Vectors(
        subject.embedded.vectors[few, :dimensions],
        subject.embedded.labels[few],
        units,
        subject.embedded.shares,
    )
    scores = np.array(
        [
            _scores(subject, small, np.array([number % 2 == 0]), generator.bytes(KEY_BYTES))[0]
            for number in progress(range(runs), what="many runs", public_unit="runs")
        ]
    )
    return CanaryScores(scores[0::2], scores[1::2])


# Membership.


def membership(
    subject: EmbeddingSubject,
    generator: np.random.Generator,
    *,
    shadows: int,
    rates: Sequence[float],
    confidence: float,
    risk: float,
) -> list[MembersFound]:
    """Attack the release by others of random halves of the patients.

    A patient's score is the product of the own row with what was released, which for Gaussian noise
    is all that counts; the attacker knows the patient's images, and releases of others.

    Returns:
        One for each rate; none where there are not two patients to tell apart.
    """
    rows = subject.embedded.rows()
    rows = rows[torch.isfinite(rows).all(dim=1) & (rows != 0).any(dim=1)]
    if len(rows) < _LEAST_PATIENTS:
        return []
    order = np.argsort(generator.random((shadows, len(rows))), axis=0)
    members = order < shadows // 2  # each patient is in exactly half of the releases
    scores = np.empty(members.shape)
    for shadow, inside in enumerate(progress(members, what="membership", public_unit="releases")):
        source = NoiseSource(generator.bytes(KEY_BYTES), subject.noise)
        released = release_once(rows[torch.from_numpy(inside)], subject.mechanism, source)
        scores[shadow] = (rows.double() @ released.double()).numpy()
    return members_at_rates(
        scores,
        members,
        promised=subject.mechanism.loss(),
        rates=rates,
        confidence=confidence,
        risk=risk,
        generator=generator,
    )


def attack(
    subject: EmbeddingSubject, settings: AuditSettings, broken_before: Sequence[str] = ()
) -> AuditResult:
    """All parts of the audit, one after the other.

    Args:
        subject: the release to attack.
        settings: how hard.
        broken_before: what is known to be broken already, in words.
    """
    seeds = np.random.SeedSequence(settings.seed).spawn(4)
    for_replay, for_one, for_many, for_halves = (np.random.default_rng(seed) for seed in seeds)
    risk, clock = settings.false_alarms / CHECKS, Clock()
    replayed = clock.timed(
        "replay",
        lambda: replay(subject, for_replay, patients=settings.replayed, risk=risk),
    )
    one = clock.timed("one run", lambda: one_run(subject, for_one, settings.canaries))
    many = clock.timed(
        "many runs",
        lambda: many_runs(subject, for_many, runs=settings.runs, dimensions=settings.dimensions),
    )
    members = clock.timed(
        "membership",
        lambda: membership(
            subject,
            for_halves,
            shadows=settings.shadows,
            rates=FALSE_ALARM_RATES,
            confidence=settings.confidence,
            risk=risk,
        ),
    )
    mechanism, delta, confidence = subject.mechanism, subject.delta, settings.confidence
    bounds = canary_bounds(ONE_RUN, one, mechanism, delta=delta, confidence=confidence)
    bounds += worst_case_bounds(
        MANY_RUNS, many, mu=mechanism.mu, delta=delta, confidence=confidence
    )
    broken = [*broken_before, *replayed.broken]
    broken += broken_promise(subject, one, many, risk)
    broken += [f"{MEMBERSHIP} finds more than is possible" for rate in members if rate.broken]
    return AuditResult(
        replayed=replayed,
        bounds=tuple(bounds),
        members=tuple(members),
        broken=tuple(dict.fromkeys(broken)),
        seconds=clock.seconds,
        replay_words="the run's own release compared with what it declares.",
        members_title="Members found by a likelihood ratio on the release",
        members_words=f"{settings.shadows} releases of halves of the patients.",
    )


def broken_promise(
    subject: EmbeddingSubject, one: CanaryScores, many: CanaryScores, risk: float
) -> list[str]:
    """In words, when scores refute the promise in a way that a sound release seldom shows."""
    broken = []
    if canary_refutes(one, subject.mechanism, risk):
        broken.append(f"{ONE_RUN} (f-DP) show more than the promised {subject.epsilon:.3g}")
    bounds: list[Bound] = [canary_fit(ONE_RUN, one, delta=subject.delta, confidence=1 - risk)]
    bounds += worst_case_bounds(
        MANY_RUNS, many, mu=subject.mechanism.mu, delta=subject.delta, confidence=1 - risk
    )
    return [*broken, *broken_bounds(bounds, subject.epsilon)]
