"""Who is missing, and whom a classifier serves: coverage and utility of a set by group of patients.

Whether a real image is reached is a matter of all images; then the share of each group is taken.
Beside each figure stands what real images give: other patients of train for coverage, a classifier
that learned on train for utility.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gan.quality.comparisons import COMPARISON_WORDS, SUBJECTS, pairs_of, split_words
from gan.quality.groups import Attribute, attributes_of, known_groups
from gan.quality.measures import label_scores, reached
from gan.quality.sets import NO_VAL, MeasuredSet, Sets, Subject
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Figure, Value
from synthdp.evaluation.groups import MIN_PATIENTS, TOO_FEW
from synthdp.evaluation.settings import CutPoints
from synthdp.evaluation.uncertainty.intervals import (
    Redrawn,
    auroc_draws,
    itself_and_redraws,
    redraws_of,
)
from synthdp.machine.progress import progress

Array = NDArray[Any]
COVERAGE, UTILITY = "Sub-group coverage", "Utility by sub-group"
#: The key of the redraws of each, in the sequence of an assessment's draws.
_COVERAGE_DRAWS, _UTILITY_DRAWS = 11, 12
Reach = Literal["recall", "coverage"]
REACHES: tuple[Reach, ...] = ("recall", "coverage")
#: What measures end in, behind the group: the second of the difference to other patients.
RECALL, LESS, _UTILITY_END = "recall", ", less that of other patients", "train on it, AUROC"


def subgroup_figures(
    sets: Sets, space: str, neighbours: int, columns: Mapping[str, CutPoints] | None
) -> Iterator[Figure]:
    """Coverage of the groups of each target and of each named column; utility of the latter's."""
    attributes = list(attributes_of(sets, columns))
    yield from _coverage_figures(sets, space, neighbours, attributes)
    yield from _utility_figures(sets, space, [one for one in attributes if one.target is None])


@dataclass(frozen=True)
class GroupRow:
    """What a page shows at once of one group: its figures in the first feature space, if any.

    difference: of the recall to that of other patients.
    """

    name: str
    recall: Figure | None
    difference: Figure | None
    utility: Figure | None


def group_rows(figures: Sequence[Figure]) -> list[GroupRow]:
    """A row for each group, and for each attribute of which no group is known."""
    of_groups = [figure for figure in figures if figure.section == "Groups"]
    by_kind: dict[str, dict[str, Figure]] = {RECALL: {}, RECALL + LESS: {}, _UTILITY_END: {}}
    for figure in of_groups:
        start = COVERAGE if figure.measure.startswith(COVERAGE) else UTILITY
        name, _, kind = figure.measure.removeprefix(f"{start}, ").rpartition(": ")
        if figure.features == of_groups[0].features and kind in by_kind:
            by_kind[kind][name] = figure
    names = dict.fromkeys(name for of_kind in by_kind.values() for name in of_kind)
    return [GroupRow(name, *(of_kind.get(name) for of_kind in by_kind.values())) for name in names]


def group_words(figures: Sequence[Figure]) -> str:
    """Who is missing, in a sentence: the group that lies farthest below what other patients reach.

    Of several feature spaces the first speaks. Empty where no group has a figure.
    """
    below = [
        figure
        for figure in figures
        if figure.measure.startswith(COVERAGE) and figure.measure.endswith(LESS)
        if figure.synthetic.value is not None
    ]
    of_first = [figure for figure in below if figure.features == below[0].features]
    if not of_first:
        return ""
    least = min(of_first, key=lambda figure: figure.synthetic.value or 0)
    less = least.synthetic
    if (less.ci_high or 0) >= 0:
        return (
            f"No group of {len(of_first)} is reached clearly less than other patients reach it, by "
            "recall."
        )
    name = least.measure.removeprefix(f"{COVERAGE}, ").removesuffix(f": recall{LESS}")
    others = sorted(-(one.synthetic.value or 0) for one in of_first if one is not least)
    beside = f"; the others by {others[0]:.2f} to {others[-1]:.2f}" if others else ""
    return (
        f"Of {len(of_first)} groups {name} lies farthest below what other patients reach: by "
        f"{-(less.value or 0):.2f} of its images ({-(less.ci_high or 0):.2f} to "
        f"{-(less.ci_low or 0):.2f}){beside}."
    )


# Who is missing.


@dataclass(frozen=True)
class _Reached:
    """How often each of N train images was reached, (N,) by figure, and how often it was looked at.

    n: the images that reached, in one halving.
    """

    hits: Mapping[Reach, Array]
    looks: Array
    n: int


def _coverage_figures(
    sets: Sets, space: str, neighbours: int, attributes: list[Attribute]
) -> Iterator[Figure]:
    by_subject: dict[Subject, _Reached] = {}
    why = "train has no two patients to compare"
    for subject in progress(SUBJECTS, what="who is reached"):
        try:
            of_subject = _reached_by(sets, space, neighbours, subject)
        except InputError as error:
            why = str(error)
        else:
            by_subject |= {} if of_subject is None else {subject: of_subject}
    columns, weights = redraws_of(
        [str(one) for one in sets.train.patients], _key(sets, _COVERAGE_DRAWS), sets.redraws
    )
    drawn = itself_and_redraws(weights)
    for attribute in attributes:
        groups = attribute.groups_in(sets.train)
        lacking = attribute.lacking_in(sets.train, groups)
        if "synthetic" not in by_subject:
            lacking = lacking or why
        if lacking:
            unknown = Value(value=None, n=(len(groups), 0), split="train", why=lacking)
            named = f"{attribute.name}: {RECALL}"
            yield _coverage_figure(named, space, neighbours, {"synthetic": unknown})
            continue
        for name, reach in [(name, reach) for name in known_groups(groups) for reach in REACHES]:
            chosen = groups == name
            shares = {
                subject: _share(one.hits[reach][chosen], one.looks[chosen], columns[chosen], drawn)
                for subject, one in by_subject.items()
            }
            ns = {
                subject: (int((one.looks[chosen] > 0).sum()), one.n)
                for subject, one in by_subject.items()
            }
            values = {one: _value(share, one, ns[one]) for one, share in shares.items()}
            named = f"{attribute.name} {name}: {reach}"
            yield _coverage_figure(named, space, neighbours, values)
            if reach == "recall" and "real" in shares:
                less: dict[Subject, Value] = {
                    one: _value(_less(share, shares["real"]), one, ns[one])
                    for one, share in shares.items()
                    if one != "real"
                }
                yield _coverage_figure(f"{named}{LESS}", space, neighbours, less)


def _coverage_figure(
    named: str, space: str, neighbours: int, values: Mapping[Subject, Value]
) -> Figure:
    by_subject: dict[Any, Any] = dict(values)
    return Figure(
        section="Groups",
        measure=f"{COVERAGE}, {named}",
        features=space,
        comparison=f"k = {neighbours}; {COMPARISON_WORDS['halves']}",
        better="high",
        **by_subject,
    )


def _reached_by(sets: Sets, space: str, neighbours: int, subject: Subject) -> _Reached | None:
    """What of train the images of a subject reach, over halvings; None where there are none."""
    pairs = pairs_of(sets, "halves", subject)
    if not pairs:
        return None
    train = sets.train.features[space]
    hits: dict[Reach, Array] = {reach: np.zeros(len(train)) for reach in REACHES}
    looks = np.zeros(len(train))
    for judged, rows, against in pairs:
        both = reached(train[against], judged.features[space][rows], neighbours=neighbours)
        for reach, is_reached in zip(REACHES, both, strict=True):
            hits[reach][against] += is_reached
        looks[against] += 1
    return _Reached(hits, looks, len(pairs[0][1]))


def _share(
    hits: Array, looks: Array, columns: NDArray[np.intp], drawn: NDArray[np.int64]
) -> Redrawn | None:
    """The share of a group's looks that hit, by patient; None where patients are too few.

    Args:
        hits: (G,) how often each of the group's images was reached.
        looks: (G,) how often it was looked at.
        columns: (G,) the columns of `drawn` that their patients have.
        drawn: (1 + R, P).
    """
    if len(np.unique(columns[looks > 0])) < MIN_PATIENTS:
        return None
    of_hits, of_looks = (
        np.bincount(columns, weights=values, minlength=drawn.shape[1]) for values in (hits, looks)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return Redrawn.of((drawn @ of_hits) / (drawn @ of_looks))


def _less(one: Redrawn | None, other: Redrawn | None) -> Redrawn | None:
    """A paired difference: both are shares of the same patients on the same redraws."""
    return None if one is None or other is None else one.minus(other)


def _value(share: Redrawn | None, subject: Subject, n: tuple[int, int]) -> Value:
    split = split_words("halves", subject)
    if share is None:
        why = f"too few: fewer than {MIN_PATIENTS} patients"
        return Value(value=None, n=n, split=split, why=why)
    return Value(n=n, split=split, **dict[str, Any](share.interval().to_json()))


# Whom a classifier serves that learned on the set.


def _utility_figures(sets: Sets, space: str, attributes: list[Attribute]) -> Iterator[Figure]:
    """AUROC on held-out patients by group: the mean over targets that have both classes there."""
    if not attributes:
        return
    fitted: dict[Subject, MeasuredSet] = {**sets.made_up, "real": sets.train}
    if sets.held_out is None:
        for attribute in attributes:
            missing: dict[Subject, Value] = {
                subject: Value(value=None, n=(len(of), 0), split=_tested(subject), why=NO_VAL)
                for subject, of in fitted.items()
            }
            yield _utility_figure(attribute.name, space, missing)
        return
    held_out = sets.held_out
    scored = {subject: _scores(of, held_out, space) for subject, of in fitted.items()}
    for attribute in attributes:
        groups = attribute.groups_in(held_out)
        lacking = attribute.lacking_in(held_out, groups)
        for name in [""] if lacking else known_groups(groups):  # of none, one figure that says why
            values: dict[Subject, Value] = {}
            for subject, (scores, why) in scored.items():
                n = (len(fitted[subject]), int((groups == name).sum()))
                about: dict[str, Any] = {"n": n, "split": _tested(subject)}
                if lacking or why:
                    values[subject] = Value(value=None, why=lacking or why, **about)
                else:
                    values[subject] = _auroc(sets, held_out, scores, groups == name, about)
            yield _utility_figure(f"{attribute.name} {name}".rstrip(), space, values)


def _tested(subject: Subject) -> str:
    return f"{'train' if subject == 'real' else 'all'}, tested on val"


def _utility_figure(named: str, space: str, values: Mapping[Subject, Value]) -> Figure:
    by_subject: dict[Any, Any] = dict(values)
    return Figure(
        section="Groups",
        measure=f"{UTILITY}, {named}: {_UTILITY_END}",
        features=space,
        comparison="logistic regression, tested on the group's images of val",
        better="high",
        **by_subject,
    )


def _scores(fitted: MeasuredSet, held_out: MeasuredSet, space: str) -> tuple[Array, str]:
    """Scores (N, T) of held-out images by classifiers that learned on a set, nan where a target
    can't be learned, and why there are none at all.
    """
    why = ""
    scores: Array = np.full_like(held_out.labels, np.nan)
    for index in range(scores.shape[1]):
        known = ~np.isnan(fitted.labels[:, index])
        try:
            scores[:, index] = label_scores(
                fitted.features[space][known],
                fitted.labels[known, index],
                held_out.features[space],
            )
        except InputError as error:
            why = str(error)
    return scores, why if np.isnan(scores).all() else ""


def _auroc(
    sets: Sets, held_out: MeasuredSet, scores: Array, chosen: Array, about: Mapping[str, Any]
) -> Value:
    labels = np.where(np.isnan(scores), np.nan, held_out.labels)[chosen]
    patients = held_out.patients[chosen]
    ranked = [
        column
        for column in range(labels.shape[1])
        if all(
            len(np.unique(patients[labels[:, column] == label])) >= MIN_PATIENTS for label in (0, 1)
        )
    ]
    if not ranked:
        return Value(value=None, why=TOO_FEW, **about)
    columns, weights = redraws_of(
        [str(one) for one in patients], _key(sets, _UTILITY_DRAWS), sets.redraws
    )
    drawn = auroc_draws(
        labels[:, ranked],
        np.nan_to_num(scores[chosen][:, ranked])[None],
        columns,
        itself_and_redraws(weights),
    )
    return Value(**{**about, **Redrawn.of(drawn[0]).interval().to_json()})


def _key(sets: Sets, number: int) -> int:
    """A seed of its own for the redraws of one kind of figure."""
    return int(np.random.SeedSequence((sets.seed, number)).generate_state(1, np.uint64)[0])
