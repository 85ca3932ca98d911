"""Can the set tell something of its patients that nobody could tell of others?

Attribute disclosure: an attacker has a patient's image, and wants to know what stands beside it
(the diagnosis, the density, the age). The level of the nearest synthetic image is the guess, as in
Choi et al. (PMLR 68, 2017, section 5). That a guess is often right need not tell of the patient: an
image shows much of it. So the same attack is made on held-out patients, whom no image was made of,
as in Giomi et al. (PoPETs 2023, arXiv 2211.10459): what it gains on train patients over these is
the disclosure. Beside it stands what it gains over always guessing the commonest level, of the set
and of an attacker who holds the held-out patients' images in place of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.quality.groups import Attribute, attributes_of
from gan.quality.memorisation import nearest
from gan.quality.sets import NO_VAL, PIXELS, MeasuredSet, Sets
from synthdp.data.columns import UNKNOWN
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Better, Figure, Value
from synthdp.evaluation.groups import MIN_PATIENTS
from synthdp.evaluation.settings import CutPoints
from synthdp.evaluation.uncertainty.intervals import (
    Redrawn,
    itself_and_redraws,
    patient_weights,
)
from synthdp.machine.progress import progress

Array = NDArray[Any]
DISCLOSURE = "Attribute disclosure"
_DRAWS = 13


@dataclass(frozen=True)
class RightGuesses:
    """How often guesses are right, of P patients: by the nearest, by the commonest level."""

    nearest: Array
    commonest: Array


def right_guesses(
    points: Array,
    levels: Array,
    patients: Array,
    known: Array,
    known_levels: Array,
) -> RightGuesses:
    """Guesses of the level of each image, averaged by patient; images of unknown level left out.

    Args:
        points: (N, D) of the images that are guessed of.
        levels: (N,) their true levels.
        patients: (N,) their patients.
        known: (M, D) of the images whose level the attacker knows.
        known_levels: (M,) that level.

    Raises:
        InputError: when fewer than three images have a known level.
    """
    rows, others = np.flatnonzero(levels != UNKNOWN), np.flatnonzero(known_levels != UNKNOWN)
    own = known_levels[others]
    if len(own) < 3:
        raise InputError("fewer than three images have a known level")
    closest = nearest(points[rows], known[others][:, None], np.arange(len(others))).index
    names, counts = np.unique(own, return_counts=True)
    guesses = (own[closest], np.full(len(rows), names[counts.argmax()], dtype=object))
    _, columns = np.unique(patients[rows], return_inverse=True)
    images = np.bincount(columns)
    by_patient = [
        np.bincount(columns, weights=(guess == levels[rows]).astype(float)) / images
        for guess in guesses
    ]
    return RightGuesses(*by_patient)


def disclosure_figures(sets: Sets, columns: Mapping[str, CutPoints] | None) -> Iterator[Figure]:
    """What the set tells of train patients, by attribute and space: targets, and named columns."""
    attributes = list(attributes_of(sets, columns))
    for space in progress(list(sets.train.features), what="attributes in each feature space"):
        for attribute in attributes:
            yield from _figures(sets, space, attribute)


def _figures(sets: Sets, space: str, attribute: Attribute) -> Iterator[Figure]:
    """Gain over held-out patients, gain over the commonest level, and the plain share, of each
    set."""
    made_up: dict[Any, list[Value]] = {
        subject: _values(sets, space, attribute, one) for subject, one in sets.made_up.items()
    }
    with_val: list[Value | None] = [None, None, None]
    if sets.held_out is not None:
        with_val = [None, *_values(sets, space, attribute, sets.held_out)[1:]]
    parts: tuple[tuple[str, str, Better], ...] = (
        ("gain over val patients", "0 tells nothing of the patients", "chance"),
        ("gain over the commonest level", "0 is no more than that", "real"),
        ("train patients told", "share of images, by patient", "real"),
    )
    for number, (words, meaning, better) in enumerate(parts):
        by_subject: dict[str, Any] = {
            **{subject: values[number] for subject, values in made_up.items()},
            "real": with_val[number],
        }
        yield Figure(
            section="Disclosure",
            measure=f"{DISCLOSURE}, {attribute.name}: {words}",
            features=space,
            comparison=f"by the nearest image; {meaning}",
            better=better,
            main=number == 0 and space != PIXELS and made_up["synthetic"][0].value is not None,
            **by_subject,
        )


def _values(sets: Sets, space: str, attribute: Attribute, by: MeasuredSet) -> list[Value]:
    """The three values of an attacker who holds one set; of val as that set the first has none."""
    split = "val, told of train patients" if by.is_real else "train patients, val patients"

    def missing(why: str, n: tuple[int, int] = (0, 0)) -> list[Value]:
        return [Value(value=None, n=n, split=split, why=why)] * 3

    levels = attribute.groups_in(sets.train)
    own = attribute.groups_in(by)
    for of, groups in ((sets.train, levels), (by, own)):
        if lacking := attribute.lacking_in(of, groups):
            return missing(lacking)
    try:
        train = _guesses(sets.train, levels, by, own, space)
        strangers = None
        if sets.held_out is not None and not by.is_real:
            strangers = _guesses(sets.held_out, attribute.groups_in(sets.held_out), by, own, space)
    except InputError as error:
        return missing(str(error))
    n = (len(train.nearest), 0 if strangers is None else len(strangers.nearest))
    if n[0] < MIN_PATIENTS:
        return missing(f"too few: known of fewer than {MIN_PATIENTS} train patients", n)
    generator = np.random.default_rng((sets.seed, _DRAWS))
    weights = itself_and_redraws(patient_weights(n[0], sets.redraws, generator))
    by_nearest, by_commonest = (
        _mean(weights, values) for values in (train.nearest, train.commonest)
    )
    over_val = Value(value=None, n=n, split=split, why=NO_VAL)
    if strangers is not None and n[1] < MIN_PATIENTS:
        why = f"too few: known of fewer than {MIN_PATIENTS} val patients"
        over_val = Value(value=None, n=n, split=split, why=why)
    elif strangers is not None:
        others = itself_and_redraws(patient_weights(n[1], sets.redraws, generator))
        over_val = _value(by_nearest.minus(_mean(others, strangers.nearest)), n, split)
    n = (n[0], len(own)) if by.is_real else n
    return [
        over_val,
        _value(by_nearest.minus(by_commonest), n, split),
        _value(by_nearest, n, split),
    ]


def _guesses(
    of: MeasuredSet, levels: Array, by: MeasuredSet, own: Array, space: str
) -> RightGuesses:
    return right_guesses(of.features[space], levels, of.patients, by.features[space], own)


def _mean(weights: NDArray[np.int64], by_patient: Array) -> Redrawn:
    return Redrawn.of(weights @ by_patient / weights.sum(axis=1))


def _value(drawn: Redrawn, n: tuple[int, int], split: str) -> Value:
    return Value(n=n, split=split, **dict[str, Any](drawn.interval().to_json()))


def disclosure_words(figures: Sequence[Figure]) -> str:
    """Whether the set tells something of its patients, in a sentence or two.

    Empty where nobody knows.
    """
    attacks = [
        figure
        for figure in figures
        if figure.measure.startswith(DISCLOSURE) and figure.measure.endswith("over val patients")
    ]
    made = [figure for figure in attacks if figure.synthetic.value is not None]
    telling = [figure for figure in made if (figure.synthetic.ci_low or 0) > 0]
    silent = dict.fromkeys(_attribute(one) for one in attacks if one.synthetic.value is None)
    without = ""
    if made and silent:
        without = f" Of {', '.join(silent)} nothing was tried: the table says why."
    if not telling:
        names = " or ".join(dict.fromkeys(map(_attribute, made)))
        words = (
            f"None of {len(made)} attacks tells {names} of train patients better than of others."
        )
        return f"{words}{without}" if made else ""
    words = ", ".join(
        f"{_attribute(one)} ({one.features}, gain {one.synthetic.value:.2f}, "
        f"{one.synthetic.ci_low:.2f} to {one.synthetic.ci_high:.2f})"
        for one in telling
    )
    return (
        f"{len(telling)} of {len(made)} attacks tell something of train patients better than of "
        f"others: {words}.{without}"
    )


def _attribute(figure: Figure) -> str:
    return figure.measure.split(":")[0].removeprefix(f"{DISCLOSURE}, ")
