"""What a study's report says of each evaluation set; `results.html.j2` shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from synthdp.study.aggregate import Aggregate
from synthdp.study.answer import scope_words
from synthdp.study.curve import draw_curve
from synthdp.study.results import Results

WIDE_IN, NARROW_IN = 9.6, 4.6


@dataclass(frozen=True)
class Evaluation:
    """One evaluation set: its aggregates, and its curve for wide and for narrow pages.

    `drawn` are the rows on the curve: of tuned settings the chosen ones alone.
    """

    name: str
    scope: str
    rows: tuple[Aggregate, ...]
    drawn: tuple[Aggregate, ...]
    wide: Markup
    narrow: Markup


def evaluations_of(
    results: Results, chosen: Mapping[tuple[str, float | None], str]
) -> list[Evaluation]:
    """Each set of a study, and each training set where it has several.

    Args:
        results: of the study.
        chosen: of tuned settings the chosen one, by strategy and epsilon.
    """
    found, aggregates = [], results.aggregates
    for index, place in enumerate(dict.fromkeys(map(_place, aggregates))):
        rows = tuple(row for row in aggregates if _place(row) == place)
        drawn = tuple(
            row for row in rows if chosen.get((row.strategy, row.epsilon), "") == row.tuned
        )
        curves = (
            _curve(results, drawn, prefix=f"{kind}{index}", width_in=width)
            for kind, width in (("wide", WIDE_IN), ("narrow", NARROW_IN))
        )
        found.append(Evaluation(place, scope_words(rows), rows, drawn, *curves))
    return found


def _place(row: Aggregate) -> str:
    """What models were scored on, and trained on where a study has several training sets."""
    trained = f"; trained on {row.trained_on}" if row.trained_on else ""
    return f"{row.data_set}, {row.split}{trained}"


def _curve(results: Results, drawn: Sequence[Aggregate], *, prefix: str, width_in: float) -> Markup:
    if all(row.metrics["auroc"].mean is None for row in drawn):
        return Markup("")
    drawing = draw_curve(
        drawn, results.strategies, prefix=prefix, width_in=width_in, found=results.found
    )
    return Markup(drawing)  # noqa: S704 (drawn here)
