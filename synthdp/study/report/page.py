"""A study's results as one self-contained HTML file with two cards beside it, or as a table."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment
from markupsafe import Markup

from synthdp import __version__
from synthdp.config import Settings
from synthdp.errors import InputError
from synthdp.evaluation.fairness import Fairness
from synthdp.files import write_atomic
from synthdp.pages import MARKS, content_policy, page_environment, page_script
from synthdp.paths import without_paths
from synthdp.privacy.statement import Statement, number, percent
from synthdp.study.compare.aurocs import (
    ComparisonRow,
    Findings,
    ThresholdRow,
    find,
    refuse_unfit_plan,
    write_findings,
)
from synthdp.study.compare.cells import Aggregate, aggregate
from synthdp.study.compare.defaults import choose
from synthdp.study.compare.fairness import fairness_of, fairness_views
from synthdp.study.compare.results import ResultRow, results_csv
from synthdp.study.compare.transfer import TransferRow, transfer_of
from synthdp.study.record import read_sets, write_private_part
from synthdp.study.report.cards import (
    DATA_CARD,
    MODEL_CARD,
    CardFacts,
    study_data_card,
    study_model_card,
)
from synthdp.study.report.curve import draw_curve
from synthdp.study.report.datasets import Assessed, Patches, shown_assessment, shown_patches
from synthdp.study.report.promises import not_covered, row_promises, together, whole_statement
from synthdp.study.report.published import published_rows, read_published
from synthdp.study.report.results import Results, read_study
from synthdp.study.report.summary import answer, scope_words, strategy_words
from synthdp.study.report.tables import METRIC_WORDS, TableFormat, results_table
from synthdp.study.settings import ComparePlan
from synthdp.study.sweep.tuning import tuned_words

# What a study's report says of its comparisons; `comparisons.html.j2` shows it.


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


# What a study's report says of sites; `transfer.html.j2` shows it.


def transfer_lines(
    rows: Sequence[TransferRow],
) -> list[tuple[TransferRow, Mapping[str, TransferRow]]]:
    """The table as a report shows it: for each recipe, epsilon, training set and place its figures.

    Of several sites of training the drop is that from the first.
    """
    lines: dict[tuple[object, ...], dict[str, TransferRow]] = {}
    for row in rows:
        key = (row.target, row.strategy, row.tuned, row.trained_on, row.epsilon)
        lines.setdefault((*key, row.data_set, row.split), {}).setdefault(row.measure, row)
    first = [(found["auroc"], found) for found in lines.values()]
    strategies = list(dict.fromkeys(row.strategy for row, _ in first))
    return sorted(first, key=lambda line: _place_in_report(line[0], strategies))


def _place_in_report(row: TransferRow, strategies: Sequence[str]) -> tuple[object, ...]:
    epsilon = row.epsilon if isinstance(row.epsilon, float) else math.inf
    at = (row.target, strategies.index(row.strategy), row.trained_on, epsilon, row.tuned)
    return (*at, row.domain != "internal", row.data_set, row.split)


# What not every report has: comparisons, groups and sites, or why they can't be shown.

#: Words and anchors of the sections, by what they show, in the order of the page.
_ANCHORS = {
    "published": ("Published", "published"),
    "compared": ("Comparisons", "compared-1"),
    "fairness": ("Fairness", "fairness"),
    "transfer": ("Sites", "transfer"),
}


def further_sections(
    study: Path,
    rows: Sequence[ResultRow],
    *,
    compare: ComparePlan,
    fairness: Fairness,
    transfer: bool,
    published: Path | None,
) -> dict[str, Any]:
    """What the page shows of them; their tables are written into the study on the way.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        compare: what is compared.
        fairness: groups other than the study's own; None for these.
        transfer: whether a table of sites is asked for where the study itself asks for none.
        published: the description of figures that others published, if any.

    Raises:
        InputError: when what was asked for here can't be worked out. What the study itself asked
            for is then told on the page.
    """
    return {
        **_published(study, rows, published),
        **_comparisons(study, rows, compare),
        **_fairness(study, rows, fairness),
        **_transfer(study, rows, asked=transfer),
    }


def section_anchors(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Words and anchors of those among `further_sections` that the page has."""
    return [
        place for name, place in _ANCHORS.items() if content[name] or content.get(f"{name}_problem")
    ]


def _published(study: Path, rows: Sequence[ResultRow], path: Path | None) -> dict[str, Any]:
    content: dict[str, Any] = {"published": [], "published_problem": ""}
    if path is None or not rows:
        return content
    try:
        about = read_published(path if path.exists() else study / path)
        content["published"] = published_rows(about, aggregate(rows))
    except InputError as error:
        return {**content, "published_problem": without_paths(str(error)).splitlines()[0]}
    return {
        **content,
        "published_about": about,
        "published_on": f"{rows[0].data_set}, {rows[0].split}",
    }


def _comparisons(study: Path, rows: Sequence[ResultRow], plan: ComparePlan) -> dict[str, Any]:
    found = find(study, rows, plan)
    if found.comparisons:
        write_findings(study, found)
    return comparison_content(found)


def _fairness(study: Path, rows: Sequence[ResultRow], asked: Fairness) -> dict[str, Any]:
    try:
        found = fairness_of(study, rows, asked)
    except InputError as error:
        if asked is not None:
            raise
        return {"fairness": [], "fairness_problem": without_paths(str(error)).splitlines()[0]}
    return {"fairness": fairness_views(found), "fairness_problem": ""}


def _transfer(study: Path, rows: Sequence[ResultRow], *, asked: bool) -> dict[str, Any]:
    try:
        found = transfer_of(study, rows, asked=asked, anew=asked)
    except InputError as error:
        if asked:
            raise
        return {"transfer": [], "transfer_problem": without_paths(str(error)).splitlines()[0]}
    return {"transfer": transfer_lines(found), "transfer_problem": ""}


# What a study's report says of each evaluation set; `results.html.j2` shows it.

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


REPORT_FILE = "report.html"


class ReportSettings(Settings):
    """Which study to report, and what may be shown.

    `statement` is the promise of publishing the whole study; when None, the study's own is read,
    or composed from its runs. `show_real` shows patches of real patients, as does the study's
    own setting `report.show_real`. `fairness` judges the models by other columns than the study's
    own setting does, and writes `fairness.csv` anew; `transfer` writes `transfer.csv` anew, for a
    study of one evaluation set too; `compare` changes what is compared, where sets go by their
    names; `published` describes figures of others to set beside. `format` other than html gives the
    table over seeds of `metric`, for papers. `out` is the file to write: `report.html` in the study
    for html, the terminal for a table, when None.
    """

    study: Path
    statement: Statement | None = None
    show_real: bool = False
    compare: ComparePlan | None = None
    fairness: Fairness = None
    transfer: bool = False
    published: Path | None = None
    format: Literal["html"] | TableFormat = "html"
    metric: Literal["auroc", "auprc", "sensitivity", "specificity"] = "auroc"
    out: Path | None = None


def run_report(settings: ReportSettings) -> Path:
    """Write a study's report, and its model card and data card beside it; or a table to `out`.

    Raises:
        InputError: when the study holds no readable results table, or not what is to be compared.
    """
    if settings.format != "html":
        out = settings.out or settings.study / f"table.{settings.format}"
        write_atomic(out, report_table(settings))
        return out
    results = read_study(settings.study)
    if settings.compare is not None:
        refuse_unfit_plan(settings.study, results.rows, settings.compare)
    write_private_part(settings.study, results.record)
    content = _content(settings, results)
    page = _environment().get_template("report.html.j2").render(content)
    out = settings.out or settings.study / REPORT_FILE
    write_atomic(out, page)
    facts = _card_facts(settings, results, content["answer"])
    write_atomic(out.parent / MODEL_CARD, study_model_card(facts))
    write_atomic(out.parent / DATA_CARD, study_data_card(facts))
    return out


def report_table(settings: ReportSettings) -> str:
    """The results over seeds as CSV, Markdown or LaTeX.

    Raises:
        InputError: when the study holds no readable results table.
    """
    assert settings.format != "html"  # callers ask for a table
    results = read_study(settings.study)
    return results_table(
        results.aggregates,
        settings.format,
        metric=settings.metric,
        title=results.title,
        found=results.found,
    )


def _environment() -> Environment:
    environment = page_environment("synthdp.study.report")
    environment.filters["figure"] = figure
    environment.filters["epsilon"] = lambda value: number(value).replace("inf", "∞")
    environment.filters["words"] = strategy_words
    environment.filters["tuned"] = tuned_words
    environment.filters["percent"] = percent
    environment.filters["duration"] = duration_words
    return environment


def figure(value: float | None) -> str:
    """A metric to three decimals, or a dash where it has no value."""
    return "\N{EN DASH}" if value is None else f"{value:.3f}"


def duration_words(seconds: float) -> str:
    """A duration for people, as in `1 h 05 min`, `4 min 10 s` or `8.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _content(settings: ReportSettings, results: Results) -> dict[str, Any]:
    """All that the template shows."""
    study, rows, record = settings.study, results.rows, results.record
    evaluations = evaluations_of(results, choose(rows))
    n_runs, failed = len({row.cell for row in rows}), results.failed
    first = evaluations[0] if evaluations else None
    shown = (first.drawn or first.rows) if first else ()
    show_real = settings.show_real or record.facts.show_real
    further, script = _further(settings, results), page_script()
    patches = list(shown_patches(study, record, show_real=show_real))
    assessed = shown_assessment(study, record.facts.assessment, show_real=show_real)
    return {
        "title": results.title,
        "contents": _contents(patches, assessed, section_anchors(further)),
        "answer": answer(shown, n_runs, len(failed), results.found),
        "evaluations": evaluations,
        "styles": {name: index % len(MARKS) for index, name in enumerate(results.strategies)},
        "marks": MARKS,
        "metrics": METRIC_WORDS,
        "rows": rows,
        "tuned": any(row.tuned for row in rows),
        "sites": len({row.trained_on for row in rows}) > 1,
        "failed": failed,
        "n_runs": n_runs,
        "found": results.found,
        "promises": row_promises(results.aggregates, record.statements),
        "not_covered": not_covered(record.statements.values()),
        "missing": record.missing,
        "together": together(study, record, settings.statement),
        "patches": patches,
        "assessed": assessed,
        **further,
        "record": record,
        "synthdp_version": __version__,
        "csv": base64.b64encode(results_csv(rows).encode()).decode(),
        "script": script,
        "policy": content_policy(script),
    }


def _further(settings: ReportSettings, results: Results) -> dict[str, Any]:
    return further_sections(
        settings.study,
        results.rows,
        compare=settings.compare or results.record.facts.compare,
        fairness=settings.fairness,
        transfer=settings.transfer,
        published=settings.published or results.record.facts.published,
    )


def _contents(
    patches: Sequence[Patches],
    assessed: Assessed | None,
    further: Sequence[tuple[str, str]],
) -> list[tuple[str, str]]:
    """Words and anchors of the page's sections, in their order."""
    return [
        ("Utility", "evaluation-1"),
        *further,
        ("Runs", "runs"),
        *([("Patches", "patches-1")] if patches else []),
        *([("Synthetic set", "assessment")] if assessed else []),
        *(("Promises", "promises"), ("Terms", "terms"), ("Settings", "settings")),
    ]


def _card_facts(settings: ReportSettings, results: Results, sentences: Sequence[str]) -> CardFacts:
    record = results.record
    return CardFacts(
        title=results.title,
        answer=sentences,
        rows=results.aggregates,
        promise=whole_statement(settings.study, record, settings.statement),
        statements=record.statements,
        versions=record.versions,
        sets=record.facts.sets or read_sets(settings.study),
    )
