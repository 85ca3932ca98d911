"""The figures of an assessment that say how close a set of images is to the real one.

First which images are compared with which; then the figures, each of which applies a measure of
`gan.quality.measures`. Real images go in without noise, so a figure on patients is outside every
promise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gan.quality.measures import (
    detector_auroc,
    frechet_distance,
    kernel_distance,
    label_scores,
    precision_recall_density_coverage,
)
from gan.quality.sets import MOST_COMPARED, NO_VAL, MeasuredSet, Sets, Subject
from synthdp.data.looks.spectrum import spectrum_error
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Better, Figure, Value
from synthdp.evaluation.uncertainty.intervals import patient_bootstrap
from synthdp.machine.progress import progress

Array = NDArray[Any]

# Which images are compared with which. Figures depend on the number of images, so that beside each
# stands the figure of real images of the same n. Four comparisons: *all* images against train;
# *equal n* of either; as many as one *half* of the train patients against the other half, where
# real halves give the reference; and as many as the *held-out* patients' images against train,
# where these give it.

Comparison = Literal["all", "equal", "halves", "held-out"]

SUBJECTS: tuple[Subject, ...] = ("synthetic", "baseline", "real")
HALVINGS = 4
COMPARISON_WORDS: Mapping[Comparison, str] = {
    "all": "all images against train",
    "equal": "equal n, against train",
    "halves": "as many as half of train, against the other half",
    "held-out": "as many as val, against train",
}
#: What the figure of labels that are learned from a set begins with.
USEFULNESS = "Train on it, test on real, AUROC"
FIDELITY = "Label fidelity: train on real, AUROC on it"
CONDITION = "Condition fidelity: train on real, AUROC on it"
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


def _compare(
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
        For each number its value by subject: the mean over halvings, or none with the reason.
    """
    by_number: list[dict[Subject, Value]] = [{} for _ in range(count)]
    train = pick(sets.train)
    for subject in SUBJECTS:
        pairs = _pairs(sets, comparison, subject)
        if not pairs:
            continue
        n = (len(pairs[0][1]), len(pairs[0][2]))
        why, numbers = "", [None] * count
        try:
            measured = [
                measure(
                    Side(train[against], sets.train.patients[against]),
                    Side(pick(judged)[rows], judged.patients[rows] if judged.is_real else None),
                )
                for judged, rows, against in progress(pairs, what="figures of a comparison")
            ]
            numbers = np.mean(measured, axis=0).tolist()
        except InputError as error:
            why = str(error)
        split = _split_words(comparison, subject)
        for values, number in zip(by_number, numbers, strict=True):
            values[subject] = Value(value=number, n=n, split=split, why=why)
    return by_number


def _pairs(sets: Sets, comparison: Comparison, subject: Subject) -> list[Pair]:
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


def _split_words(comparison: Comparison, subject: Subject) -> str:
    if subject != "real":
        return "all against half of train" if comparison == "halves" else "all against train"
    return "halves of train" if comparison == "halves" else "val against train"


# The figures of an assessment. `main` ones stand in a report.


def distance_figures(sets: Sets, space: str) -> Iterator[Figure]:
    """Frechet and kernel distance in one space."""
    pick = _features(space)
    about = {"section": "Distance", "features": space, "better": "low"}
    yield from _frechet_figures(sets, pick, f"FD-{space}", **about)

    def kernel(train: Side, judged: Side) -> Sequence[float]:
        return [kernel_distance(train.values, judged.values)]

    for comparison in ("equal", "halves", "held-out"):
        main = comparison == "halves"
        yield from _figures(
            sets, comparison, pick, kernel, (f"KD-{space}",), main=main, digits=4, **about
        )


def inception_figures(sets: Sets) -> Iterator[Figure]:
    """FID: the Frechet distance on the features of pytorch-fid's Inception."""

    def pick(measured: MeasuredSet) -> Array:
        assert measured.inception is not None  # asked for all sets or for none
        return measured.inception

    about = {"section": "Distance", "features": "Inception", "better": "low"}
    yield from _frechet_figures(sets, pick, "FID", **about)


def _frechet_figures(sets: Sets, pick: Pick, name: str, **about: Any) -> Iterator[Figure]:
    def frechet(train: Side, judged: Side) -> Sequence[float]:
        return [frechet_distance(train.values, judged.values)]

    for comparison in COMPARISON_WORDS:
        main = comparison in ("all", "halves")
        yield from _figures(sets, comparison, pick, frechet, (name,), main=main, digits=1, **about)


def coverage_figures(sets: Sets, space: str, neighbours: int) -> Iterator[Figure]:
    """Precision, recall, density and coverage in one space; precision and density matter less."""

    def measure(train: Side, judged: Side) -> Sequence[float]:
        figures = precision_recall_density_coverage(
            train.values, judged.values, neighbours=neighbours
        )
        return [figures.recall, figures.coverage, figures.precision, figures.density]

    measures = [
        f"{word}, k = {neighbours}" for word in ("Recall", "Coverage", "Precision", "Density")
    ]
    about = {"section": "Coverage", "features": space, "better": "high"}
    n_main: dict[Comparison, int] = {"equal": 3, "halves": 2, "held-out": 0}
    for comparison, count in n_main.items():
        figures = _figures(sets, comparison, _features(space), measure, measures, **about)
        for number, figure in enumerate(figures):
            yield figure.model_copy(update={"main": number < count})


def detector_figures(sets: Sets, space: str) -> Iterator[Figure]:
    """How well a linear detector tells the set from real patients, in one space."""

    def measure(train: Side, judged: Side) -> Sequence[float]:
        assert train.patients is not None  # train is real
        return [
            detector_auroc(
                train.values,
                judged.values,
                train.patients,
                other_patients=judged.patients,
                seed=sets.seed,
            )
        ]

    measures = ("Real-versus-synthetic detector, AUROC",)
    about = {"section": "Detector", "features": space, "better": "chance", "main": True}
    for comparison in ("equal", "halves"):
        yield from _figures(sets, comparison, _features(space), measure, measures, **about)


def spectrum_figures(sets: Sets) -> Iterator[Figure]:
    """The error of the power spectrum, in dex."""

    def pick(measured: MeasuredSet) -> Array:
        return measured.powers

    def measure(train: Side, judged: Side) -> Sequence[float]:
        return [spectrum_error(train.values, judged.values, sets.size_px).dex]

    measures = ("Log10 power spectrum, largest error (dex)",)
    features = f"spectrum, {sets.size_px} px"
    about = {"section": "Spectrum", "features": features, "better": "low", "digits": 2}
    for comparison in ("all", "halves", "held-out"):
        main = comparison != "held-out"
        yield from _figures(sets, comparison, pick, measure, measures, main=main, **about)


def _features(space: str) -> Pick:
    return lambda measured: measured.features[space]


def _figures(
    sets: Sets,
    comparison: Comparison,
    pick: Pick,
    measure: Measure,
    measures: Sequence[str],
    **about: Any,
) -> Iterator[Figure]:
    """A figure for each of `measures` in one comparison."""
    by_measure = _compare(sets, comparison, pick, measure, len(measures))
    for words, values in zip(measures, by_measure, strict=True):
        if "synthetic" not in values:  # no val, or one patient: nothing to compare with
            continue
        by_subject: dict[Any, Any] = dict(values)
        yield Figure(measure=words, comparison=COMPARISON_WORDS[comparison], **by_subject, **about)


def label_figures(sets: Sets, space: str) -> Iterator[Figure]:
    """What the labels carry: trained on it and tested on held-out patients, and the other way.

    Of several targets each has figures of its own, whose measure names it; and how well images show
    each attribute that they were asked for, such as the view.
    """
    several = len(sets.targets) > 1
    for index, name in enumerate(sets.targets):
        named = f", {name}" if several else ""
        label = _Label(sets, space, partial(_label_at, index))
        yield label.figure(f"{USEFULNESS}{named}", "high")
        yield label.figure(f"{FIDELITY}{named}", "real")
    for index, one in enumerate(sets.conditions):
        label = _Label(sets, space, partial(_condition_at, index))
        yield label.figure(f"{CONDITION}, {one.name} {one.level}", "real")


def _label_at(index: int, measured: MeasuredSet) -> Array:
    labels: Array = measured.labels[:, index]
    return labels


def _condition_at(index: int, measured: MeasuredSet) -> Array:
    conditions: Array = measured.conditions[:, index]
    return conditions


@dataclass(frozen=True)
class _Label:
    """A label in one feature space; `pick` gives that of each image of a set, (N,)."""

    sets: Sets
    space: str
    pick: Pick

    def figure(self, measure: str, better: Better) -> Figure:
        """Of classifiers that learn on a set, tested on val; or, `real`, the other way round."""
        sets = self.sets
        tried = "logistic regression, tested on val"
        value_of: Callable[[MeasuredSet], Value] = self.usefulness
        if better == "real":
            tried, value_of = "logistic regression on train", self.fidelity
        return Figure(
            section="Labels",
            measure=measure,
            comparison=tried,
            features=self.space,
            better=better,
            main=True,
            synthetic=value_of(sets.synthetic),
            baseline=None if sets.baseline is None else value_of(sets.baseline),
            real=self.usefulness(sets.train),
        )

    def usefulness(self, fitted: MeasuredSet) -> Value:
        """Learned on a set, tested on held-out patients."""
        split = f"{'train' if fitted.is_real else 'all'}, tested on val"
        if self.sets.held_out is None:
            return Value(value=None, n=(len(fitted), 0), split=split, why=NO_VAL)
        return self._auroc(fitted, self.sets.held_out, split)

    def fidelity(self, tested: MeasuredSet) -> Value:
        """Learned on real train images, tested on a set."""
        value = self._auroc(self.sets.train, tested, "all, by train")
        return value.model_copy(update={"n": value.n[::-1]})

    def _auroc(self, fitted: MeasuredSet, tested: MeasuredSet, split: str) -> Value:
        """AUROC on one set of a classifier fitted to another, with an interval by patient.

        Images of unknown label are left out; made-up ones are drawn one by one.
        """
        learned, known = self.pick(fitted), self.pick(tested)
        of_fitted, of_tested = (np.flatnonzero(~np.isnan(labels)) for labels in (learned, known))
        patients = tested.patients[of_tested] if tested.is_real else np.arange(len(of_tested))
        about: dict[str, Any] = {"n": (len(of_fitted), len(of_tested)), "split": split}
        if not len(of_tested):
            return Value(value=None, why="no image has a known label", **about)
        try:
            scores = label_scores(
                fitted.features[self.space][of_fitted],
                learned[of_fitted],
                tested.features[self.space][of_tested],
            )
            auroc = patient_bootstrap(
                known[of_tested],
                scores,
                [str(patient) for patient in patients],
                redraws=self.sets.redraws,
                generator=np.random.default_rng((self.sets.seed, 7)),
            )["auroc"]
        except InputError as error:
            return Value(value=None, why=str(error), **about)
        why = "" if np.isfinite(auroc.value) else "the labels that are scored are of one class"
        return Value(why=why, **{**about, **auroc.to_json()})
