"""The figures of an assessment that say whether a synthetic set holds copies of patients."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan.comparisons import NO_VAL, Array, Sets, Subject
from gan.measured_sets import PIXELS, MeasuredSet
from gan.memorisation import (
    Attack,
    Closeness,
    Nearest,
    attack_by_patient,
    authentic_share,
    density_attack,
    distance_attack,
    near_copies,
    nearest,
)
from synthdp.evaluation.assessment import Figure, Value
from synthdp.evaluation.statistics import Interval

COPIES = "8 mirrored and turned copies of each patient's image"


@dataclass(frozen=True)
class Judged:
    """How close each image of one set is to train, by space, `pixels` among them."""

    by_space: Mapping[str, Closeness]
    patients: Array

    @property
    def features(self) -> list[Closeness]:
        """The spaces of networks."""
        return [found for label, found in self.by_space.items() if label != PIXELS]

    @property
    def copied(self) -> Array:
        """Which images are near copies by `memorisation.near_copies`."""
        return near_copies(self.by_space[PIXELS], self.features, self.patients)


def judge(sets: Sets) -> dict[Subject, Judged]:
    """How close every set is to train; `real` are the held-out patients, judged in the same way.

    Raises:
        InputError: when train holds one patient alone.
    """
    train = sets.train
    assert train.copies is not None  # train is real
    between = {
        space: nearest(train.features[space], copies, own=train.patients, others=train.patients)
        for space, copies in train.copies.items()
    }
    held_out = _to_train(sets.held_out, train) if sets.held_out is not None else None
    found = {
        subject: _judged(_to_train(made_up, train), held_out, between, train)
        for subject, made_up in sets.made_up.items()
    }
    if held_out is not None:
        found["real"] = _judged(held_out, None, between, train)
    return found


def _to_train(judged: MeasuredSet, train: MeasuredSet) -> dict[str, Nearest]:
    assert train.copies is not None  # train is real
    return {
        space: nearest(judged.features[space], copies) for space, copies in train.copies.items()
    }


def _judged(
    images: Mapping[str, Nearest],
    held_out: Mapping[str, Nearest] | None,
    between: Mapping[str, Nearest],
    train: MeasuredSet,
) -> Judged:
    by_space = {
        space: Closeness(
            space, found, held_out[space] if held_out is not None else None, between[space]
        )
        for space, found in images.items()
    }
    return Judged(by_space, train.patients)


def copy_figures(judged: Mapping[Subject, Judged]) -> Iterator[Figure]:
    """Nearest distances, authenticity and near copies; held-out patients are the reference."""
    counted = {
        subject: Value(value=float(found.copied.sum()), n=_n(found), split=_split(subject))
        for subject, found in judged.items()
    }
    yield _figure(
        counted,
        measure="Near copies of a patient (images)",
        features="pixels and a network",
        comparison="closer than any two patients are, in pixels and in features",
        better="low",
        digits=0,
        main=True,
    )
    for space in next(iter(judged.values())).by_space:
        yield from _copy_figures_in(space, judged)


def _copy_figures_in(space: str, judged: Mapping[Subject, Judged]) -> Iterator[Figure]:
    closeness = {subject: found.by_space[space] for subject, found in judged.items()}

    def values(number: Any) -> dict[Subject, Value]:
        return {
            subject: Value(value=float(number(found)), n=_n(judged[subject]), split=_split(subject))
            for subject, found in closeness.items()
        }

    about: dict[str, Any] = {"features": space, "comparison": COPIES, "better": "real"}
    yield _figure(
        values(lambda found: authentic_share(found.synthetic, found.between)),
        measure="Authenticity",
        main=space != PIXELS,
        **about,
    )
    pixels = space == PIXELS
    to_shown = _correlation if pixels else np.asarray
    what = "Correlation with the nearest patient" if pixels else "Distance to the nearest patient"
    for words, share in (("median", 0.5), ("closest 1 %", 0.01)):
        yield _figure(
            values(lambda found, q=share: to_shown(np.quantile(found.synthetic.distance, q))),
            measure=f"{what}, {words}",
            main=words != "median",
            digits=3 if pixels else 2,
            **about,
        )
    yield _figure(
        values(lambda found: found.closer_than_patients.sum()),
        measure="Closer to a patient than any two patients are (images)",
        digits=0,
        **{**about, "better": "low"},
    )


def _correlation(distance: Any) -> Any:
    """The correlation of two thumbnails of unit length, from their distance."""
    return 1 - np.asarray(distance) ** 2 / 2


def membership_figures(sets: Sets) -> Iterator[Figure]:
    """Attacks that know the samples alone: members are train patients, strangers those of val."""
    real = _members_and_strangers(sets)
    for space in sets.train.features:
        for attack in ("nearest synthetic image", "density ratio"):
            values = {
                subject: _attacked(sets, made_up.features[space], space, real, attack=attack)
                for subject, made_up in sets.made_up.items()
            }
            for place, words in enumerate(("AUC", "found at 1 % false alarms")):
                yield _figure(
                    {subject: pair[place] for subject, pair in values.items()},
                    section="Membership",
                    measure=f"Membership attack, {words}",
                    features=space,
                    comparison=f"by {attack}; chance is {('0.5', '0.01')[place]}",
                    better="chance",
                    main=space != PIXELS and place == 0,
                )


@dataclass(frozen=True)
class Real:
    """Train and held-out images together: copies (N, 8, D) by space, patients, who is a member."""

    copies: Mapping[str, Array]
    patients: Array
    members: Array


def _members_and_strangers(sets: Sets) -> Real | None:
    train, held_out = sets.train, sets.held_out
    if held_out is None or train.copies is None or held_out.copies is None:
        return None
    return Real(
        copies={
            space: np.concatenate([copies, held_out.copies[space]])
            for space, copies in train.copies.items()
        },
        patients=np.r_[train.patients, held_out.patients],
        members=np.arange(len(train) + len(held_out)) < len(train),
    )


def _attacked(
    sets: Sets, synthetic: Array, space: str, real: Real | None, *, attack: str
) -> tuple[Value, Value]:
    """AUC and share found by one attack in one space; n counts members and strangers."""
    n_patients = len(np.unique(sets.train.patients))
    split = "train patients, val patients"
    if real is None:
        missing = Value(value=None, n=(n_patients, 0), split=split, why=NO_VAL)
        return missing, missing
    copies = real.copies[space]
    if attack == "density ratio":
        scores = density_attack(copies, synthetic, real.patients)
    else:
        scores = distance_attack(copies, synthetic)
    generator = np.random.default_rng((sets.seed, 8))
    found: Attack = attack_by_patient(
        scores, real.members, real.patients, redraws=sets.redraws, generator=generator
    )
    n = (n_patients, len(np.unique(real.patients)) - n_patients)

    def value(interval: Interval) -> Value:
        return Value(n=n, split=split, **dict[str, Any](interval.to_json()))

    return value(found.auc), value(found.found)


def _n(judged: Judged) -> tuple[int, int]:
    return len(judged.by_space[PIXELS].synthetic), len(judged.patients)


def _split(subject: Subject) -> str:
    return "val against train" if subject == "real" else "all against train"


def _figure(values: Mapping[Subject, Value], **about: Any) -> Figure:
    told: dict[Any, Any] = {"section": "Memorisation", **values, **about}
    return Figure(**told)
