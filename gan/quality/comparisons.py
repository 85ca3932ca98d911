"""Which images of an assessment are compared with which, and the figures of one comparison.

Figures depend on the number of images, so that beside each stands the figure of real images of the
same n. Real images go in without noise, so a figure on patients is outside every promise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gan.quality.sets import MOST_COMPARED, MeasuredSet, Sets, Subject
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Figure, Value
from synthdp.machine.progress import progress

Array = NDArray[Any]

# Four comparisons: *all* images against train; *equal n* of either; as many as one *half* of the
# train patients against the other half, where real halves give the reference; and as many as the
# *held-out* patients' images against train, where these give it.

Comparison = Literal["all", "equal", "halves", "held-out"]

SUBJECTS: tuple[Subject, ...] = ("synthetic", "baseline", "real")
HALVINGS = 4
COMPARISON_WORDS: Mapping[Comparison, str] = {
    "all": "all images against train",
    "equal": "equal n, against train",
    "halves": "as many as half of train, against the other half",
    "held-out": "as many as val, against train",
}
#: Held-out images are judged against so many of train at most.
MOST_AGAINST = 5000


@dataclass(frozen=True)
class Side:
    """Some images of a set: what is compared of them (N, D), and their patients (N,), if real."""

    values: Array
    patients: Array | None


Pick = Callable[[MeasuredSet], Array]
Measure = Callable[[Side, Side], Sequence[float]]
#: A judged set, its rows, and the rows of train that they are judged against.
Pair = tuple[MeasuredSet, Array, Array]


def compare(
    sets: Sets, comparison: Comparison, pick: Pick, measure: Measure, count: int
) -> list[dict[Subject, Value]]:
    """What `measure` gives in one comparison, for each subject that takes part in it.

    Args:
        sets: what is compared.
        comparison: which images with which.
        pick: what of a set is compared, such as its features in one space.
        measure: takes train's side and the judged side, and gives `count` numbers.
        count: how many.

    Returns:
        For each number its value by subject: the mean over halvings, or none with the reason (none
        without one where the measure gives nan).
    """
    by_number: list[dict[Subject, Value]] = [{} for _ in range(count)]
    train = pick(sets.train)
    for subject in SUBJECTS:
        pairs = pairs_of(sets, comparison, subject)
        if not pairs:
            continue
        n = (len(pairs[0][1]), len(pairs[0][2]))
        why = ""
        numbers: list[float | None] = [None] * count
        try:
            measured = [
                measure(
                    Side(train[against], sets.train.patients[against]),
                    Side(pick(judged)[rows], judged.patients[rows] if judged.is_real else None),
                )
                for judged, rows, against in progress(pairs, what="figures of a comparison")
            ]
            means = np.mean(measured, axis=0)
            numbers = [float(mean) if np.isfinite(mean) else None for mean in means]
        except InputError as error:
            why = str(error)
        split = split_words(comparison, subject)
        for values, number in zip(by_number, numbers, strict=True):
            values[subject] = Value(value=number, n=n, split=split, why=why)
    return by_number


def pairs_of(sets: Sets, comparison: Comparison, subject: Subject) -> list[Pair]:
    """The judged set, its rows, and the rows of train that they are judged against.

    Each draw has a key of its own, so that one more figure moves no other.
    """
    if subject == "real":
        return _real_pairs(sets, comparison)
    judged = sets.made_up.get(subject)
    return [] if judged is None else _made_up_pairs(sets, comparison, judged)


def _made_up_pairs(sets: Sets, comparison: Comparison, judged: MeasuredSet) -> list[Pair]:
    size, n_train = len(judged), len(sets.train)
    if comparison == "all":
        return [(judged, np.arange(size), np.arange(n_train))]
    if comparison == "halves":
        return [
            (judged, _draw_rows(size, len(other), (sets.seed, 1, turn)), half)
            for turn, (half, other) in enumerate(_halves(sets))
        ]
    if comparison == "equal":
        rows = _draw_rows(size, sets.compare_n, (sets.seed, 2))
        return [(judged, rows, _draw_rows(n_train, sets.compare_n, (sets.seed, 3)))]
    if count := _held_out_n(sets):
        return [(judged, _draw_rows(size, count, (sets.seed, 4)), _against(sets))]
    return []


def _real_pairs(sets: Sets, comparison: Comparison) -> list[Pair]:
    if comparison == "halves":
        return [(sets.train, other, half) for half, other in _halves(sets)]
    if comparison == "held-out" and sets.held_out is not None:
        rows = _draw_rows(len(sets.held_out), _held_out_n(sets), (sets.seed, 5))
        return [(sets.held_out, rows, _against(sets))]
    return []


def _against(sets: Sets) -> Array:
    """The rows of train that held-out images, and as many made-up ones, are judged against."""
    return _draw_rows(len(sets.train), MOST_AGAINST, (sets.seed, 9))


def _held_out_n(sets: Sets) -> int:
    if sets.held_out is None:
        return 0
    return min(MOST_COMPARED, len(sets.held_out), *map(len, sets.made_up.values()))


def _halves(sets: Sets) -> list[tuple[Array, Array]]:
    """Rows of two halves of the train patients, `HALVINGS` times, all of the same length."""
    names, patient_of = np.unique(sets.train.patients, return_inverse=True)
    if len(names) < 2:
        return []
    halves = []
    for turn in range(HALVINGS):
        rng = np.random.default_rng((sets.seed, 0, turn))
        first = rng.permutation(np.arange(len(names)) % 2 == 0)[patient_of]
        halves.append((rng.permutation(np.flatnonzero(first)), np.flatnonzero(~first)))
    count = min(min(map(len, pair)) for pair in halves)
    count = min(MOST_COMPARED, count, *map(len, sets.made_up.values()))
    return [
        (np.sort(half[:count]), other[_draw_rows(len(other), count, (sets.seed, 6, turn))])
        for turn, (half, other) in enumerate(halves)
    ]


def _draw_rows(size: int, count: int, key: tuple[int, ...]) -> Array:
    """`count` of `size` rows, without replacement, in order; all of them where that is as many."""
    chosen: Array = np.sort(np.random.default_rng(key).permutation(size)[:count])
    return chosen


def split_words(comparison: Comparison, subject: Subject) -> str:
    """What the images of a subject are compared with, in words."""
    if subject != "real":
        return "all against half of train" if comparison == "halves" else "all against train"
    return "halves of train" if comparison == "halves" else "val against train"


def features_in(space: str) -> Pick:
    """What a set's features in one space are compared by."""
    return lambda measured: measured.features[space]


def compared_figures(
    sets: Sets,
    comparison: Comparison,
    pick: Pick,
    measure: Measure,
    measures: Sequence[str],
    **about: Any,
) -> Iterator[Figure]:
    """A figure for each of `measures` in one comparison, where there is something to compare.

    Args:
        sets: what is compared.
        comparison: which images with which.
        pick: what of a set is compared.
        measure: gives a number for each of `measures`.
        measures: their names.
        about: what the figures have in common, such as the section.
    """
    by_measure = compare(sets, comparison, pick, measure, len(measures))
    for words, values in zip(measures, by_measure, strict=True):
        if "synthetic" not in values:  # no val, or one patient: nothing to compare with
            continue
        by_subject: dict[Any, Any] = dict(values)
        yield Figure(measure=words, comparison=COMPARISON_WORDS[comparison], **by_subject, **about)
