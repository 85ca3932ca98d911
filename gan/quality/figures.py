"""The figures of an assessment that say how close a set of images is to the real one.

Each applies a measure of `gan.quality.measures` in the comparisons of `gan.quality.comparisons`.
Real images go in without noise, so a figure on patients is outside every promise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.quality.comparisons import (
    COMPARISON_WORDS,
    Comparison,
    Pick,
    Side,
    compared_figures,
    features_in,
)
from gan.quality.measures import (
    alpha_precision_beta_recall,
    detector_auroc,
    frechet_distance,
    kernel_distance,
    kernel_distance_variance,
    label_scores,
    precision_recall_density_coverage,
)
from gan.quality.sets import NO_VAL, MeasuredSet, Sets
from synthdp.data.looks.spectrum import spectrum_error
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Better, Figure, Value
from synthdp.evaluation.uncertainty.intervals import patient_bootstrap

Array = NDArray[Any]

#: What the figure of labels that are learned from a set begins with.
USEFULNESS = "Train on it, test on real, AUROC"
FIDELITY = "Label fidelity: train on real, AUROC on it"
CONDITION = "Condition fidelity: train on real, AUROC on it"
#: As published: not by patient, and of images as they are, without mirrored copies.
OVER_IMAGES = "Authenticity over images"
#: Of a normal variable, 95 % lie within so many standard deviations of its mean.
_NORMAL_95 = 1.96

# `main` figures stand in a report.


def distance_figures(sets: Sets, space: str) -> Iterator[Figure]:
    """Frechet and kernel distance in one space."""
    pick = features_in(space)
    about = {"section": "Distance", "features": space, "better": "low"}
    yield from _frechet_figures(sets, pick, f"FD-{space}", **about)

    yield from _kernel_figures(sets, pick, f"KD-{space}", **about)


def inception_figures(sets: Sets) -> Iterator[Figure]:
    """FID and KID: both distances on the features of pytorch-fid's Inception."""

    def pick(measured: MeasuredSet) -> Array:
        assert measured.inception is not None  # asked for all sets or for none
        return measured.inception

    about = {"section": "Distance", "features": "Inception", "better": "low"}
    yield from _frechet_figures(sets, pick, "FID", **about)
    yield from _kernel_figures(sets, pick, "KID", **about)


def _frechet_figures(sets: Sets, pick: Pick, name: str, **about: Any) -> Iterator[Figure]:
    def frechet(train: Side, judged: Side) -> Sequence[float]:
        return [frechet_distance(train.values, judged.values)]

    for comparison in COMPARISON_WORDS:
        main = comparison in ("all", "halves")
        yield from compared_figures(
            sets, comparison, pick, frechet, (name,), main=main, digits=1, **about
        )


def _kernel_figures(sets: Sets, pick: Pick, name: str, **about: Any) -> Iterator[Figure]:
    """The kernel distance with its interval; over halvings, that of one halving."""

    def kernel(train: Side, judged: Side) -> Sequence[float]:
        groups = [
            np.arange(len(side.values)) if side.patients is None else side.patients
            for side in (train, judged)
        ]
        distance = kernel_distance(train.values, judged.values)
        return [distance, kernel_distance_variance(train.values, judged.values, *groups)]

    comparisons: tuple[Comparison, ...] = ("equal", "halves", "held-out")
    for comparison in comparisons:
        figures = list(
            compared_figures(
                sets, comparison, pick, kernel, (name, "variance"),
                main=comparison == "halves", digits=4, **about,
            )
        )  # fmt: skip
        if figures:
            yield _with_interval(*figures)


def _with_interval(figure: Figure, variance: Figure) -> Figure:
    """The figure with 95 % intervals, of a normal variable of the other figure's variance."""

    def value(number: Value | None, of: Value | None) -> Value | None:
        if number is None or of is None or number.value is None or of.value is None:
            return number
        reach = _NORMAL_95 * of.value**0.5
        ends = {"ci_low": number.value - reach, "ci_high": number.value + reach}
        return number.model_copy(update=ends)

    subjects = ("synthetic", "baseline", "real")
    return figure.model_copy(
        update={one: value(getattr(figure, one), getattr(variance, one)) for one in subjects}
    )


def support_figures(sets: Sets, space: str, neighbours: int) -> Iterator[Figure]:
    """Alpha-precision, beta-recall, and authenticity over images, in one space."""

    def measure(train: Side, judged: Side) -> Sequence[float]:
        supports = alpha_precision_beta_recall(train.values, judged.values, neighbours=neighbours)
        return [supports.alpha_precision, supports.beta_recall, supports.authenticity]

    measures = ("Alpha-precision", f"Beta-recall, k = {neighbours}", OVER_IMAGES)
    comparisons: tuple[Comparison, ...] = ("equal", "halves", "held-out")
    for comparison in comparisons:
        main = comparison == "halves"
        for figure in compared_figures(
            sets, comparison, features_in(space), measure, measures,
            section="Coverage", features=space, better="high", main=main,
        ):  # fmt: skip
            if figure.measure == OVER_IMAGES:
                about = {"section": "Memorisation", "better": "real", "main": False}
                yield figure.model_copy(update=about)
            else:
                yield figure


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
        figures = compared_figures(sets, comparison, features_in(space), measure, measures, **about)
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
        yield from compared_figures(
            sets, comparison, features_in(space), measure, measures, **about
        )


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
        yield from compared_figures(sets, comparison, pick, measure, measures, main=main, **about)


def label_figures(sets: Sets, space: str) -> Iterator[Figure]:
    """What the labels carry: trained on it and tested on held-out patients, and the other way.

    Of several targets each has figures of its own, whose measure names it. And how well images show
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
