"""The fairness of a study's models: `fairness.csv`, from predictions and the manifests' columns."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from synthdp.errors import InputError
from synthdp.evaluation.fairness import (
    FairnessFigure,
    differences_from_others,
    epsilon_accuracy_correlation,
    epsilon_correlation,
    figures,
    finding_correlations,
    wholes,
)
from synthdp.evaluation.groups import JudgedGroup, Judgement, judgements, panel_of
from synthdp.evaluation.settings import FairnessSettings
from synthdp.evaluation.uncertainty.intervals import Redrawn
from synthdp.machine.progress import progress
from synthdp.storage.files import write_atomic
from synthdp.study.compare.predictions import (
    ScoredCell,
    compared_settings,
    has_evaluations,
    refuse_other_images,
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
from synthdp.study.sets import EvaluateOn

FAIRNESS_FILE = "fairness.csv"


class FairnessRow(FairnessFigure, CellRow):
    """One figure of `fairness.csv`."""


def fairness_rows(settings: FairnessSettings, cells: Iterable[ScoredCell]) -> list[FairnessRow]:
    """Judge the models of a study, each cell by the mean over its seeds.

    Raises:
        InputError: when an evaluation is damaged, does not fit its data set any more, or was made
            of other images than the others on its split.
    """
    by_split = groupby(cells, key=lambda one: (one.cell.data_set, one.cell.split))
    return [row for _, group in by_split for row in _rows_on_one_split(settings, list(group))]


#: What all epsilons of a recipe share: its cell without privacy, the attribute and the target.
_Recipe: TypeAlias = tuple[CellKey, str, str]


def _rows_on_one_split(
    settings: FairnessSettings, cells: Sequence[ScoredCell]
) -> Iterator[FairnessRow]:
    """Judge all models that were scored on one split, on the same redraws."""
    rows: dict[_Recipe, list[FairnessRow]] = {}
    # Cells without privacy come first, so that each recipe's judgement without it is at hand when
    # its cells at epsilons ask for what privacy costs them.
    free: dict[_Recipe, Judgement] = {}
    all_images: dict[CellKey, Mapping[str, JudgedGroup]] = {}
    accuracies: dict[_Recipe, _AtEpsilons] = {}
    refuse_other_images(cells)
    panel = panel_of(cells[0].images(), settings)
    in_order = sorted(cells, key=lambda one: one.cell.epsilon is not None)
    for one in progress(in_order, what="fairness", public_unit="cells"):
        cell = one.cell
        key, judged = cell.key._replace(epsilon=None), list(judgements(one.images(), panel))
        of_cell: list[FairnessFigure] = []
        for judgement in judged:
            recipe = key, judgement.attribute, judgement.target
            without = None
            if cell.epsilon is None:
                free[recipe] = judgement
            else:
                without = free.get(recipe)
                at_epsilon = differences_from_others(judgement, "accuracy")
                accuracies.setdefault(recipe, {})[cell.epsilon] = at_epsilon
            of_cell += figures(judgement, without_privacy=without)
        if cell.epsilon is None:
            all_images[key] = wholes(judged)
            of_cell += finding_correlations(wholes(judged))
        else:
            of_cell += finding_correlations(wholes(judged), all_images.get(key))
        for figure in of_cell:
            row = FairnessRow.model_validate({**cell.columns, **figure.model_dump()})
            rows.setdefault((key, figure.attribute, figure.target), []).append(row)
    for recipe, of_recipe in rows.items():
        yield from sorted(of_recipe, key=_none_last)
        yield from _through_epsilons(of_recipe)
        yield from _accuracy_through_epsilons(of_recipe, accuracies.get(recipe, {}))


def _none_last(row: FairnessRow) -> float:
    return row.epsilon if isinstance(row.epsilon, float) else math.inf


def _through_epsilons(rows: Sequence[FairnessRow]) -> Iterator[FairnessRow]:
    """The correlation of epsilon and parity, where a recipe has rows at epsilons."""
    parities = {
        row.epsilon: row
        for row in rows
        if row.measure == "statistical_parity_difference" and isinstance(row.epsilon, float)
    }
    if parities:
        fewest = min(parities.values(), key=lambda row: row.n_seeds)
        correlation = epsilon_correlation(parities, fewest)
        yield FairnessRow.model_validate({**correlation.model_dump(), "epsilon": "all"})


#: By epsilon and name of a group: its accuracy less that of the others.
_AtEpsilons: TypeAlias = dict[float, Mapping[str, Redrawn]]


def _accuracy_through_epsilons(
    rows: Sequence[FairnessRow], at: _AtEpsilons
) -> Iterator[FairnessRow]:
    """The correlation of epsilon and each group's difference; of two groups the first's alone,
    since the other's is the same with its sign turned."""
    of_groups: dict[str, list[FairnessRow]] = {}
    for row in rows:
        if row.measure == "accuracy_difference_paper" and isinstance(row.epsilon, float):
            of_groups.setdefault(row.group, []).append(row)
    known = [name for name in of_groups if any(name in groups for groups in at.values())]
    for name in known[:1] if len(known) == 2 else known:
        differences = {epsilon: groups[name] for epsilon, groups in at.items() if name in groups}
        fewest = min(of_groups[name], key=lambda row: row.n_seeds)
        figure = epsilon_accuracy_correlation(differences, fewest)
        yield FairnessRow.model_validate({**figure.model_dump(), "epsilon": "all"})


def write_fairness(path: Path, rows: Sequence[FairnessRow]) -> None:
    """Write `fairness.csv`, atomically."""
    write_atomic(path, table_csv(FairnessRow, rounded_rows(rows)))


def read_fairness(path: Path) -> list[FairnessRow]:
    """Read `fairness.csv`.

    Raises:
        InputError: when it is missing or damaged.
    """
    return read_rows(path, FairnessRow, remedy="`synthdp report`")


def judge_study(
    study: Path,
    rows: Sequence[ResultRow],
    evaluated_on: Sequence[EvaluateOn],
    settings: FairnessSettings,
) -> list[FairnessRow]:
    """Judge the models of a study by groups, and write `fairness.csv`; gives its rows.

    Args:
        study: the study's folder; a released one has no predictions.
        rows: its results.
        evaluated_on: what its models were scored on.
        settings: by which columns.

    Raises:
        InputError: when there are no evaluations, one is damaged, or what is asked for does not
            fit.
    """
    if not has_evaluations(study):
        raise _nothing_to_judge(study)
    judged = fairness_rows(settings, scored_cells(study, rows, evaluated_on))
    write_fairness(study / FAIRNESS_FILE, judged)
    return judged


def _nothing_to_judge(study: Path) -> InputError:
    return InputError(f"fairness: {study.name} holds no evaluations to judge")


def fairness_of(
    study: Path, rows: Sequence[ResultRow], asked: FairnessSettings | None = None
) -> list[FairnessRow]:
    """The fairness table of a study: as it stands, or judged and written when it does not.

    Args:
        study: the study's folder; a released one has no predictions, and so no table.
        rows: its results.
        asked: judge by this, whatever stands; None for the study's own setting.

    Raises:
        InputError: when a table or an evaluation is damaged, or what is asked for does not fit.
    """
    path = study / FAIRNESS_FILE
    if asked is None and path.is_file():
        return read_fairness(path)
    settings = compared_settings(study)
    if settings is None:
        if asked is not None:
            raise _nothing_to_judge(study)
        return []
    by = asked or settings.fairness
    return [] if by is None else judge_study(study, rows, settings.evaluation_sets, by)
