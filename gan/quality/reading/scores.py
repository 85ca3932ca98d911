"""What readers' answers say: figures by reader and of all together, each with its interval.

A share of images of as many patients has the interval of Wilson; every other figure that of
redrawing patients, of real and of synthetic images apart, readers kept. It says what other images
would have given these readers, and nothing of other readers.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gan.quality.reading.agreement import cohen_kappa, fleiss_kappa
from gan.quality.reading.answers import Answer, Reading
from gan.quality.reading.key import Key
from synthdp.config.settings import Settings
from synthdp.evaluation.uncertainty.intervals import (
    Redrawn,
    auroc_draws,
    itself_and_redraws,
    patient_weights,
)

Array = NDArray[np.float64]
ALL = "all readers"
_NOTHING = Answer(None, None, None)

Measure = Literal[
    "accuracy",
    "sensitivity",
    "specificity",
    "d_prime",
    "origin_auroc",
    "accuracy_with_target",
    "accuracy_without_target",
    "rating_auroc_real",
    "rating_auroc_synthetic",
    "rating_auroc_difference",
]
_ORDER: tuple[Measure, ...] = get_args(Measure)


class ReaderFigure(Settings):
    """One figure of one reader, or the mean over all (`reader` is `all readers`).

    `accuracy`: the share of answers "real or synthetic" that are right; `sensitivity`: of synthetic
    images, called synthetic; `specificity`: of real ones, called real; `d_prime`: the distance of
    both in standard deviations, 0 is chance; `origin_auroc`: the same by how sure the reader was,
    .5 is chance. `rating_auroc_...`: how well the ratings follow the label, of real or of synthetic
    images, and the latter less the former. `n` counts images; `interval` says how the interval was
    taken; `why` says why there is no value.
    """

    reader: str
    measure: Measure
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int
    interval: Literal["wilson", "patients", ""] = ""
    why: str = ""


class ReaderAgreement(Settings):
    """Kappa between two readers (Cohen), or among more (Fleiss): of "real or synthetic", or of
    ratings, with squared distances; 1 is full agreement, 0 that of chance.
    """

    readers: tuple[str, ...]
    of: Literal["origin", "rating"]
    kappa: Literal["cohen", "fleiss"]
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int
    why: str = ""


class ReaderScores(Settings):
    """The content of `scores.json`.

    `promise` says whose figures these are, `findings` the result in words, `missing` how many
    answers each reader left out.
    """

    schema_version: Literal[1] = 1
    kit: str
    target: str
    real: str
    synthetic: str
    promise: str
    findings: tuple[str, ...]
    readers: tuple[str, ...]
    images: int
    missing: Mapping[str, int]
    figures: tuple[ReaderFigure, ...]
    agreement: tuple[ReaderAgreement, ...]


@dataclass(frozen=True)
class _Images:
    """The N images of a key, and the redraws of their patients.

    synthetic, label: (N,) of 1 and 0. patients: (N,) columns of weights (1 + R, P), whose first row
    is the set itself.
    """

    codes: tuple[str, ...]
    synthetic: Array
    label: Array
    patients: NDArray[np.intp]
    weights: NDArray[np.int64]

    @property
    def by_image(self) -> Array:
        """(1 + R, N): how often each image counts."""
        return self.weights[:, self.patients].astype(np.float64)


def score_readings(
    key: Key, readings: Sequence[Reading], *, redraws: int, seed: int
) -> ReaderScores:
    """All figures of some readings of one kit.

    Args:
        key: of the kit.
        readings: one a reader, as `read_readings` checked them.
        redraws: how often patients are drawn.
        seed: moves these draws.
    """
    images = _images(key, redraws, np.random.default_rng(seed))
    by_reader = {reading.reader: _Answered.of(reading, images) for reading in readings}
    figures = [
        figure for name, one in by_reader.items() for figure in _figures(name, [one], images)
    ]
    if len(readings) > 1:
        figures += _figures(ALL, list(by_reader.values()), images)
    agreement = list(_agreements(by_reader, images))
    return ReaderScores(
        kit=key.kit,
        target=key.target,
        real=key.real,
        synthetic=key.synthetic,
        promise=_promise(key),
        findings=tuple(_findings(figures, agreement, key)),
        readers=tuple(by_reader),
        images=len(key.images),
        missing={
            reading.reader: sum(
                not reading.answers.get(code, _NOTHING).is_whole for code in images.codes
            )
            for reading in readings
        },
        figures=tuple(figures),
        agreement=tuple(agreement),
    )


def _images(key: Key, redraws: int, generator: np.random.Generator) -> _Images:
    """Real and synthetic patients are drawn apart, so that each redraw shows as many of either."""
    columns: list[int] = []
    parts = []
    start = 0
    column_of: dict[tuple[str, str], int] = {}
    for kind in ("real", "synthetic"):
        names = sorted({one.patient for one in key.images if one.kind == kind})
        column_of |= {(kind, name): start + number for number, name in enumerate(names)}
        parts.append(itself_and_redraws(patient_weights(len(names), redraws, generator)))
        start += len(names)
    columns = [column_of[one.kind, one.patient] for one in key.images]
    return _Images(
        codes=tuple(one.code for one in key.images),
        synthetic=np.array([float(one.kind == "synthetic") for one in key.images]),
        label=np.array([float(one.label) for one in key.images]),
        patients=np.array(columns, dtype=np.intp),
        weights=np.concatenate(parts, axis=1),
    )


@dataclass(frozen=True)
class _Answered:
    """One reader's answers to N images, (N,) each, nan where there is none.

    right: 1 where the origin was told, else 0. sure: -3 certainly real to 3. rating: 1 to 5.
    called: 1 synthetic, 0 real.
    """

    right: Array
    sure: Array
    rating: Array
    called: Array

    @classmethod
    def of(cls, reading: Reading, images: _Images) -> "_Answered":
        answers = [reading.answers.get(code, _NOTHING) for code in images.codes]
        called = np.array(
            [np.nan if one.origin is None else float(one.origin == "synthetic") for one in answers]
        )
        right = np.where(np.isnan(called), np.nan, (called == images.synthetic).astype(np.float64))
        sure, rating = (
            np.array([np.nan if value is None else float(value) for value in values])
            for values in (
                [one.surely_synthetic for one in answers],
                [one.rating for one in answers],
            )
        )
        return cls(right, sure, rating, called)


def _figures(name: str, readers: Sequence[_Answered], images: _Images) -> list[ReaderFigure]:
    """All figures of one reader, or of all together, in the order of `Measure`."""
    every = np.ones(len(images.codes), dtype=bool)
    among: dict[Measure, NDArray[np.bool_]] = {
        "accuracy": every,
        "sensitivity": images.synthetic == 1,
        "specificity": images.synthetic == 0,
        "accuracy_with_target": images.label == 1,
        "accuracy_without_target": images.label == 0,
    }
    figures = [_share(name, measure, readers, images, chosen) for measure, chosen in among.items()]
    figures.append(_d_prime(name, readers, images))
    sure = [one.sure for one in readers]
    origin, n = _auroc(images.synthetic, sure, images)
    figures.append(_redrawn(name, "origin_auroc", origin, n, "images of one kind alone"))
    rated = [one.rating for one in readers]
    of_kind: list[Redrawn] = []
    kinds: tuple[tuple[Measure, float], ...] = (
        ("rating_auroc_real", 0.0),
        ("rating_auroc_synthetic", 1.0),
    )
    counts = 0
    for measure, kind in kinds:
        labels = np.where(images.synthetic == kind, images.label, np.nan)
        drawn, n = _auroc(labels, rated, images)
        figures.append(_redrawn(name, measure, drawn, n, "ratings of one class alone"))
        of_kind.append(drawn)
        counts += n
    difference = of_kind[1].minus(of_kind[0])
    figures.append(
        _redrawn(name, "rating_auroc_difference", difference, counts, "one of both has no value")
    )
    return sorted(figures, key=lambda figure: _ORDER.index(figure.measure))


def _share(
    name: str,
    measure: Measure,
    readers: Sequence[_Answered],
    images: _Images,
    among: NDArray[np.bool_],
) -> ReaderFigure:
    """A share of right answers; the mean over readers, each by the images that they answered."""
    drawn, answered, right = [], 0, 0.0
    for one in readers:
        chosen = among & ~np.isnan(one.right)
        weights = images.by_image[:, chosen]
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn.append(Redrawn.of(weights @ one.right[chosen] / weights.sum(axis=1)))
        answered += int(chosen.sum())
        right += float(one.right[chosen].sum())
    if not answered:
        return ReaderFigure(reader=name, measure=measure, value=None, n=0, why="no answer")
    alone = len(readers) == 1 and len(np.unique(images.patients[among])) == int(among.sum())
    if alone:
        low, high = wilson(round(right), answered)
        return ReaderFigure(
            reader=name, measure=measure, value=right / answered, ci_low=low, ci_high=high,
            n=answered, interval="wilson",
        )  # fmt: skip
    return _redrawn(name, measure, Redrawn.mean(drawn), answered, "no answer")


def wilson(count: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share `count / n` (Wilson, J. Am. Stat. Assoc. 22 (1927) 209)."""
    from scipy.stats import binomtest  # noqa: PLC0415 (takes a second)

    interval = binomtest(count, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _d_prime(name: str, readers: Sequence[_Answered], images: _Images) -> ReaderFigure:
    """z(hits) - z(false alarms), with half an image added to each count, so that it is finite.

    Hautus, Behavior Research Methods 27 (1995) 46; a hit is a synthetic image called synthetic.
    """
    from scipy.stats import norm  # noqa: PLC0415 (as above)

    drawn, answered = [], 0
    for one in readers:
        scores = []
        for kind in (1, 0):
            chosen = (images.synthetic == kind) & ~np.isnan(one.called)
            answered += int(chosen.sum())
            weights = images.by_image[:, chosen]
            rate = (weights @ one.called[chosen] + 0.5) / (weights.sum(axis=1) + 1)
            scores.append(norm.ppf(rate) if chosen.any() else np.full(len(rate), np.nan))
        drawn.append(Redrawn.of(scores[0] - scores[1]))
    return _redrawn(name, "d_prime", Redrawn.mean(drawn), answered, "images of one kind alone")


def _auroc(labels: Array, scores: Sequence[Array], images: _Images) -> tuple[Redrawn, int]:
    """The mean AUROC over readers on the same redraws, each by what they answered."""
    drawn, n = [], 0
    for one in scores:
        known = np.where(np.isnan(one), np.nan, labels)
        n += int((~np.isnan(known)).sum())
        values = auroc_draws(
            known[:, None], np.nan_to_num(one)[None, :, None], images.patients, images.weights
        )
        drawn.append(Redrawn.of(values[0]))
    return Redrawn.mean(drawn), n


def _redrawn(name: str, measure: Measure, drawn: Redrawn, n: int, why: str) -> ReaderFigure:
    interval = drawn.interval().to_json()
    known = not math.isnan(drawn.value)
    return ReaderFigure(
        reader=name,
        measure=measure,
        **interval,
        n=n,
        interval="patients" if known else "",
        why="" if known else why,
    )


def _agreements(by_reader: Mapping[str, _Answered], images: _Images) -> Iterator[ReaderAgreement]:
    """Kappa of each pair of readers, and Fleiss' of all where there are more than two."""
    for one, other in combinations(by_reader, 2):
        pair = by_reader[one], by_reader[other]
        for of in ("origin", "rating"):
            first, second = (
                answered.called if of == "origin" else answered.rating for answered in pair
            )
            both = ~np.isnan(first) & ~np.isnan(second)
            kappas = cohen_kappa(
                first[both].astype(int).tolist(),
                second[both].astype(int).tolist(),
                images.by_image[:, both],
                graded=of == "rating",
            )
            yield _kappa((one, other), of, "cohen", kappas, int(both.sum()))
    if len(by_reader) > 2:
        answers = np.stack([one.called for one in by_reader.values()])
        every = ~np.isnan(answers).any(axis=0)
        kappas = fleiss_kappa(answers[:, every].astype(np.intp), images.by_image[:, every])
        yield _kappa(tuple(by_reader), "origin", "fleiss", kappas, int(every.sum()))


def _kappa(
    readers: tuple[str, ...],
    of: Literal["origin", "rating"],
    kappa: Literal["cohen", "fleiss"],
    kappas: Array,
    n: int,
) -> ReaderAgreement:
    drawn = Redrawn.of(kappas)
    why = "" if not math.isnan(drawn.value) else "all gave one answer, or no image has two"
    return ReaderAgreement(
        readers=readers, of=of, kappa=kappa, n=n, why=why, **drawn.interval().to_json()
    )


def _promise(key: Key) -> str:
    if not key.protects_patients:
        return f"{key.real} holds no patients whom a promise protects."
    return (
        f"These figures are exact functions of patients of {key.real}, whose images were shown: no "
        "noise was added, so they stand outside every promise. Keep them in the house, or count "
        "them as a disclosure."
    )


# The result in words.


def _findings(
    figures: Sequence[ReaderFigure], agreement: Sequence[ReaderAgreement], key: Key
) -> Iterator[str]:
    whose = figures[-1].reader
    of = {figure.measure: figure for figure in figures if figure.reader == whose}
    who = f"Reader {whose} tells" if whose != ALL else "Readers tell"
    accuracy = of["accuracy"]
    if accuracy.value is None:
        yield "Nobody said of any image whether it is real or synthetic."
    else:
        yield (
            f"{who} synthetic images from real ones with accuracy {_shown(accuracy)} "
            f"({accuracy.n} answers; .5 is chance{_chance_words(accuracy)})."
        )
    real, synthetic = of["rating_auroc_real"], of["rating_auroc_synthetic"]
    if real.value is not None and synthetic.value is not None:
        yield (
            f"Ratings follow the label {key.target} with AUROC {_shown(synthetic)} on synthetic "
            f"images and {_shown(real)} on real ones."
        )
    of_all = [one for one in agreement if one.of == "origin" and one.value is not None]
    if of_all:
        last = of_all[-1]
        name = "Fleiss' kappa" if last.kappa == "fleiss" else "Cohen's kappa"
        yield f"They agree on what is synthetic with {name} {_shown(last)}; 0 is chance."


def _chance_words(accuracy: ReaderFigure) -> str:
    low, high = accuracy.ci_low or 0.0, accuracy.ci_high or 1.0
    if low > 0.5:
        return ", which lies below the interval"
    if high < 0.5:
        return ", which lies above the interval: they take one for the other"
    return f", which lies inside the interval, as {_two(high)} does"


def _shown(figure: ReaderFigure | ReaderAgreement) -> str:
    if figure.value is None:
        return "none"
    if figure.ci_low is None or figure.ci_high is None:
        return _two(figure.value)
    return f"{_two(figure.value)} [{_two(figure.ci_low)}, {_two(figure.ci_high)}]"


def _two(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1) if -1 < value < 1 else f"{value:.2f}"
