from pathlib import Path

import pytest

from gan.quality.scorecard import (
    CHEXGENBENCH,
    CRITERIA,
    SCORECARD,
    answered_criteria,
    scorecard_markdown,
)
from synthdp.data.description import DatasetInfo
from synthdp.evaluation.assessment import AssessedSet, Assessment, Figure, Value

DOCS = Path(__file__).parents[3] / "docs"
VALUE = Value(value=0.5, n=(3, 3), split="all")


def test_the_seven_criteria_and_the_benchmarks_list_are_whole() -> None:
    assert [one.name for one in CRITERIA if one.source == SCORECARD] == [
        "Congruence",
        "Coverage",
        "Constraint",
        "Completeness",
        "Comprehension",
        "Compliance",
        "Consistency",
    ]
    assert sum(one.source == CHEXGENBENCH for one in CRITERIA) == 11
    for one in CRITERIA:
        assert one.asks.endswith("?")
        assert one.answer


def test_the_documentation_shows_this_table() -> None:
    assert scorecard_markdown() in (DOCS / "generator.md").read_text()


def figure(measure: str, *, main: bool = False, real: bool = False) -> Figure:
    return Figure(
        section="Distance", measure=measure, features="Tiny", comparison="equal", better="low",
        main=main, synthetic=VALUE, real=VALUE if real else None,
    )  # fmt: skip


def assessment_of(*figures: Figure) -> Assessment:
    judged = AssessedSet(
        name="made", kind="synthetic", size_px=32, images=3, used=3, duplicates=0, label_conflicts=0
    )
    return Assessment(
        promise="", findings=(), info=DatasetInfo(name="made", kind="synthetic", size_px=32),
        synthetic=judged, real=judged, features=(), figures=figures,
    )  # fmt: skip


def test_a_criterion_is_answered_by_the_most_telling_figure_of_each_measure() -> None:
    shown = figure("FD-Tiny", main=True, real=True)
    given = assessment_of(figure("FD-Tiny"), figure("FD-Tiny", main=True), shown, figure("Recall"))
    by_name = {answer.criterion.name: answer.figures for answer in answered_criteria(given)}
    assert by_name["Congruence"] == (shown,)
    assert [one.measure for one in by_name["Precision, recall, density, coverage, k = 5"]] == [
        "Recall"
    ]
    assert by_name["Reports downstream"] == ()


@pytest.mark.parametrize("source", [SCORECARD, CHEXGENBENCH])
def test_an_assessment_without_figures_still_has_each_row(source: str) -> None:
    """As one of an older version, of which some figures are missing."""
    rows = [one for one in answered_criteria(assessment_of()) if one.criterion.source == source]
    assert len(rows) == sum(one.source == source for one in CRITERIA)
