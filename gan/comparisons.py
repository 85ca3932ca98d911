"""Which images are compared with which: beside each figure stands a real one of the same n.

Four comparisons: *all* images against train; *equal n* of either; as many as one *half* of the
train patients against the other half, where real halves give the reference; and as many as the
*held-out* patients' images against train, where these give it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gan.measured_sets import MeasuredSet
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Value

Array = NDArray[Any]
Name = Literal["all", "equal", "halves", "held-out"]
Subject = Literal["synthetic", "baseline", "real"]

SUBJECTS: tuple[Subject, ...] = ("synthetic", "baseline", "real")
HALVINGS = 4
WORDS: Mapping[Name, str] = {
    "all": "all images against train",
    "equal": "equal n, against train",
    "halves": "as many as half of train, against the other half",
    "held-out": "as many as val, against train",
}
#: Bounds on what is compared of either side: pairs take memory, and figures settle well before.
MOST_COMPARED, MOST_AGAINST = 1104, 5000
NO_VAL = "the real set has no val"


@dataclass(frozen=True)
class Part:
    """Some images of a set: what is compared of them (N, D), and their patients (N,), if real."""

    values: Array
    patients: Array | None


Pick = Callable[[MeasuredSet], Array]
Measure = Callable[[Part, Part], Sequence[float]]
#: A judged set, its rows, and the rows of train that they are judged against.
Pair = tuple[MeasuredSet, Array, Array]


@dataclass(frozen=True)
class Sets:
    """The sets of an assessment; `compare_n` images of each side where n is to be equal.

    `seed` drives every draw; patients are drawn `redraws` times for an interval.
    """

    synthetic: MeasuredSet
    baseline: MeasuredSet | None
    train: MeasuredSet
    held_out: MeasuredSet | None
    compare_n: int
    seed: int
    redraws: int

    @property
    def made_up(self) -> dict[Subject, MeasuredSet]:
        """The synthetic set and, where there is one, the baseline."""
        both: dict[Subject, MeasuredSet] = {"synthetic": self.synthetic}
        return both if self.baseline is None else {**both, "baseline": self.baseline}


def chosen_n(asked: int | None, sizes: Mapping[str, int]) -> int:
    """How many images of each side are compared where n is equal.

    Args:
        asked: the setting, None for as many as every set has, at most 1104.
        sizes: the images of each set.

    Raises:
        InputError: when a set has fewer than what was asked for.
    """
    least = min(sizes, key=lambda name: sizes[name])
    if asked is not None and asked > sizes[least]:
        raise InputError(
            f"compare_n: {asked} images of each set were asked for, but {least} has fewer; lower "
            "it, or leave it out for as many as every set has"
        )
    return asked or min(MOST_COMPARED, sizes[least])


def compared(
    sets: Sets, name: Name, pick: Pick, measure: Measure, count: int
) -> list[dict[Subject, Value]]:
    """What `measure` gives in one comparison, for each subject that takes part in it.

    Args:
        sets: what is compared.
        name: the comparison.
        pick: what of a set is compared, such as its features in one space.
        measure: takes train's part and the judged part, and gives `count` numbers.
        count: how many.

    Returns:
        For each number its value by subject: the mean over halvings, or none with the reason.
    """
    found: list[dict[Subject, Value]] = [{} for _ in range(count)]
    for subject in SUBJECTS:
        pairs = _pairs(sets, name, subject)
        if not pairs:
            continue
        n = (len(pairs[0][1]), len(pairs[0][2]))
        why, numbers = "", [None] * count
        try:
            numbers = _measured(sets, pick, measure, pairs)
        except InputError as error:
            why = str(error)
        for values, number in zip(found, numbers, strict=True):
            values[subject] = Value(value=number, n=n, split=_split_words(name, subject), why=why)
    return found


def _measured(sets: Sets, pick: Pick, measure: Measure, pairs: Sequence[Pair]) -> list[Any]:
    """The mean over the pairs of each number."""
    train = pick(sets.train)
    numbers = [
        measure(
            Part(train[against], sets.train.patients[against]),
            Part(pick(judged)[rows], judged.patients[rows] if judged.is_real else None),
        )
        for judged, rows, against in pairs
    ]
    means: list[Any] = np.mean(numbers, axis=0).tolist()
    return means


def _pairs(sets: Sets, name: Name, subject: Subject) -> list[Pair]:
    """The judged set, its rows, and the rows of train that they are judged against."""
    if subject == "real":
        return _real_pairs(sets, name)
    judged = sets.made_up.get(subject)
    return [] if judged is None else _made_up_pairs(sets, name, judged)


def _made_up_pairs(sets: Sets, name: Name, judged: MeasuredSet) -> list[Pair]:
    size = len(judged)
    if name == "all":
        return [(judged, np.arange(size), np.arange(len(sets.train)))]
    if name == "halves":
        return [
            (judged, _drawn(size, len(other), (sets.seed, 1, turn)), half)
            for turn, (half, other) in enumerate(_halves(sets))
        ]
    if name == "equal":
        rows = _drawn(size, sets.compare_n, (sets.seed, 2))
        return [(judged, rows, _drawn(len(sets.train), sets.compare_n, (sets.seed, 3)))]
    if count := _held_out_n(sets):
        return [(judged, _drawn(size, count, (sets.seed, 4)), _against(sets))]
    return []


def _real_pairs(sets: Sets, name: Name) -> list[Pair]:
    if name == "halves":
        return [(sets.train, other, half) for half, other in _halves(sets)]
    if name == "held-out" and sets.held_out is not None:
        rows = _drawn(len(sets.held_out), _held_out_n(sets), (sets.seed, 5))
        return [(sets.held_out, rows, _against(sets))]
    return []


def _against(sets: Sets) -> Array:
    """The rows of train that held-out images, and as many made-up ones, are judged against."""
    return _drawn(len(sets.train), MOST_AGAINST, (sets.seed, 9))


def _held_out_n(sets: Sets) -> int:
    if sets.held_out is None:
        return 0
    return min(MOST_COMPARED, len(sets.held_out), *_made_up_sizes(sets))


def _halves(sets: Sets) -> list[tuple[Array, Array]]:
    """Rows of two halves of the train patients, `HALVINGS` times, all of the same length."""
    names, places = np.unique(sets.train.patients, return_inverse=True)
    if len(names) < 2:
        return []
    halves = []
    for turn in range(HALVINGS):
        rng = np.random.default_rng((sets.seed, 0, turn))
        first = rng.permutation(np.arange(len(names)) % 2 == 0)[places]
        halves.append((rng.permutation(np.flatnonzero(first)), np.flatnonzero(~first)))
    count = min(min(map(len, pair)) for pair in halves)
    count = min(MOST_COMPARED, count, *_made_up_sizes(sets))
    return [
        (np.sort(half[:count]), other[_drawn(len(other), count, (sets.seed, 6, turn))])
        for turn, (half, other) in enumerate(halves)
    ]


def _made_up_sizes(sets: Sets) -> list[int]:
    return [len(made_up) for made_up in sets.made_up.values()]


def _drawn(size: int, count: int, key: tuple[int, ...]) -> Array:
    """`count` of `size` rows, without replacement, in order; all of them where that is as many."""
    chosen: Array = np.sort(np.random.default_rng(key).permutation(size)[:count])
    return chosen


def _split_words(name: Name, subject: Subject) -> str:
    if subject != "real":
        return "all against half of train" if name == "halves" else "all against train"
    return "halves of train" if name == "halves" else "val against train"
