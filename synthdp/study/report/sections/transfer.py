"""Sites side by side, and what is lost between them, as `transfer.html.j2` shows it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdp.errors import InputError
from synthdp.evaluation.metrics import MACRO
from synthdp.storage.paths import reason_of
from synthdp.study.compare.results import ResultRow, cell_key
from synthdp.study.compare.transfer.sites import DECISIONS
from synthdp.study.compare.transfer.table import (
    BELOW_CHANCE,
    ELSEWHERE,
    MAYBE_BELOW_CHANCE,
    TransferRow,
    transfer_of,
)


def transfer_section(
    study: Path,
    rows: Sequence[ResultRow],
    compared: Sequence[TransferRow] | None,
    *,
    asked: bool,
) -> dict[str, Any]:
    """Sites side by side, `compared` or read; `transfer.html.j2` shows them."""
    try:
        if compared is None:
            compared = transfer_of(study, rows, asked=asked)
    except InputError as error:
        if asked:
            raise
        return {"transfer": [], "transfer_problem": reason_of(error), "drops": []}
    return {
        "transfer": transfer_views(compared),
        "transfer_problem": "",
        "below_chance": sorted(filter(_is_below_chance, compared), key=_may_be_chance),
        "surely_below": sum(not _may_be_chance(row) for row in compared if _is_below_chance(row)),
        "drops": drop_views(compared),
        "decisions": DECISIONS,
    }


def _is_below_chance(row: TransferRow) -> bool:
    return any(words in row.note for words in (BELOW_CHANCE, MAYBE_BELOW_CHANCE))


def _may_be_chance(row: TransferRow) -> bool:
    return MAYBE_BELOW_CHANCE in row.note


@dataclass(frozen=True)
class TransferView:
    """The sites by one target, as `transfer.html.j2` shows them: cells with their figures."""

    target: str
    lines: Sequence[tuple[TransferRow, Mapping[str, TransferRow]]]


def transfer_views(rows: Sequence[TransferRow]) -> list[TransferView]:
    """The table by target, the mean over several first."""
    lines = transfer_lines(rows)
    targets = sorted(dict.fromkeys(row.target for row, _ in lines), key=lambda one: one != MACRO)
    return [
        TransferView(target, [line for line in lines if line[0].target == target])
        for target in targets
    ]


def transfer_lines(
    rows: Sequence[TransferRow],
) -> list[tuple[TransferRow, Mapping[str, TransferRow]]]:
    """The table as `transfer.html.j2` shows it: for each cell, target and split its figures.

    Of several sites of training the drop is that from the first.
    """
    lines: dict[tuple[object, ...], dict[str, TransferRow]] = {}
    for row in (row for row in rows if row.trained_on != ELSEWHERE):
        key = (row.target, cell_key(row), row.data_set, row.split)
        lines.setdefault(key, {}).setdefault(row.measure, row)
    shown = [(figures["auroc"], figures) for figures in lines.values()]
    strategies = list(dict.fromkeys(row.strategy for row, _ in shown))

    def order(line: tuple[TransferRow, Mapping[str, TransferRow]]) -> tuple[object, ...]:
        row, _ = line
        epsilon = row.epsilon if isinstance(row.epsilon, float) else math.inf
        recipe = (row.target, strategies.index(row.strategy), row.trained_on, epsilon, row.tuned)
        return *recipe, row.domain != "internal", row.data_set, row.split

    return sorted(shown, key=order)


def drop_views(rows: Sequence[TransferRow]) -> list[TransferView]:
    """The mean drops at each site by target, the mean over several first."""
    lines: dict[tuple[object, ...], dict[str, TransferRow]] = {}
    for row in (row for row in rows if row.trained_on == ELSEWHERE):
        key = (cell_key(row), row.data_set, row.split, row.target)
        lines.setdefault(key, {})[row.measure] = row
    shown = [(next(iter(figures.values())), figures) for figures in lines.values()]
    targets = sorted(dict.fromkeys(row.target for row, _ in shown), key=lambda one: one != MACRO)

    def order(line: tuple[TransferRow, Mapping[str, TransferRow]]) -> tuple[object, ...]:
        row, _ = line
        epsilon = row.epsilon if isinstance(row.epsilon, float) else math.inf
        return row.data_set, row.split, row.strategy, epsilon

    return [
        TransferView(
            target, sorted((line for line in shown if line[0].target == target), key=order)
        )
        for target in targets
    ]
