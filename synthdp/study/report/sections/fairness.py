"""Groups of patients by attribute, as `fairness.html.j2` shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdp.errors import InputError
from synthdp.evaluation.metrics import MACRO
from synthdp.evaluation.settings import FairnessSettings
from synthdp.storage.paths import reason_of
from synthdp.study.compare.fairness import FairnessRow, fairness_of
from synthdp.study.compare.results import ResultRow, cell_key


def fairness_section(
    study: Path,
    rows: Sequence[ResultRow],
    asked: FairnessSettings | None,
    judged: Sequence[FairnessRow] | None,
) -> dict[str, Any]:
    """Groups by attribute, `judged` or read; `fairness.html.j2` shows them."""
    try:
        if judged is None:
            judged = fairness_of(study, rows, asked)
    except InputError as error:
        if asked is not None:
            raise
        return {"fairness": [], "fairness_problem": reason_of(error)}
    return {"fairness": fairness_views(judged), "fairness_problem": ""}


@dataclass(frozen=True)
class FairnessView:
    """One attribute, as `fairness.html.j2` shows it: groups as rows, and what lies between them.

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
    """The table by set, target and attribute, as a report shows it; means over targets first."""
    parts: dict[tuple[str, ...], list[FairnessRow]] = {}
    for row in rows:
        parts.setdefault((row.data_set, row.split, row.target, row.attribute), []).append(row)
    sets = list(dict.fromkeys(key[:2] for key in parts))
    in_order = sorted(parts, key=lambda key: (sets.index(key[:2]), key[2] != MACRO))
    return [_fairness_view(parts[key]) for key in in_order]


def _fairness_view(rows: Sequence[FairnessRow]) -> FairnessView:
    first = rows[0]
    lines: dict[tuple[object, ...], dict[str, FairnessRow]] = {}
    for row in (row for row in rows if row.epsilon != "all"):
        lines.setdefault((cell_key(row), row.group), {})[row.measure] = row
    shown = [(next(iter(figures.values())), figures) for figures in lines.values()]
    return FairnessView(
        title=f"{first.data_set}, {first.split}",
        attribute=first.attribute,
        target=first.target,
        thresholds=tuple(sorted({row.threshold for row in rows if row.threshold is not None})),
        groups=tuple(pair for pair in shown if pair[0].group),
        between=tuple(pair for pair in shown if not pair[0].group),
        through=tuple(row for row in rows if row.epsilon == "all"),
    )
