"""Comparisons of strategies, as `comparisons.html.j2` shows them, and what a difference says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from synthdp.evaluation.metrics import MACRO
from synthdp.privacy.units import CROSS_VALIDATED
from synthdp.study.compare.aurocs import ComparisonRow, Comparisons
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.thresholds import ThresholdRow
from synthdp.study.report.comparison_tables import SIGNIFICANT

Verdict = Literal[
    "won", "lost", "not told apart", "not tested", "not run yet", "no run", "no figure"
]


def verdict_of(row: ComparisonRow, cells: Sequence[Cell]) -> Verdict:
    """What a difference says, by the p-value that holds for all that it was tested with (Holm).

    Args:
        row: of the difference.
        cells: the two that it is of, those that the study has.
    """
    if row.value is None:
        waits = any(not cell.n_seeds and cell.n_not_run for cell in cells)
        return "not run yet" if waits else "no figure"
    if row.p_holm is None:
        return "not tested"
    if row.p_holm >= SIGNIFICANT:
        return "not told apart"
    return "won" if row.value > 0 else "lost"


@dataclass(frozen=True)
class ComparisonsView:
    """The comparisons on one evaluation set, as `comparisons.html.j2` shows them.

    `references` go by the name of the strategy that all others are compared with. `targets` has the
    same for each target, where there are several. `cross_validated`: models were scored on patients
    of other folds.
    """

    name: str
    means: tuple[ComparisonRow, ...]
    without_privacy: tuple[ComparisonRow, ...]
    references: Mapping[str, tuple[ComparisonRow, ...]]
    thresholds: tuple[ThresholdRow, ...]
    targets: tuple["ComparisonsView", ...] = ()
    cross_validated: bool = False


def comparison_views(comparisons: Comparisons) -> list[ComparisonsView]:
    """The comparisons of a study, by evaluation set in the order of the tables."""
    sets = dict.fromkeys((row.data_set, row.split) for row in comparisons.aurocs)
    return [_compared(comparisons, *names) for names in sets]


def _compared(comparisons: Comparisons, data_set: str, split: str) -> ComparisonsView:
    here = [row for row in comparisons.aurocs if (row.data_set, row.split) == (data_set, split)]
    targets = dict.fromkeys(row.target for row in here if row.target not in ("", MACRO))
    decided = [
        row for row in comparisons.thresholds if (row.data_set, row.split) == (data_set, split)
    ]
    return replace(
        _comparisons(f"{data_set}, {split}", [row for row in here if row.target in ("", MACRO)]),
        thresholds=tuple(decided),
        cross_validated=split == CROSS_VALIDATED,
        targets=tuple(
            _comparisons(target, [row for row in here if row.target == target])
            for target in targets
        ),
    )


def _comparisons(name: str, here: Sequence[ComparisonRow]) -> ComparisonsView:
    """The rows of one set and target."""
    against = [row for row in here if row.kind == "reference"]
    return ComparisonsView(
        name,
        tuple(row for row in here if row.kind == "mean"),
        tuple(row for row in here if row.kind == "without_privacy"),
        {
            name: tuple(row for row in against if row.against == name)
            for name in dict.fromkeys(row.against for row in against)
        },
        (),
    )
