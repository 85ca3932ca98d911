"""Releases, what something descends from, and what all of it costs each group of patients.

A release may be on a cohort alone: a keyed hash of the patient's id, and nothing else, decides to
which part of the unit interval a patient belongs. Who else is there, and what the images show,
moves nobody from one part to another, so that parts of one key are disjoint by construction, and
what was spent on one costs nothing to the others.
"""

import hmac
import math
import secrets
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import reduce
from itertools import product
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from synthdp.config.settings import Settings
from synthdp.privacy.accounting.privacy_loss import NO_LOSS, PrivacyLoss
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.units import Part, Unit, UnitFrom

_HASH_BITS = 64
#: Relative difference of noise between two calibrations to one target.
_CALIBRATED = 2e-3
#: Beyond so many groups, cohorts are taken to overlap, which is on the safe side.
_MAX_GROUPS = 1024
_ROUNDING = 1 - 1e-9


class Cohort(Settings):
    """The patients whose hash under one secret key falls into one part.

    key_id: names the key and says nothing about it.

    Guarantee: an id is in exactly one of the parts of a division under a key, whoever else is
    there; two parts share an id only where their bounds overlap. It holds for a person as far as
    ids and links (`linked_digest`) name persons.
    """

    key_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    part: Part

    @property
    def bounds(self) -> tuple[Fraction, Fraction]:
        """Where the part begins and ends in [0, 1]."""
        return Fraction(self.part.part - 1, self.part.of), Fraction(self.part.part, self.part.of)

    def holds(self, tag: bytes) -> bool:
        """Whether the patient of this tag (`patient_tag`) belongs to the cohort."""
        return self.part_of(tag) == self.part.part

    def part_of(self, tag: bytes) -> int:
        """The part of the division, counted from 1, that the patient of this tag belongs to."""
        return ((_position(tag) * self.part.of) >> _HASH_BITS) + 1


def _position(tag: bytes) -> int:
    """Where a tag lies among 2^64 equally likely places."""
    return int.from_bytes(tag[: _HASH_BITS // 8], "big")


def key_id(key: bytes, linked: str = "") -> str:
    """A public name of a secret key and of what was linked under it.

    Args:
        key: the secret key.
        linked: what `linked_digest` gives. Ids that one set links and another does not may put one
            person into two parts, so that cohorts under other links bear another name, and count as
            overlapping.
    """
    return hmac.new(key, b"synthdp key id" + linked.encode(), "sha256").hexdigest()[:16]


def linked_digest(key: bytes, person_of: Mapping[str, str], *, of_images: bool = False) -> str:
    """A keyed digest of which ids are which person; empty where each id is its own.

    `of_images` says that ids name images. A person's images then stand in other parts of one key
    than the person's own id does, so that such parts bear a name of their own as well.
    """
    links = sorted((one, person) for one, person in person_of.items() if one != person)
    if not links and not of_images:
        return ""
    what = b"synthdp images " if of_images else b"synthdp links "
    return hmac.new(key, what + repr(links).encode(), "sha256").hexdigest()[:16]


def patient_tag(key: bytes, patient_id: str) -> bytes:
    """A secret name of a patient: HMAC-SHA-256 of the id under the data set's key."""
    return hmac.new(key, b"synthdp patient " + patient_id.encode(), "sha256").digest()


def keyed_split(key: bytes, patient_id: str, fractions: Mapping[str, float]) -> str:
    """The split of a patient, by a keyed hash of the id as the importer declared it.

    Args:
        key: the data set's.
        patient_id: before anything is made of it.
        fractions: the chance of each split, together 1; the first begins at 0, so that a larger
            one keeps whom it had.

    Guarantee: a function of key, id and public fractions alone, whoever else is in the set. The
    hash is another than that of cohorts, so that each part is split alike.
    """
    tag = hmac.new(key, b"synthdp split " + patient_id.encode(), "sha256").digest()
    reached = Fraction(0)
    for split, share in fractions.items():
        reached += Fraction(share)
        if _position(tag) < reached * 2**_HASH_BITS:
            return split
    return split  # what the last share lacks of 1 by rounding


def _number_or_inf(value: Any) -> Any:
    return math.inf if value in ("inf", "Infinity") else value


def _inf_as_word(value: float) -> float | str:
    return "inf" if math.isinf(value) else value


#: A number of at least 0 that may be infinite; JSON has no infinity, so there it is "inf".
Spent = Annotated[
    Annotated[float, Field(ge=0, allow_inf_nan=True)],
    BeforeValidator(_number_or_inf),
    PlainSerializer(_inf_as_word, when_used="json"),
]


def new_token() -> str:
    """A random name for one start of a run."""
    return secrets.token_hex(8)


def new_release_id() -> str:
    """A random name for one release, so that an ancestor shared by many counts once."""
    return secrets.token_hex(8)


class Release(Settings):
    """One output of a computation on patients, and what it spent.

    mu: Gaussian signal-to-noise for each unit, without credit for sampling; infinite where nothing
    protects. mechanism: None where there is none. steps: how many of the mechanism's steps were
    reserved; all of them when None. cohort: the patients that took part; None for all. noise: the
    source of the noise, on a public lattice (`synthdp.privacy.noisy_sum.lattice`); None of releases
    made before there was one, whose noise had a floating-point form, and where there is no
    mechanism.
    unit_from: whether ids stood as declared, or were made one unit where images look alike.
    images_per_patient: how many images of a patient took part at most, where the unit is the image
    and that was declared.
    starts: random tokens of each start of its run and of its end, none in earlier versions; by them
    the releases of two copies of one run are told apart.
    """

    id: str = Field(default_factory=new_release_id, pattern=r"^[0-9a-f]{16}$")
    stage: str
    data: str
    unit: Unit = "patient"
    mu: Spent
    mechanism: Mechanism | None = None
    steps: int | None = Field(default=None, ge=0)
    cohort: Cohort | None = None
    note: str = ""
    noise: str | None = None
    unit_from: UnitFrom = "declared"
    images_per_patient: int | None = Field(default=None, ge=1)
    starts: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _costs_what_its_mechanism_does(self) -> "Release":
        if self.mechanism is not None:
            steps = self.mechanism.steps if self.steps is None else self.steps
            if self.mu < self.mechanism.mu_of(steps) * _ROUNDING:
                raise ValueError("mu is less than the mechanism spends; restore the file")
        return self

    @property
    def loss(self) -> PrivacyLoss:
        """What it cost each unit that took part."""
        if math.isfinite(self.mu) and self.mechanism is not None:
            return self.mechanism.loss(self.steps)
        return PrivacyLoss(mu=self.mu)

    @property
    def loss_of_patient(self) -> PrivacyLoss | None:
        """What it cost a patient with all images together; None where nothing bounds these.

        Guarantee: exact for a patient with as many images as are declared, an upper bound for
        others (`PrivacyLoss.of_group`).
        """
        if self.unit == "patient" or math.isinf(self.mu):
            return self.loss
        if self.images_per_patient is None:
            return None
        return self.loss.of_group(self.images_per_patient)

    def loss_of_images(self, number: int) -> PrivacyLoss:
        """What it cost a patient with so many images, of which it used as many as it bounds.

        Guarantee: as `loss_of_patient`, and an upper bound for patients with fewer images.
        """
        if self.unit == "patient" or math.isinf(self.mu):
            return self.loss
        return self.loss.of_group(min(number, self.images_per_patient or number))

    def loss_to(self, unit: Unit) -> PrivacyLoss:
        """What it cost each `unit`, whichever it protects itself.

        Guarantee: an upper bound. To a patient a release that protects images costs what they cost
        together, if they were bounded, and nothing bounds it otherwise. To an image one that
        protects patients costs what two of them cost: an image more or less makes of a patient's
        vector another one, as if that patient went and another came.
        """
        if unit == "patient":
            return self.loss_of_patient or PrivacyLoss(mu=math.inf)
        return self.loss if self.unit == "image" else self.loss.of_group(2)

    def same_but_for_rounding(self, other: "Release") -> bool:
        """Whether `other` is this release, though its noise came out of another calibration.

        Versions and machines find noise within `_CALIBRATED` of each other for one target. A run
        that began before noise stood on a lattice goes on with its old name, which says less.
        """
        if self.mechanism is None or other.mechanism is None:
            return self == other
        noise = other.mechanism.noise_multiplier
        alike: dict[str, object] = {"mechanism": self.mechanism.with_noise(noise), "mu": other.mu}
        if other.noise is None:
            alike["noise"] = None
        return self.model_copy(update=alike) == other and math.isclose(
            self.mechanism.noise_multiplier, noise, rel_tol=_CALIBRATED
        )

    @property
    def population(self) -> int | None:
        """The number of units declared for the data set, of which a cohort is its share.

        Every sum is divided by it, so that the mechanism holds it; None without one.
        """
        if self.mechanism is None:
            return None
        share = 1 if self.cohort is None else self.cohort.part.of
        return round(self.mechanism.normaliser / self.mechanism.sampling_rate * share)

    def started(self, starts: tuple[str, ...]) -> "Release":
        """The same release, of a run that was started so."""
        return self.model_copy(update={"starts": starts})

    def continues(self, other: "Release") -> bool:
        """Whether one of the two is the other at an earlier time, so that both count once.

        They have one id, and the starts of one are the first of the other's. Copies of a run that
        went on by themselves have gone on with noise of their own: they are two releases.
        """
        n = min(len(self.starts), len(other.starts))
        return self.id == other.id and self.starts[:n] == other.starts[:n]

    def after(self, steps: int) -> "Release":
        """The same release when `steps` of its mechanism's steps were reserved."""
        if self.mechanism is None:
            return self
        mu = self.mechanism.mu_of(steps) if math.isfinite(self.mu) else self.mu
        some = steps if steps < self.mechanism.steps else None
        return self.model_copy(update={"mu": mu, "steps": some})


class Lineage(Settings):
    """Every release that something descends from; empty where no patient was involved.

    declared: what of that somebody declared, and no record here shows, in words. public: the names
    of sets that were declared public at their import: nothing is charged to their patients, whom
    nothing protects. It is written where there are some alone, so that other lineages read as ever.
    """

    releases: tuple[Release, ...] = ()
    declared: tuple[str, ...] = ()
    public: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)

    def joined(self, others: Iterable["Lineage"]) -> "Lineage":
        """The union with `others`; a release that several share counts once."""
        releases: list[Release] = []
        by_id: dict[str, list[int]] = {}
        declared: list[str] = []
        public: list[str] = []
        for lineage in (self, *others):
            declared += lineage.declared
            public += lineage.public
            for release in lineage.releases:
                alike = by_id.setdefault(release.id, [])
                same = [n for n in alike if release.continues(releases[n])]
                if not same:
                    alike.append(len(releases))
                    releases.append(release)
                for n in same:  # several, where copies of a run meet what both began as
                    releases[n] = _later(releases[n], release)
        return Lineage(
            releases=tuple(releases),
            declared=tuple(dict.fromkeys(declared)),
            public=tuple(dict.fromkeys(public)),
        )

    def with_release(self, release: Release) -> "Lineage":
        """The lineage of something made from this and one more release."""
        return self.joined([Lineage(releases=(release,))])

    def groups(self) -> tuple["Lineage", ...]:
        """The sets of releases that met one and the same patient, the largest of them.

        Releases on disjoint cohorts of one key meet no patient together; all others may.

        Guarantee: every patient met at most the releases of one of these groups.
        """
        cuts: dict[str, set[Fraction]] = {}
        for release in self.releases:
            if release.cohort is not None:
                cuts.setdefault(release.cohort.key_id, {Fraction(0)}).update(release.cohort.bounds)
        # Between two cuts of a key one position stands for all patients there.
        starts = {key: sorted(bounds - {Fraction(1)}) for key, bounds in cuts.items()}
        if math.prod(len(of_key) for of_key in starts.values()) > _MAX_GROUPS:
            return (self,)
        positions = (dict(zip(starts, chosen, strict=True)) for chosen in product(*starts.values()))
        met = {tuple(r for r in self.releases if _meets(r, position)) for position in positions}
        return tuple(
            Lineage(releases=group)
            for group in sorted(met, key=lambda group: [release.id for release in group])
            if not any(set(group) < set(other) for other in met)
        )

    @property
    def loss(self) -> PrivacyLoss:
        """What all releases cost a patient who took part in each of them."""
        return _sum_of(release.loss for release in self.releases)

    @property
    def loss_of_patient(self) -> PrivacyLoss | None:
        """What all releases cost a patient with all images; None where one bounds no images."""
        losses = [release.loss_of_patient for release in self.releases]
        known = [loss for loss in losses if loss is not None]
        return _sum_of(known) if len(known) == len(losses) else None

    def loss_of_images(self, number: int) -> PrivacyLoss:
        """What all releases cost a patient with so many images (`Release.loss_of_images`)."""
        return _sum_of(release.loss_of_images(number) for release in self.releases)

    @property
    def images_per_patient(self) -> tuple[int, ...]:
        """The bounds that were declared on images a patient, ascending."""
        bounds = {release.images_per_patient for release in self.releases}
        return tuple(sorted(bound for bound in bounds if bound is not None))

    def worst(self, delta: float) -> PrivacyLoss:
        """What it cost the patient with the highest epsilon at `delta`."""
        losses = [group.loss for group in self.groups()]
        return max(losses, key=lambda loss: loss.epsilon(delta), default=NO_LOSS)

    def epsilon(self, delta: float) -> float:
        """The worst epsilon over every patient that any release touched."""
        return self.worst(delta).epsilon(delta)

    def epsilon_to(self, unit: Unit, delta: float) -> float:
        """The worst epsilon over every `unit`, where releases may protect others too.

        Guarantee: that of `Release.loss_to`.
        """
        losses = (_sum_of(one.loss_to(unit) for one in group.releases) for group in self.groups())
        return max(loss.epsilon(delta) for loss in losses)

    def loss_on(self, cohort: Cohort | None, delta: float) -> PrivacyLoss:
        """What the releases cost the worst-off patient of `cohort`; of all patients for None.

        Guarantee: no patient of the cohort met more. With sampled steps, whose order may change
        under composition, all releases that met the cohort count together.
        """
        probe = Release(stage="probe", data="probe", mu=0.0, cohort=cohort)
        groups = [group for group in self.with_release(probe).groups() if probe in group.releases]
        losses = [group.loss for group in groups]
        if any(loss.sampled for loss in losses):
            met = {release for group in groups for release in group.releases}
            return _sum_of(release.loss for release in self.releases if release in met)
        return max(losses, key=lambda loss: loss.epsilon(delta))

    @property
    def populations(self) -> tuple[int, ...]:
        """The numbers of units declared for its releases, from the smallest on."""
        declared = {release.population for release in self.releases}
        return tuple(sorted(number for number in declared if number))

    @property
    def unit(self) -> Unit:
        """The unit of its releases that protect one, or else of all; the patient without any."""
        protected = [release for release in self.releases if math.isfinite(release.mu)]
        return next((release.unit for release in protected or self.releases), "patient")

    @property
    def found_by_looking(self) -> tuple[str, ...]:
        """The data sets among its releases whose units images decided, not the importer."""
        return tuple(sorted({one.data for one in self.releases if one.unit_from == "looks"}))

    @property
    def unprotected(self) -> tuple[Release, ...]:
        """The releases that nothing protects."""
        return tuple(release for release in self.releases if math.isinf(release.mu))


def _later(one: Release, other: Release) -> Release:
    """Of two that are one release at two times the later one, at the higher cost."""
    later = other if len(other.starts) > len(one.starts) else one
    dearer = other if other.mu > one.mu else one
    return dearer.started(later.starts)


def _meets(release: Release, position: dict[str, Fraction]) -> bool:
    """Whether a release met the patients whose hash under each key is at `position`."""
    if release.cohort is None:
        return True
    low, high = release.cohort.bounds
    return low <= position[release.cohort.key_id] < high


def _sum_of(losses: Iterable[PrivacyLoss]) -> PrivacyLoss:
    return reduce(PrivacyLoss.with_loss, losses, NO_LOSS)
