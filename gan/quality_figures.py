"""The figures of an assessment that say how close a synthetic set is, and what its labels carry."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gan.comparisons import NO_VAL, WORDS, Array, Measure, Name, Part, Pick, Sets, compared
from gan.measured_sets import MeasuredSet
from gan.quality import (
    detector_auroc,
    frechet_distance,
    kernel_distance,
    label_scores,
    precision_recall_density_coverage,
)
from synthdp.data.spectrum import spectrum_error
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Better, Figure, Value
from synthdp.evaluation.statistics import patient_bootstrap


def distance_figures(sets: Sets, space: str) -> Iterator[Figure]:
    """Frechet and kernel distance in one space."""
    about = {"section": "Distance", "features": space, "better": "low"}
    for name in ("all", "equal", "halves", "held-out"):
        main = name in ("all", "halves")
        yield from _figures(
            sets, name, _features(space), _frechet, (f"FD-{space}",), main=main, digits=1, **about
        )
    for name in ("equal", "halves", "held-out"):
        main = name == "halves"
        yield from _figures(
            sets, name, _features(space), _kernel, (f"KD-{space}",), main=main, digits=4, **about
        )


def inception_figures(sets: Sets) -> Iterator[Figure]:
    """FID: the Frechet distance on the features of pytorch-fid's Inception."""

    def pick(found: MeasuredSet) -> Array:
        assert found.inception is not None  # asked for all sets or for none
        return found.inception

    about = {"section": "Distance", "features": "Inception", "better": "low", "digits": 1}
    for name in ("all", "equal", "halves", "held-out"):
        main = name in ("all", "halves")
        yield from _figures(sets, name, pick, _frechet, ("FID",), main=main, **about)


def _frechet(train: Part, judged: Part) -> Sequence[float]:
    return [frechet_distance(train.values, judged.values)]


def _kernel(train: Part, judged: Part) -> Sequence[float]:
    return [kernel_distance(train.values, judged.values)]


def coverage_figures(sets: Sets, space: str, neighbours: int) -> Iterator[Figure]:
    """Precision, recall, density and coverage in one space; precision and density matter less."""

    def measure(train: Part, judged: Part) -> Sequence[float]:
        found = precision_recall_density_coverage(
            train.values, judged.values, neighbours=neighbours
        )
        return [found.recall, found.coverage, found.precision, found.density]

    measures = [
        f"{word}, k = {neighbours}" for word in ("Recall", "Coverage", "Precision", "Density")
    ]
    about = {"section": "Coverage", "features": space, "better": "high"}
    for name, n_main in (("equal", 3), ("halves", 2), ("held-out", 0)):
        for place, figure in enumerate(
            _figures(sets, name, _features(space), measure, measures, **about)
        ):
            yield figure.model_copy(update={"main": place < n_main})


def detector_figures(sets: Sets, space: str) -> Iterator[Figure]:
    """How well a linear detector tells the set from real patients, in one space."""

    def measure(train: Part, judged: Part) -> Sequence[float]:
        assert train.patients is not None  # train is real
        found = detector_auroc(
            train.values,
            judged.values,
            train.patients,
            other_patients=judged.patients,
            seed=sets.seed,
        )
        return [found]

    measures = ("Real-versus-synthetic detector, AUROC",)
    about = {"section": "Detector", "features": space, "better": "chance"}
    for name in ("equal", "halves"):
        yield from _figures(sets, name, _features(space), measure, measures, main=True, **about)


def spectrum_figures(sets: Sets, size_px: int) -> Iterator[Figure]:
    """The error of the power spectrum, in dex."""

    def pick(found: MeasuredSet) -> Array:
        return found.powers

    def measure(train: Part, judged: Part) -> Sequence[float]:
        return [spectrum_error(train.values, judged.values, size_px).dex]

    measures = ("Log10 power spectrum, largest error (dex)",)
    features = f"spectrum, {size_px} px"
    about = {"section": "Spectrum", "features": features, "better": "low", "digits": 2}
    for name in ("all", "halves", "held-out"):
        main = name != "held-out"
        yield from _figures(sets, name, pick, measure, measures, main=main, **about)


def spectrum_words(sets: Sets, size_px: int) -> str:
    """Where the synthetic spectrum is farthest from the real one."""
    found = spectrum_error(sets.train.powers, sets.synthetic.powers, size_px)
    return (
        f"Its power spectrum is farthest from the real one, {found.dex:.2f} dex, at "
        f"{found.low:g} to {found.high:g} {found.line} cycles an image side."
    )


def _features(space: str) -> Pick:
    return lambda found: found.features[space]


def _figures(
    sets: Sets, name: Any, pick: Pick, measure: Measure, measures: Sequence[str], **about: Any
) -> Iterator[Figure]:
    """A figure for each of `measures` in one comparison."""
    comparison: Name = name
    found = compared(sets, comparison, pick, measure, len(measures))
    for words, values in zip(measures, found, strict=True):
        if "synthetic" not in values:  # no val, or one patient: nothing to compare with
            continue
        told: dict[Any, Any] = {**values, **about}
        yield Figure(measure=words, comparison=WORDS[comparison], **told)


def label_figures(sets: Sets, space: str) -> Iterator[Figure]:
    """What the labels carry: trained on it and tested on held-out patients, and the other way."""

    def useful(fitted: MeasuredSet) -> Value:
        split = f"{'train' if fitted.is_real else 'all'}, tested on val"
        if sets.held_out is None:
            return Value(value=None, n=(len(fitted), 0), split=split, why=NO_VAL)
        return _label_value(sets, space, fitted, sets.held_out, split=split)

    def faithful(tested: MeasuredSet) -> Value:
        found = _label_value(sets, space, sets.train, tested, split="all, by train")
        return found.model_copy(update={"n": found.n[::-1]})

    about: dict[str, Any] = {"section": "Labels", "features": space, "main": True}
    better: Better
    for measure, comparison, better, judge in (
        ("Train on it, test on real, AUROC", "logistic regression, tested on val", "high", useful),
        (
            "Label fidelity: train on real, AUROC on it",
            "logistic regression on train",
            "real",
            faithful,
        ),
    ):
        yield Figure(
            measure=measure,
            comparison=comparison,
            better=better,
            synthetic=judge(sets.synthetic),
            baseline=None if sets.baseline is None else judge(sets.baseline),
            real=useful(sets.train),
            **about,
        )


def _label_value(
    sets: Sets, space: str, fitted: MeasuredSet, tested: MeasuredSet, *, split: str
) -> Value:
    """AUROC on one set of a classifier fitted to another, with an interval by patient.

    Images of unknown label are left out; made-up ones are drawn one by one.
    """
    of_fitted, of_tested = (np.flatnonzero(~np.isnan(found.labels)) for found in (fitted, tested))
    patients = tested.patients[of_tested] if tested.is_real else np.arange(len(of_tested))
    about: dict[str, Any] = {"n": (len(of_fitted), len(of_tested)), "split": split}
    try:
        scores = label_scores(
            fitted.features[space][of_fitted],
            fitted.labels[of_fitted],
            tested.features[space][of_tested],
        )
        auroc = patient_bootstrap(
            tested.labels[of_tested],
            scores,
            [str(patient) for patient in patients],
            redraws=sets.redraws,
            generator=np.random.default_rng((sets.seed, 7)),
        )["auroc"]
    except InputError as error:
        return Value(value=None, why=str(error), **about)
    why = "" if np.isfinite(auroc.value) else "the labels that are scored are of one class"
    return Value(why=why, **{**about, **auroc.to_json()})
