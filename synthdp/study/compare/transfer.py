"""Do models hold at other sites? `transfer.csv`: internal against external, by epsilon.

After arXiv 2306.06503: models trained at one site are scored there and elsewhere. Models scored on
the same images are compared on the same redraws of the patients (paired); scores of one model at
two sites are of different patients, so each site is redrawn by itself (unpaired). Targets go by
their names: each has its rows, and `macro` their plain mean over those with both classes. Where two
sides of a difference have other targets, it is of those that they share.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import open_dataset
from synthdp.evaluation.groups import decision_measures
from synthdp.evaluation.metrics import MACRO
from synthdp.evaluation.operating_point import at_youden, youden_threshold
from synthdp.evaluation.predictions import ScoredTarget
from synthdp.evaluation.uncertainty.differences import benjamini_hochberg
from synthdp.evaluation.uncertainty.intervals import Redrawn, redrawn_auroc, redraws_of
from synthdp.machine.progress import progress
from synthdp.stages import crosses_grid
from synthdp.storage.files import write_atomic
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.drops import paired_t
from synthdp.study.compare.predictions import (
    ScoredCell,
    has_evaluations,
    kept_or_compared,
    scored_cells,
)
from synthdp.study.compare.results import (
    CellKey,
    CellRow,
    ResultRow,
    read_rows,
    rounded_rows,
    table_csv,
)
from synthdp.study.settings import EvaluateOn, StudySettings, seen_from

TRANSFER_FILE = "transfer.csv"

Decision: TypeAlias = Literal["accuracy", "sensitivity", "specificity"]
Measure: TypeAlias = Literal[
    "auroc",
    Decision,
    "accuracy_optimistic",
    "sensitivity_optimistic",
    "specificity_optimistic",
    "privacy_loss",
    "external_drop",
    "off_site_loss",
    "off_site_loss_paper",
    "off_site_loss_change",
    "mean_off_site_loss",
    "mean_off_site_loss_paper",
    "mean_off_site_privacy_loss",
    "mean_off_site_privacy_loss_cells",
]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
Domain: TypeAlias = Literal["internal", "external", "mixed"]

#: The training set of a mean over models that were trained elsewhere.
ELSEWHERE = "every other site"
_REVERSED = "scores rank the other way round here, so its labels may mean other things"
BELOW_CHANCE = f"below .5: {_REVERSED}"
MAYBE_BELOW_CHANCE = f"below .5, though not surely: if so, {_REVERSED}"
THESE_IMAGES = "threshold chosen on these very images: optimistic"


class TransferRow(CellRow):
    """One figure of models that were trained on one set and scored on another, or on its own.

    `domain` is internal where they were trained on the site that they are scored at, and mixed
    where on a part of it. `target` is `macro` for the mean over several.

    - `accuracy`, `sensitivity`, `specificity`: at each model's threshold of Youden's index at the
      site of training, which `note` names; those `_optimistic` at that of the images scored, as the
      paper has them.

    A difference is of AUROCs, positive where something is lost:

    - `privacy_loss`: without privacy minus this, the same recipe on the same images;
    - `external_drop`: at the site of training minus here, the same models;
    - `off_site_loss`: trained here minus this, the same recipe on the same images;
    - `off_site_loss_paper`: trained here *without privacy* minus this: the paper's drop;
    - `off_site_loss_change`: the `off_site_loss` at this epsilon minus that without privacy;
    - `mean_off_site_loss`, `mean_off_site_loss_paper`: the means over the sites of training, whose
      `trained_on` is `every other site`;
    - `mean_off_site_privacy_loss`: the mean `privacy_loss` of models trained elsewhere, which is by
      how much the paper's drop with privacy exceeds that without; `..._cells`: the same with the
      paper's test, a paired t over sites and findings.

    `p_value` is two-sided, by bootstrap over patients except for that last test; `p_adjusted` the
    same after Benjamini and Hochberg over all rows of the measure (`Redrawn.p_value`,
    `benjamini_hochberg`).
    """

    domain: Domain
    target: str
    measure: Measure
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    n_images: int
    n_patients: int
    note: str = ""


def domain_of(trained_on: str, scored_on: str) -> Domain:
    """Whether models meet the site that they were trained at: by the names of both.

    Args:
        trained_on: a set, `clinic`, or a part of one, `clinic (site A)`; empty for none.
        scored_on: likewise.
    """
    if trained_on == scored_on or (trained_on and scored_on.startswith(f"{trained_on} (")):
        return "internal"
    return "mixed" if trained_on.startswith(f"{scored_on} (") else "external"


class _Key(NamedTuple):
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
_Figures: TypeAlias = Mapping[Measure, Redrawn]


@dataclass(frozen=True, eq=False)
class _ScoredAt:
    """The models of one cell on one split, for one target or the mean over several.

    `parts` goes by the targets that have both classes here, or is of the one that there is; means
    over seeds with their redraws. `n_targets` is of how many targets the mean could be. `n_images`
    and `n_patients` are those whose target is known; `threshold_note` says where thresholds are
    from.
    """

    key: _Key
    cell: Cell
    parts: Mapping[str, _Figures]
    n_targets: int
    n_images: int
    n_patients: int
    threshold_note: str

    @property
    def domain(self) -> Domain:
        return domain_of(self.key.models.trained_on, self.key.data_set)

    @property
    def private(self) -> bool:
        return self.cell.epsilon is not None

    def figure(self, measure: Measure) -> Redrawn:
        """A figure, of several targets their mean; nan where there is none."""
        return _mean([part[measure] for part in self.parts.values()])

    @cached_property
    def auroc(self) -> Redrawn:
        return self.figure("auroc")

    @property
    def over_words(self) -> str:
        """Of which targets a mean is, where some are left out."""
        if self.key.target != MACRO or len(self.parts) == self.n_targets:
            return ""
        return f"mean over {', '.join(self.parts) or 'no target'}: others have one class alone"


_NO_FIGURE = Redrawn(math.nan, np.full(1, math.nan))


def _mean(figures: Sequence[Redrawn]) -> Redrawn:
    return Redrawn.mean(figures) if figures else _NO_FIGURE


def _shared(one: _ScoredAt, other: _ScoredAt) -> list[str]:
    return [target for target in one.parts if target in other.parts]


def _minus(one: _ScoredAt, other: _ScoredAt) -> Redrawn:
    """The AUROC of one less that of another, over the targets that both have."""
    return _mean(
        [
            one.parts[target]["auroc"].minus(other.parts[target]["auroc"])
            for target in _shared(one, other)
        ]
    )


def transfer_table(
    cells: Iterable[ScoredCell], data_set: str, *, redraws: int = 2000
) -> list[TransferRow]:
    """The table of a study's models.

    Args:
        cells: what was scored.
        data_set: the study's data, on which models were trained that name no other set.
        redraws: how often the patients of a split are drawn.

    Raises:
        InputError: when an evaluation is damaged, or does not fit its data set any more.
    """
    scored = list(_scored(list(cells), data_set, redraws))
    table = {one.key: one for one in scored}
    of_cells = [row for one in scored for row in _rows(one, table)]
    return _adjusted([*of_cells, *_mean_rows(scored, table)])


# What models reach, with thresholds from where they were trained.


@dataclass(frozen=True)
class _HomeThreshold:
    """Youden's threshold of one model for one target, on a split of its site of training."""

    at: _Set
    value: float


#: By run and target, on each split of the site of training that was scored.
_HomeThresholds: TypeAlias = Mapping[tuple[str, str], Sequence[_HomeThreshold]]


def trained_on_of(cell: Cell, data_set: str) -> str:
    """What models were trained on, `data_set` where none is named; empty where they met no site."""
    return cell.trained_on or (data_set if crosses_grid(cell.strategy) else "")


def _home_thresholds(cells: Sequence[ScoredCell], data_set: str) -> _HomeThresholds:
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


def _scored(cells: Sequence[ScoredCell], data_set: str, redraws: int) -> Iterator[_ScoredAt]:
    """Each cell by target, then of several targets by their mean."""
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
        by_target: list[_ScoredAt] = []
        for index, target in enumerate(images.predictions.targets):
            known, _ = images.target(index, columns)
            decided, note = _with_home_thresholds(known, cell.runs, target, home, here)
            by_target.append(
                _ScoredAt(
                    key=_Key(models, target, *here),
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


def _figures(scored: ScoredTarget, weights: NDArray[np.int64]) -> dict[Measure, Redrawn]:
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


def _macro(by_target: Sequence[_ScoredAt]) -> _ScoredAt:
    """The mean over the targets that have both classes."""
    both = [one for one in by_target if not math.isnan(one.auroc.value)]
    notes = {one.threshold_note for one in both}
    return _ScoredAt(
        key=by_target[0].key._replace(target=MACRO),
        cell=by_target[0].cell,
        parts={one.key.target: one.parts[one.key.target] for one in both},
        n_targets=len(by_target),
        n_images=max(one.n_images for one in by_target),
        n_patients=max(one.n_patients for one in by_target),
        threshold_note=notes.pop() if len(notes) == 1 else "thresholds as of its targets",
    )


# Rows: what models of one cell reach, and what they lose.

_Table: TypeAlias = Mapping[_Key, _ScoredAt]


def _rows(one: _ScoredAt, table: _Table) -> Iterator[TransferRow]:
    """The figures of some models, and each loss for which the other side is in the table."""
    yield _row(one, "auroc", one.auroc, note=_auroc_note(one))
    for name in DECISIONS:
        yield _row(one, name, one.figure(name), note=one.threshold_note)
    for measure in _OPTIMISTIC:
        yield _row(one, measure, one.figure(measure), note=THESE_IMAGES)
    free = _free(one, table)
    if free is not None:
        yield _loss_row(one, "privacy_loss", free, one)
    if one.domain != "external":
        return
    for home in _homes(one, table):
        where = f"from {home.cell.data_set}, {home.cell.split}, unpaired"
        yield _loss_row(one, "external_drop", home, one, note=where)
    local = _local(one, table)
    if local is None:
        return
    yield _loss_row(one, "off_site_loss", local, one)
    free_local = _free(local, table)
    if free is None or free_local is None:
        return
    yield _loss_row(one, "off_site_loss_paper", free_local, one)
    change = _minus(local, one).minus(_minus(free_local, free))
    yield _row(one, "off_site_loss_change", change, note="paired")


_OPTIMISTIC: tuple[Measure, ...] = (
    "accuracy_optimistic",
    "sensitivity_optimistic",
    "specificity_optimistic",
)


def _auroc_note(one: _ScoredAt) -> str:
    """What a reader has to know of an AUROC: what it leaves out, and that it is below chance."""
    notes = [one.over_words] if one.over_words else []
    if one.domain == "external" and one.auroc.value < 0.5:
        surely = one.auroc.interval().ci_high < 0.5
        notes.append(BELOW_CHANCE if surely else MAYBE_BELOW_CHANCE)
    return "; ".join(notes)


def _free(one: _ScoredAt, table: _Table) -> _ScoredAt | None:
    """The same recipe without privacy on the same images; None where it is without already."""
    if not one.private:
        return None
    return table.get(one.key._replace(models=one.key.models._replace(epsilon=None)))


def _homes(one: _ScoredAt, table: _Table) -> list[_ScoredAt]:
    """The same models at the site of training: on splits of the same name, where there are any."""
    homes = [
        other
        for key, other in table.items()
        if key[:2] == one.key[:2] and other.domain == "internal"
    ]
    return [other for other in homes if other.key.split == one.key.split] or homes


def _local(one: _ScoredAt, table: _Table) -> _ScoredAt | None:
    """The models of the same recipe that were trained on this very set, where there are any."""
    models = one.key.models._replace(trained_on=one.cell.data_set)
    return table.get(one.key._replace(models=models))


def _loss_row(
    one: _ScoredAt, measure: Measure, first: _ScoredAt, second: _ScoredAt, *, note: str = "paired"
) -> TransferRow:
    """The AUROC of the first less that of the second, as a row about `one`."""
    shared = _shared(first, second)
    if one.key.target == MACRO and len(shared) < max(first.n_targets, second.n_targets):
        note += f", over {', '.join(shared) or 'no target that both have'}"
    return _row(one, measure, _minus(first, second), note=note)


def _row(one: _ScoredAt, measure: Measure, figure: Redrawn, *, note: str = "") -> TransferRow:
    tested = measure.endswith(("_loss", "_drop", "_paper", "_change"))
    p_value = figure.p_value() if tested else math.nan
    return TransferRow.model_validate(
        {
            **one.cell.columns,
            **figure.interval().to_json(),
            "trained_on": one.key.models.trained_on,
            "domain": one.domain,
            "target": one.key.target,
            "measure": measure,
            "p_value": None if math.isnan(p_value) else p_value,
            "n_images": one.n_images,
            "n_patients": one.n_patients,
            "note": "one class alone" if math.isnan(figure.value) else note,
        }
    )


# Means over the sites of training: the drop at a site, as the paper has it and as we have it.


def _mean_rows(scored: Sequence[_ScoredAt], table: _Table) -> Iterator[TransferRow]:
    """The drops at each site that models of two other sites at least were brought to."""
    groups: dict[_Key, list[_ScoredAt]] = {}
    for one in scored:
        local = _local(one, table)
        if one.domain == "external" and local is not None and _shared(local, one):
            key = one.key._replace(models=one.key.models._replace(trained_on=ELSEWHERE))
            groups.setdefault(key, []).append(one)
    for key, models in groups.items():
        if len(models) > 1:
            yield from _mean_rows_at(key, models, table)


def _mean_rows_at(key: _Key, models: Sequence[_ScoredAt], table: _Table) -> Iterator[TransferRow]:
    """The drops at one site, of one recipe at one epsilon."""
    first, sites = models[0], ", ".join(one.key.models.trained_on for one in models)
    note = f"mean over {len(models)} sites of training: {sites}"

    def row(measure: Measure, figures: Sequence[Redrawn], note: str = note) -> TransferRow:
        about = {"trained_on": ELSEWHERE, "n_seeds": min(one.cell.n_seeds for one in models)}
        return _row(first, measure, _mean(figures), note=note).model_copy(update=about)

    pairs = [(local, one) for one in models if (local := _local(one, table)) is not None]
    yield row("mean_off_site_loss", [_minus(local, one) for local, one in pairs])
    frees = [(free, one) for one in models if (free := _free(one, table)) is not None]
    local_free = _free(pairs[0][0], table)
    if local_free is None or len(frees) < len(models):
        return
    yield row("mean_off_site_loss_paper", [_minus(local_free, one) for one in models])
    lost = row("mean_off_site_privacy_loss", [_minus(free, one) for free, one in frees])
    yield lost
    cells = [
        (free.parts[target]["auroc"].value, one.parts[target]["auroc"].value)
        for free, one in frees
        for target in _shared(free, one)
    ]
    p_value = paired_t(*np.array(cells, dtype=np.float64).reshape(-1, 2).T)
    yield lost.model_copy(
        update={
            "measure": "mean_off_site_privacy_loss_cells",
            "p_value": None if math.isnan(p_value) else p_value,
            "note": f"the paper's paired t over {len(cells)} cells, sites by findings, which share "
            "patients and models",
        }
    )


def _adjusted(rows: Sequence[TransferRow]) -> list[TransferRow]:
    """The rows with p-values for many comparisons, measure by measure."""
    adjusted: dict[int, float] = {}
    for measure in {row.measure for row in rows}:
        tested = {
            index: row.p_value
            for index, row in enumerate(rows)
            if row.measure == measure and row.p_value is not None
        }
        adjusted |= dict(zip(tested, benjamini_hochberg([*tested.values()]), strict=True))
    return [
        row.model_copy(update={"p_adjusted": adjusted.get(index)}) for index, row in enumerate(rows)
    ]


def compares_sites(settings: StudySettings) -> bool:
    """Whether a study asks for the table: by `transfer`, or by several evaluation sets."""
    return settings.transfer is not None or len(settings.evaluation_sets) > 1


def compare_sites(
    study: Path, rows: Sequence[ResultRow], evaluated_on: Sequence[EvaluateOn], data: Path
) -> list[TransferRow]:
    """Compare the models of a study across sites, and write `transfer.csv`; gives its rows.

    Args:
        study: the study's folder; a released one has no predictions, and so no table.
        rows: its results.
        evaluated_on: what its models were scored on.
        data: the study's data set.

    Raises:
        InputError: when an evaluation is damaged.
    """
    if not has_evaluations(study):
        return []
    cells = list(scored_cells(study, rows, evaluated_on))
    name = open_dataset(seen_from(study, data)).info.name
    compared = transfer_table(cells, name)
    write_transfer(study / TRANSFER_FILE, compared)
    return compared


def transfer_of(
    study: Path, rows: Sequence[ResultRow], *, asked: bool = False
) -> list[TransferRow]:
    """The table of a study with these results, as `kept_or_compared` gives it."""
    return kept_or_compared(
        study,
        TRANSFER_FILE,
        read_transfer,
        lambda settings: compare_sites(study, rows, settings.evaluation_sets, settings.data),
        asked=asked,
        wanted=compares_sites,
    )


def write_transfer(path: Path, rows: Sequence[TransferRow]) -> None:
    """Write `transfer.csv`, atomically."""
    write_atomic(path, table_csv(TransferRow, rounded_rows(rows)))


def read_transfer(path: Path) -> list[TransferRow]:
    """Read `transfer.csv`.

    Raises:
        InputError: when it is missing or damaged.
    """
    return read_rows(path, TransferRow, remedy="`synthdp report`")
