"""What a study's runs say when they are compared: read, worked out and written as tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synthdp.errors import InputError
from synthdp.files import write_atomic
from synthdp.study.compare import ResultRow
from synthdp.study.comparison_plan import ComparePlan, unknown_reference
from synthdp.study.comparisons import ComparisonRow, compare_recipes
from synthdp.study.recipes import sets_of
from synthdp.study.tables import read_table, table_csv
from synthdp.study.thresholds import ThresholdRow, threshold_rows

COMPARISONS_FILE, THRESHOLDS_FILE = "comparisons.csv", "thresholds.csv"


@dataclass(frozen=True)
class Findings:
    """The comparisons of a study, and its recipes at fixed thresholds (none without a setting)."""

    comparisons: tuple[ComparisonRow, ...]
    thresholds: tuple[ThresholdRow, ...]

    def of_kind(self, data_set: str, split: str, kind: str) -> list[ComparisonRow]:
        """The comparisons of one kind on one split."""
        return [
            row
            for row in self.comparisons
            if (row.data_set, row.split, row.kind) == (data_set, split, kind)
        ]


def find(study: Path, rows: Sequence[ResultRow], plan: ComparePlan) -> Findings:
    """Compare the runs of a study; a released study, which has no predictions, as it was compared.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        plan: what is compared.

    Raises:
        InputError: when the tables of a released study can't be read.
    """
    if not (study / "evaluations").is_dir():
        return read_findings(study)
    return Findings(
        tuple(compare_recipes(study, rows, plan)), tuple(threshold_rows(study, rows, plan))
    )


def refuse_unfit_plan(study: Path, rows: Sequence[ResultRow], plan: ComparePlan) -> None:
    """Refuse a comparison that a finished study has nothing for.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        plan: what is to be compared anew.

    Raises:
        InputError: when it has no predictions, since it was released, no strategy of a name of
            `reference`, or no such split to fix thresholds on.
    """
    if not (study / "evaluations").is_dir():
        raise InputError(
            "compare: the study has no evaluations beside it, so that nothing can be compared "
            "anew; report the study where it ran"
        )
    problem = unknown_reference(plan.reference, dict.fromkeys(row.strategy for row in rows))
    if problem:
        raise InputError(problem)
    fixed_on, sets = plan.threshold_on, sets_of(rows)
    if fixed_on is not None and (fixed_on.data_set, fixed_on.split) not in sets:
        raise InputError(
            f"compare.threshold_on: {fixed_on.data_set}, {fixed_on.split}: models were not scored "
            f"there, but on {'; '.join(', '.join(place) for place in sets)}"
        )


def read_findings(study: Path) -> Findings:
    """Read the tables that `write_findings` wrote; none where there are none.

    Raises:
        InputError: when a table is of another version or damaged.
    """
    comparisons, thresholds = study / COMPARISONS_FILE, study / THRESHOLDS_FILE
    remedy = "`synthdp report`"
    return Findings(
        tuple(read_table(comparisons, ComparisonRow, remedy=remedy))
        if comparisons.is_file()
        else (),
        tuple(read_table(thresholds, ThresholdRow, remedy=remedy)) if thresholds.is_file() else (),
    )


def write_findings(study: Path, found: Findings) -> None:
    """Write `comparisons.csv`, and `thresholds.csv` where there are thresholds, atomically."""
    write_atomic(study / COMPARISONS_FILE, table_csv(ComparisonRow, found.comparisons))
    if found.thresholds:
        write_atomic(study / THRESHOLDS_FILE, table_csv(ThresholdRow, found.thresholds))
    else:
        (study / THRESHOLDS_FILE).unlink(missing_ok=True)
