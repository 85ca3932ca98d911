"""Can somebody who has the synthetic images alone tell train patients from others?

Members are the train patients, strangers the held-out ones. First the attacks, on arrays in memory;
then the figures of an assessment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.quality.memorisation import distance_to_closest, nearest
from gan.quality.sets import NO_VAL, PIXELS, Sets
from synthdp.evaluation.assessment import Figure, Value
from synthdp.evaluation.settings import REDRAWS
from synthdp.evaluation.uncertainty.intervals import (
    Interval,
    patient_bootstrap,
    percentile_interval,
)
from synthdp.machine.progress import progress

Array = NDArray[Any]

#: False alarms that the membership attack is allowed.
FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class Attack:
    """How well members are told from strangers by patient, each with its interval.

    auc: 0.5 is chance. true_positive_rate: the share of members who are told from strangers at no
    more than 1 % false alarms.
    """

    auc: Interval
    true_positive_rate: Interval


def distance_attack(real: Array, synthetic: Array) -> Array:
    """Scores (N,) of real images: minus the distance to the nearest synthetic one, over copies.

    The attack of GAN-Leaks (arXiv 1909.03935, section 5) on samples alone.

    Args:
        real: (N, C, D), members and strangers.
        synthetic: (M, D).
    """
    return -_to_synthetic(real, synthetic)


def density_attack(real: Array, synthetic: Array, patients: Array) -> Array:
    """Scores (N,): log density of the synthetic set over that of all other patients.

    The idea of DOMIAS (arXiv 2302.12580, eq. 2), each density by its nearest neighbour: an image
    of a dense region is close to synthetic ones without having been learnt. The other patients are
    members and strangers alike, so neither side has an advantage.

    Args:
        real: (N, C, D), members and strangers.
        synthetic: (M, D).
        patients: (N,) of the real images.
    """
    among = nearest(real[:, 0], real, patients, own=patients).distance
    tiny = np.finfo(np.float32).tiny
    scores: Array = np.log(among + tiny) - np.log(_to_synthetic(real, synthetic) + tiny)
    return scores


def _to_synthetic(real: Array, synthetic: Array) -> Array:
    """The least distance (N,) of any copy of each real image to a synthetic one."""
    copies = real.reshape(-1, real.shape[-1])
    least: Array = distance_to_closest(copies, synthetic).reshape(real.shape[:2]).min(axis=1)
    return least


def attack_by_patient(
    scores: Array,
    members: Array,
    patients: Array,
    *,
    redraws: int = REDRAWS,
    generator: np.random.Generator,
) -> Attack:
    """How well scores tell members from strangers; a patient's score is that of the closest image.

    Args:
        scores: (N,) of images, higher for members.
        members: (N,) of bool, the same for all images of a patient.
        patients: (N,) ids.
        redraws: how often patients are drawn for the intervals.
        generator: the source of the draws.
    """
    # Of a patient's images the one with the highest score counts: one copied image is enough to
    # give the patient away.
    names, patient_of = np.unique(patients, return_inverse=True)
    best = np.full(len(names), -np.inf)
    np.maximum.at(best, patient_of, scores)
    is_member = np.zeros(len(names), dtype=bool)
    is_member[patient_of] = members
    auc = patient_bootstrap(
        is_member.astype(np.float64), best, list(names), redraws=redraws, generator=generator
    )["auroc"]
    inside, outside = best[is_member], best[~is_member]
    draws = [
        _true_positive_rate(
            generator.choice(inside, len(inside)), generator.choice(outside, len(outside))
        )
        for _ in progress(range(redraws), what="redrawing patients")
    ]
    rate = percentile_interval(_true_positive_rate(inside, outside), np.array(draws))
    return Attack(auc, rate)


def _true_positive_rate(inside: Array, outside: Array) -> float:
    """The share of members above a threshold that at most 1 % of the strangers pass."""
    # With `allowed` false alarms the threshold is the next highest score of a stranger. A member
    # has to lie above it, so that ties count against the attack.
    allowed = int(FALSE_ALARMS * len(outside))
    threshold = np.sort(outside)[len(outside) - 1 - allowed]
    return float((inside > threshold).mean())


def membership_figures(sets: Sets) -> Iterator[Figure]:
    """Attacks that know the samples alone: members are train patients, strangers those of val."""
    real = _members_and_strangers(sets)
    for space in progress(list(sets.train.features), what="membership in each feature space"):
        for attack in ("nearest synthetic image", "density ratio"):
            values = {
                subject: _attack_values(sets, made_up.features[space], space, real, attack=attack)
                for subject, made_up in sets.made_up.items()
            }
            for number, (words, chance) in enumerate(
                (("AUC", "0.5"), ("found at 1 % false alarms", "0.01"))
            ):
                by_subject: dict[Any, Any] = {
                    subject: pair[number] for subject, pair in values.items()
                }
                yield Figure(
                    section="Membership",
                    measure=f"Membership attack, {words}",
                    features=space,
                    comparison=f"by {attack}; chance is {chance}",
                    better="chance",
                    main=space != PIXELS and words == "AUC",
                    **by_subject,
                )


@dataclass(frozen=True)
class MembersAndStrangers:
    """Train and held-out images together: copies (N, 8, D) by space, patients, who is a member."""

    copies: Mapping[str, Array]
    patients: Array
    members: Array


def _members_and_strangers(sets: Sets) -> MembersAndStrangers | None:
    train, held_out = sets.train, sets.held_out
    if held_out is None or train.copies is None or held_out.copies is None:
        return None
    return MembersAndStrangers(
        copies={
            space: np.concatenate([copies, held_out.copies[space]])
            for space, copies in train.copies.items()
        },
        patients=np.r_[train.patients, held_out.patients],
        members=np.arange(len(train) + len(held_out)) < len(train),
    )


def _attack_values(
    sets: Sets, synthetic: Array, space: str, real: MembersAndStrangers | None, *, attack: str
) -> tuple[Value, Value]:
    """AUC and true positive rate of one attack in one space; n counts members and strangers."""
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
    by_patient = attack_by_patient(
        scores,
        real.members,
        real.patients,
        redraws=sets.redraws,
        generator=np.random.default_rng((sets.seed, 8)),
    )
    n = (n_patients, len(np.unique(real.patients)) - n_patients)

    def value(interval: Interval) -> Value:
        return Value(n=n, split=split, **dict[str, Any](interval.to_json()))

    return value(by_patient.auc), value(by_patient.true_positive_rate)
