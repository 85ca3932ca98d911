"""All that a study's folder tells: its results, what they descend from, and attackers' odds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthdp.paths import without_paths
from synthdp.privacy.statement import Statement
from synthdp.study.compare.cells import Aggregate, aggregate
from synthdp.study.compare.results import ResultRow, read_results
from synthdp.study.record import StudyRecord, read_record
from synthdp.study.report.curve import Found


@dataclass(frozen=True)
class Results:
    """All that a study's folder tells: rows, rows over seeds, the record, and attackers' odds."""

    rows: Sequence[ResultRow]
    aggregates: Sequence[Aggregate]
    record: StudyRecord
    found: Found

    @property
    def title(self) -> str:
        """Of the study, free of paths."""
        return without_paths(self.record.facts.title)

    @property
    def strategies(self) -> list[str]:
        """As they come; their order decides mark and colour."""
        return list(dict.fromkeys(row.strategy for row in self.rows))

    @property
    def failed(self) -> list[ResultRow]:
        """One row for each cell of the grid that failed."""
        return list({row.cell: row for row in self.rows if row.state == "failed"}.values())


def read_study(study: Path) -> Results:
    """Read a study's folder.

    Raises:
        InputError: when it holds no readable results table.
    """
    rows = read_results(study / "results.csv")
    record, aggregates = read_record(study, rows), aggregate(rows)
    found = {row.runs: _found(row.runs, record.statements) for row in aggregates}
    return Results(rows, aggregates, record, found)


def _found(runs: Sequence[str], statements: Mapping[str, Statement]) -> float | None:
    """The share of members that the best attack finds at 1 % false alarms, worst over runs."""
    odds = [statements[run].odds.found_at_1_percent for run in runs if run in statements]
    return max(odds, default=None)
