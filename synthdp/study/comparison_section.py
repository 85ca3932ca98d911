"""What a study's report says of its comparisons; `comparisons.html.j2` shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthdp.study.comparisons import ComparisonRow
from synthdp.study.findings import Findings
from synthdp.study.thresholds import ThresholdRow


@dataclass(frozen=True)
class ComparedSet:
    """The comparisons on one evaluation set; `references` by the reference's name."""

    name: str
    means: tuple[ComparisonRow, ...]
    without_privacy: tuple[ComparisonRow, ...]
    references: Mapping[str, tuple[ComparisonRow, ...]]
    thresholds: tuple[ThresholdRow, ...]


def comparison_content(found: Findings) -> dict[str, Any]:
    """`compared`: one `ComparedSet` for each evaluation set, in the order of the tables."""
    sets = dict.fromkeys((row.data_set, row.split) for row in found.comparisons)
    return {"compared": [_compared(found, *place) for place in sets]}


def _compared(found: Findings, data_set: str, split: str) -> ComparedSet:
    against = found.of_kind(data_set, split, "reference")
    return ComparedSet(
        f"{data_set}, {split}",
        tuple(found.of_kind(data_set, split, "mean")),
        tuple(found.of_kind(data_set, split, "without_privacy")),
        {
            name: tuple(row for row in against if row.against == name)
            for name in dict.fromkeys(row.against for row in against)
        },
        tuple(row for row in found.thresholds if (row.data_set, row.split) == (data_set, split)),
    )
