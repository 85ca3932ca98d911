"""What the models of each cell reach at each site, target by target, with redraws of its patients.

A decision's threshold comes from the site where a model was trained, as at a hospital that is sent
one; that of the images scored, as arXiv 2306.06503 takes it, stands beside it, marked optimistic.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from synthdp.evaluation.groups import decision_measures
from synthdp.evaluation.metrics import MACRO
from synthdp.evaluation.operating_point import at_youden, youden_threshold
from synthdp.evaluation.predictions import ScoredTarget
from synthdp.evaluation.uncertainty.intervals import Redrawn, redrawn_auroc, redraws_of
from synthdp.machine.progress import progress
from synthdp.stages import crosses_grid
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.predictions import ScoredCell
from synthdp.study.compare.results import CellKey
from synthdp.study.sets import share_of

Decision: TypeAlias = Literal["accuracy", "sensitivity", "specificity"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
Optimistic: TypeAlias = Literal[
    "accuracy_optimistic", "sensitivity_optimistic", "specificity_optimistic"
]
OPTIMISTIC: tuple[Optimistic, ...] = get_args(Optimistic)
#: What models reach on some images.
Reached: TypeAlias = Literal["auroc", Decision, Optimistic]
Domain: TypeAlias = Literal["internal", "external", "mixed"]

THESE_IMAGES = "threshold chosen on these very images: optimistic"


def domain_of(trained_on: str, scored_on: str) -> Domain:
    """Whether models meet the site that they were trained at: by the names of both.

    Args:
        trained_on: a set, `clinic`, or a part of one, `clinic (site A)`; empty for none.
        scored_on: likewise.
    """
    if trained_on == scored_on or (trained_on and scored_on.startswith(f"{trained_on} (")):
        return "internal"
    return "mixed" if trained_on.startswith(f"{scored_on} (") else "external"


class SiteKey(NamedTuple):
    """Models by their cell, with the set that they were trained on, and where they are scored."""

    models: CellKey
    target: str
    data_set: str
    split: str


class _Set(NamedTuple):
    """A split of a set, by the names that results have."""

    data_set: str
    split: str


#: What models reach for one target: figures by measure.
_Figures: TypeAlias = Mapping[Reached, Redrawn]


@dataclass(frozen=True, eq=False)
class SiteFigures:
    """The models of one cell on one split, for one target or the mean over several.

    `parts` goes by the targets that have both classes here, or is of the one that there is; means
    over seeds with their redraws. `n_targets` is of how many targets the mean could be. `n_images`
    and `n_patients` are those whose target is known; `threshold_note` says where thresholds are
    from.
    """

    key: SiteKey
    cell: Cell
    parts: Mapping[str, _Figures]
    n_targets: int
    n_images: int
    n_patients: int
    threshold_note: str

    @property
    def domain(self) -> Domain:
        """As `domain_of`."""
        return domain_of(self.key.models.trained_on, self.key.data_set)

    @property
    def private(self) -> bool:
        """Whether the models were trained for an epsilon."""
        return self.cell.epsilon is not None

    def figure(self, measure: Reached) -> Redrawn:
        """A figure, of several targets their mean; nan where there is none."""
        return mean_figure([part[measure] for part in self.parts.values()])

    @cached_property
    def auroc(self) -> Redrawn:
        """The AUROC, of several targets their mean; nan where there is none."""
        return self.figure("auroc")

    def shared_targets(self, other: "SiteFigures") -> list[str]:
        """The targets of `parts` that the other has too."""
        return [target for target in self.parts if target in other.parts]

    def minus(self, other: "SiteFigures") -> Redrawn:
        """The AUROC less that of another, over the targets that both have."""
        return mean_figure(
            [
                self.parts[target]["auroc"].minus(other.parts[target]["auroc"])
                for target in self.shared_targets(other)
            ]
        )

    @property
    def over_words(self) -> str:
        """Of which targets a mean is, where some are left out."""
        if self.key.target != MACRO or len(self.parts) == self.n_targets:
            return ""
        return f"mean over {', '.join(self.parts) or 'no target'}: others have one class alone"


_NO_FIGURE = Redrawn(math.nan, np.full(1, math.nan))


def mean_figure(figures: Sequence[Redrawn]) -> Redrawn:
    """The mean of figures, redraw by redraw; nan of none."""
    return Redrawn.mean(figures) if figures else _NO_FIGURE


@dataclass(frozen=True)
class _HomeThreshold:
    """Youden's threshold of one model for one target, on a split of its site of training."""

    at: _Set
    value: float


#: By run and target, on each split of the site of training that was scored.
_HomeThresholds: TypeAlias = Mapping[tuple[str, str], Sequence[_HomeThreshold]]


def trained_on_of(cell: Cell, data_set: str) -> str:
    """What models were trained on, `data_set` where none is named; empty where they met no site.

    A share of the patients is one of those of `data_set`.
    """
    if share_of(cell.trained_on) is not None:
        return data_set
    return cell.trained_on or (data_set if crosses_grid(cell.strategy) else "")


def _home_thresholds(cells: Sequence[ScoredCell], data_set: str) -> _HomeThresholds:
    """Of each model and target, on each split of its site of training that has both classes."""
    thresholds: dict[tuple[str, str], list[_HomeThreshold]] = {}
    for one in cells:
        cell = one.cell
        if domain_of(trained_on_of(cell, data_set), cell.data_set) != "internal":
            continue
        predictions, at = one.predictions, _Set(cell.data_set, cell.split)
        for index, target in enumerate(predictions.targets):
            labels = np.asarray(predictions.labels[:, index], dtype=np.float64)
            known = ~np.isnan(labels)
            if np.unique(labels[known]).size < 2:
                continue
            for run, scores in zip(cell.runs, predictions.scores[:, known, index], strict=True):
                value = youden_threshold(scores.astype(np.float64), labels[known])
                thresholds.setdefault((run, target), []).append(_HomeThreshold(at, value))
    return thresholds


def _threshold_for(home: Sequence[_HomeThreshold], here: _Set) -> _HomeThreshold:
    """The one for the images `here`: not chosen on these where that can be, on val sooner than on
    another split."""
    return min(home, key=lambda one: (one.at == here, one.at.split != "val"))


def _with_home_thresholds(
    scored: ScoredTarget, runs: Sequence[str], target: str, home: _HomeThresholds, here: _Set
) -> tuple[ScoredTarget, str]:
    """The target with each model's threshold from its site of training, and where that is."""
    known = [home[run, target] for run in runs if (run, target) in home]
    if len(known) < len(runs):
        return scored, "at the model's own threshold: no site of training is scored"
    chosen = [_threshold_for(some, here) for some in known]
    at = chosen[0].at
    note = THESE_IMAGES if at == here else f"threshold from {at.data_set}, {at.split}"
    values = tuple(one.value for one in chosen)
    return ScoredTarget(scored.labels, scored.scores, scored.patients, values), note


def figures_at_sites(
    cells: Sequence[ScoredCell], data_set: str, redraws: int
) -> Iterator[SiteFigures]:
    """What each cell reaches on its split: target by target, then of several targets the mean.

    Args:
        cells: what was scored.
        data_set: the study's data, on which models were trained that name no other set.
        redraws: how often the patients of a split are drawn.

    Raises:
        InputError: when an evaluation does not fit its data set any more.
    """
    seeds: dict[_Set, int] = {}
    home = _home_thresholds(cells, data_set)
    several = any(len(one.predictions.targets) > 1 for one in cells)
    for one in progress(cells, what="transfer between sites", public_unit="cells"):
        images, cell = one.images(), one.cell
        here = _Set(cell.data_set, cell.split)
        # patients of one split are drawn alike for all models, those of another anew
        seed = seeds.setdefault(here, len(seeds))
        columns, weights = redraws_of([row.patient_id for row in images.rows], seed, redraws)
        models = cell.key._replace(trained_on=trained_on_of(cell, data_set))
        by_target: list[SiteFigures] = []
        for index, target in enumerate(images.predictions.targets):
            known, _ = images.target(index, columns)
            decided, note = _with_home_thresholds(known, cell.runs, target, home, here)
            by_target.append(
                SiteFigures(
                    key=SiteKey(models, target, *here),
                    cell=cell,
                    parts={target: _figures(decided, weights)},
                    n_targets=1,
                    n_images=len(known.labels),
                    n_patients=np.unique(known.patients).size,
                    threshold_note=note,
                )
            )
        yield from by_target
        if several:
            yield _macro(by_target)


def _figures(scored: ScoredTarget, weights: NDArray[np.int64]) -> dict[Reached, Redrawn]:
    labels, patients = scored.labels, scored.patients
    decided = decision_measures(scored, weights)
    optimistic = at_youden(labels, scored.scores, patients, weights)
    return {
        "auroc": redrawn_auroc(labels, scored.scores, patients, weights),
        **{name: decided[name] for name in DECISIONS},
        "accuracy_optimistic": optimistic["accuracy"],
        "sensitivity_optimistic": optimistic["sensitivity"],
        "specificity_optimistic": optimistic["specificity"],
    }


def _macro(by_target: Sequence[SiteFigures]) -> SiteFigures:
    """The mean over the targets that have both classes."""
    both = [one for one in by_target if not math.isnan(one.auroc.value)]
    notes = {one.threshold_note for one in both}
    return SiteFigures(
        key=by_target[0].key._replace(target=MACRO),
        cell=by_target[0].cell,
        parts={one.key.target: one.parts[one.key.target] for one in both},
        n_targets=len(by_target),
        n_images=max(one.n_images for one in by_target),
        n_patients=max(one.n_patients for one in by_target),
        threshold_note=notes.pop() if len(notes) == 1 else "thresholds as of its targets",
    )
