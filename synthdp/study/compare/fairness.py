"""The fairness of a study's models: `fairness.csv`, from predictions and the manifests' columns."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from synthdp.config import load_settings
from synthdp.errors import InputError
from synthdp.evaluation.fairness import (
    FairnessFigure,
    FairnessSettings,
    Judgement,
    epsilon_correlation,
    figures,
    judgements,
    panel_of,
)
from synthdp.files import write_atomic
from synthdp.study.compare.predictions import ScoredCell, refuse_other_images, scored_cells
from synthdp.study.compare.results import ResultRow, StudyCell, read_table, table_csv
from synthdp.study.settings import StudySettings

FAIRNESS_FILE = "fairness.csv"

_Key: TypeAlias = tuple[str, ...]


class FairnessRow(FairnessFigure, StudyCell):
    """One figure of `fairness.csv`."""


def judge_study(settings: FairnessSettings, cells: Iterable[ScoredCell]) -> list[FairnessRow]:
    """Judge the models of a study, each cell by the mean over its seeds.

    Raises:
        InputError: when an evaluation is damaged, does not fit its data set any more, or was made
            of other images than the others on its split.
    """
    by_place = groupby(cells, key=lambda one: (one.cell.data_set, one.cell.split))
    return [row for _, found in by_place for row in _judge_place(settings, list(found))]


def _judge_place(settings: FairnessSettings, cells: Sequence[ScoredCell]) -> Iterator[FairnessRow]:
    """Judge all models that were scored on one split, on the same redraws."""
    rows: dict[_Key, list[FairnessRow]] = {}
    free: dict[_Key, Judgement] = {}
    refuse_other_images(cells)
    panel = panel_of(cells[0].images(), settings)
    for one in sorted(cells, key=lambda one: one.cell.epsilon is not None):  # no privacy first
        images, cell = one.images(), one.cell
        for attribute, index, judgement in judgements(images, panel):
            target = images.targets[index]
            key = (cell.strategy, cell.tuned, cell.trained_on, attribute, target)
            if cell.epsilon is None:
                free[key] = judgement
            found = figures(
                judgement,
                target=target,
                attribute=attribute,
                threshold=images.threshold(index),
                without_privacy=None if cell.epsilon is None else free.get(key),
            )
            rows.setdefault(key, []).extend(
                FairnessRow.model_validate({**cell.model_dump(), **figure.model_dump()})
                for figure in found
            )
    for found_rows in rows.values():
        yield from sorted(found_rows, key=_none_last)
        yield from _through_epsilons(found_rows)


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
        found = epsilon_correlation(parities, fewest)
        yield FairnessRow.model_validate({**found.model_dump(), "epsilon": "all"})


def write_fairness(path: Path, rows: Sequence[FairnessRow]) -> None:
    """Write `fairness.csv`, atomically."""
    write_atomic(path, table_csv(FairnessRow, rows, decimals=6))


def read_fairness(path: Path) -> list[FairnessRow]:
    """Read `fairness.csv`.

    Raises:
        InputError: when it is missing or damaged.
    """
    return read_table(path, FairnessRow, remedy="`synthdp report`")


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
    config = study / "config.yaml"
    if not config.is_file() or not (study / "evaluations").is_dir():
        if asked is not None:
            raise InputError(f"fairness: {study.name} holds no evaluations to judge")
        return []
    settings = load_settings(StudySettings, config)
    by = asked or settings.fairness
    if by is None:
        return []
    found = judge_study(by, scored_cells(study, rows, settings.evaluation_sets))
    write_fairness(path, found)
    return found


@dataclass(frozen=True)
class FairnessView:
    """What a report shows of one attribute: groups as rows, and what lies between them.

    `groups` and `between` go by strategy, epsilon and (for groups) name: a row of the table that
    says which, and its figures by measure. `through` has the figures through all epsilons.
    """

    title: str
    attribute: str
    target: str
    thresholds: tuple[float, ...]
    groups: tuple[tuple[FairnessRow, Mapping[str, FairnessRow]], ...]
    between: tuple[tuple[FairnessRow, Mapping[str, FairnessRow]], ...]
    through: tuple[FairnessRow, ...]


def fairness_views(rows: Sequence[FairnessRow]) -> list[FairnessView]:
    """The table by set, target and attribute, as a report shows it."""
    parts: dict[tuple[str, ...], list[FairnessRow]] = {}
    for row in rows:
        parts.setdefault((row.data_set, row.split, row.target, row.attribute), []).append(row)
    return [_view(found) for found in parts.values()]


def _view(rows: Sequence[FairnessRow]) -> FairnessView:
    first = rows[0]
    lines: dict[tuple[object, ...], dict[str, FairnessRow]] = {}
    for row in (row for row in rows if row.epsilon != "all"):
        key = (row.strategy, row.trained_on, row.tuned, row.epsilon, row.group)
        lines.setdefault(key, {})[row.measure] = row
    shown = [(next(iter(found.values())), found) for found in lines.values()]
    return FairnessView(
        title=f"{first.data_set}, {first.split}",
        attribute=first.attribute,
        target=first.target,
        thresholds=tuple(sorted({row.threshold for row in rows if row.threshold is not None})),
        groups=tuple(pair for pair in shown if pair[0].group),
        between=tuple(pair for pair in shown if not pair[0].group),
        through=tuple(row for row in rows if row.epsilon == "all"),
    )
