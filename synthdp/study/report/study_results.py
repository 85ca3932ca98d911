"""All that a study's folder tells, read and compared once for page, tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from synthdp.errors import InputError
from synthdp.storage.paths import without_paths
from synthdp.study.compare.aurocs import Comparisons, compare_study, refuse_unfit_plan
from synthdp.study.compare.cells import Cell, cells_by_set
from synthdp.study.compare.cited import with_cited_intervals
from synthdp.study.compare.results import ResultRow, headline_rows, rows_by_target
from synthdp.study.compared import ComparePlan
from synthdp.study.record import StudyRecord, read_record
from synthdp.study.report.settings import ReportSettings
from synthdp.study.report.summary import MembersFound


@dataclass(frozen=True)
class StudyResults:
    """All that a study's folder tells: its results, how they compare, what they descend from.

    every_row: of `results.csv`, those of each target too.
    """

    every_row: Sequence[ResultRow]
    record: StudyRecord
    comparisons: Comparisons

    @cached_property
    def rows(self) -> list[ResultRow]:
        """One row for each model and split."""
        return headline_rows(self.every_row)

    @cached_property
    def cells(self) -> list[Cell]:
        """The results over seeds, each with the interval to cite."""
        return with_cited_intervals(cells_by_set(self.rows), self.comparisons.aurocs)

    @cached_property
    def cells_by_target(self) -> list[Cell]:
        """The same by each target, where there are several."""
        return cells_by_set(rows_by_target(self.every_row))

    @cached_property
    def members_found(self) -> MembersFound:
        """The share of members that the best attack finds at 1 % false alarms, worst over runs."""
        odds = {run: stated.odds for run, stated in self.record.statements.items()}
        return {
            cell.runs: max(
                (odds[run].found_at_1_percent for run in cell.runs if run in odds), default=None
            )
            for cell in self.cells
        }

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
        """One row for each model that failed."""
        return list({row.model: row for row in self.rows if row.state == "failed"}.values())


def study_results(settings: ReportSettings, rows: Sequence[ResultRow]) -> StudyResults:
    """What a study's folder tells, compared as its settings or those of the report ask.

    Raises:
        InputError: when the tables of a released study can't be read, or the study has not what the
            report's settings compare.
    """
    record, models = read_record(settings.study, rows), headline_rows(rows)
    plan = _plan(record, settings.compare)
    if settings.compare is not None:
        refuse_unfit_plan(settings.study, models, plan)
    return StudyResults(rows, record, compare_study(settings.study, models, plan))


def _plan(record: StudyRecord, asked: ComparePlan | None) -> ComparePlan:
    """What is compared: what the study registered in any case."""
    plan = asked or record.facts.compare
    if not record.registered:
        return plan
    if asked is not None and asked.primary not in (None, record.registered):
        raise InputError(
            "compare.primary: the study was started with its own, which were registered by that "
            "and stay; leave it out, and compare others by compare.reference"
        )
    return plan.model_copy(update={"primary": record.registered})
