"""The figures of an assessment that say whether a synthetic set holds copies of patients."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
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
    def spaces(self) -> list[Closeness]:
        """All spaces, pixels first."""
        return list(self.by_space.values())


def judge(sets: Sets) -> dict[Subject, Judged]:
    """How close every set is to train; `real` are the held-out patients, judged in the same way.

    Raises:
        InputError: when train holds fewer than three patients.
    """
    train = sets.train
    assert train.copies is not None  # train is real
    between = {
        space: nearest(train.features[space], copies, train.patients, own=train.patients)
        for space, copies in train.copies.items()
    }
    held_out = _to_train(sets.held_out, train) if sets.held_out is not None else {}
    found = {
        subject: _judged(_to_train(made_up, train), held_out, between, train)
        for subject, made_up in sets.made_up.items()
    }
    if held_out:
        found["real"] = _judged(held_out, {}, between, train)
    return found


def _to_train(judged: MeasuredSet, train: MeasuredSet) -> dict[str, Nearest]:
    assert train.copies is not None  # train is real
    return {
        space: nearest(judged.features[space], copies, train.patients)
        for space, copies in train.copies.items()
    }


def _judged(
    images: Mapping[str, Nearest],
    held_out: Mapping[str, Nearest],
    between: Mapping[str, Nearest],
    train: MeasuredSet,
) -> Judged:
    """Judge images by what is known of train and, unless they are judged, of held-out patients."""
    by_space = {}
    for space, found in images.items():
        known = [between[space].ratio, *([held_out[space].ratio] if held_out else [])]
        by_space[space] = Closeness(space, found, np.concatenate(known), between[space])
    return Judged(by_space, train.patients)


def copy_figures(judged: Mapping[Subject, Judged]) -> Iterator[Figure]:
    """Nearest distances, authenticity and near copies; held-out patients are the reference."""
    counted = {
        subject: _value(subject, found, near_copies(found.spaces).sum())
        for subject, found in judged.items()
    }
    yield _figure(
        counted,
        measure="Near copies of a patient (images)",
        features="all",
        comparison="far closer to one patient than to any other",
        better="low",
        digits=0,
        main=True,
    )
    for space in next(iter(judged.values())).by_space:
        yield from _copy_figures_in(space, judged)


def _copy_figures_in(space: str, judged: Mapping[Subject, Judged]) -> Iterator[Figure]:
    closeness = {subject: found.by_space[space] for subject, found in judged.items()}

    def values(number: Callable[[Closeness], Any]) -> dict[Subject, Value]:
        return {
            subject: _value(subject, judged[subject], number(found))
            for subject, found in closeness.items()
        }

    about: dict[str, Any] = {"features": space, "comparison": COPIES, "better": "real"}
    yield _figure(
        values(lambda found: authentic_share(found.judged, found.between)),
        measure="Authenticity",
        main=space != PIXELS,
        **about,
    )
    pixels = space == PIXELS
    what = "Correlation with the nearest patient" if pixels else "Distance to the nearest patient"
    for words, share in (("median", 0.5), ("closest 1 %", 0.01)):
        yield _figure(
            values(partial(_distance, share=share, correlation=pixels)),
            measure=f"{what}, {words}",
            main=words != "median",
            digits=3 if pixels else 2,
            **about,
        )
    yield _figure(
        values(lambda found: found.judged.ratio.min()),
        measure="Distance to the nearest patient over that to the next, least",
        main=pixels,
        **about,
    )
    yield _figure(
        values(lambda found: near_copies([found]).sum()),
        measure="Near copies of a patient in this space (images)",
        digits=0,
        **{**about, "better": "low"},
    )


def _distance(found: Closeness, *, share: float, correlation: bool) -> float:
    """A quantile of the distances; of thumbnails of unit length as their correlation."""
    distance = float(np.quantile(found.judged.distance, share))
    return 1 - distance**2 / 2 if correlation else distance


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


def _value(subject: Subject, judged: Judged, number: Any) -> Value:
    return Value(
        value=float(number),
        n=(len(judged.by_space[PIXELS].judged), len(judged.patients)),
        split="val against train" if subject == "real" else "all against train",
    )


def _figure(values: Mapping[Subject, Value], **about: Any) -> Figure:
    told: dict[Any, Any] = {"section": "Memorisation", **values, **about}
    return Figure(**told)
