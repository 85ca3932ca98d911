"""A study's results as one self-contained HTML file: no script, nothing fetched, printable."""

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from synthdp import __version__
from synthdp.config import Settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Assessment, read_assessment
from synthdp.evaluation.groups import Fairness
from synthdp.files import write_atomic
from synthdp.pages.drawing import MARKS
from synthdp.pages.environment import page_environment
from synthdp.pages.gallery import ClassPatches, class_patches
from synthdp.privacy.statement import Statement, make_statement, number, percent
from synthdp.study.aggregate import Aggregate, aggregate
from synthdp.study.answer import answer, scope_words, strategy_words
from synthdp.study.compare import ResultRow, read_results, results_csv, without_paths
from synthdp.study.curve import draw_curve
from synthdp.study.defaults import choose
from synthdp.study.fairness import fairness_of, fairness_views
from synthdp.study.record import (
    StudyFacts,
    StudyRecord,
    own_statement,
    published_together,
    read_record,
)
from synthdp.study.transfer import transfer_lines, transfer_of
from synthdp.study.tuning import tuned_words

WIDE_IN, NARROW_IN = 9.6, 4.6
METRIC_WORDS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}


class ReportSettings(Settings):
    """Which study to report, and what may be shown.

    `statement` is the promise of publishing the whole study; when None, the study's own is read,
    or composed from its runs. `show_real` shows patches of real patients, as does the study's
    own setting `report.show_real`. `fairness` judges the models by other columns than the study's
    own setting does, and writes `fairness.csv` anew; `transfer` writes `transfer.csv` anew, for a
    study of one evaluation set too.
    """

    study: Path
    statement: Statement | None = None
    show_real: bool = False
    fairness: Fairness = None
    transfer: bool = False


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


@dataclass(frozen=True)
class Promise:
    """Statements of the runs of one row, as HTML; they differ only where seeds do."""

    title: str
    epsilon: float
    texts: tuple[Markup, ...]


@dataclass(frozen=True)
class Patches:
    """Patches to show, with the promise of their data set, or why there are none."""

    title: str
    classes: tuple[ClassPatches, ...] = ()
    promise: Promise | None = None
    problem: str = ""


@dataclass(frozen=True)
class Assessed:
    """The assessment of the study's synthetic set, or why it can't be shown."""

    found: Assessment | None = None
    problem: str = ""


def run_report(settings: ReportSettings) -> Path:
    """Write a study's `report.html` from its results, statements, synthetic set and assessment.

    Raises:
        InputError: when the study holds no readable results table.
    """
    study = settings.study
    rows = read_results(study / "results.csv")
    content = _content(settings, rows, read_record(study, rows))
    page = _environment().get_template("report.html.j2").render(content)
    write_atomic(study / "report.html", page)
    return study / "report.html"


def _environment() -> Environment:
    environment = page_environment("synthdp.study")
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


def _content(
    settings: ReportSettings, rows: Sequence[ResultRow], record: StudyRecord
) -> dict[str, Any]:
    """All that the template shows."""
    aggregates = aggregate(rows)
    strategies = list(dict.fromkeys(row.strategy for row in rows))
    cells = {row.cell for row in rows}
    failed = {row.cell: row for row in rows if row.state == "failed"}
    evaluations = _evaluations(aggregates, strategies, choose(rows))
    first = evaluations[0] if evaluations else None
    return {
        "title": without_paths(record.facts.title),
        "answer": answer(first.drawn or first.rows if first else (), len(cells), len(failed)),
        "evaluations": evaluations,
        "styles": {name: index % len(MARKS) for index, name in enumerate(strategies)},
        "marks": MARKS,
        "metrics": METRIC_WORDS,
        "rows": rows,
        "tuned": any(row.tuned for row in rows),
        "failed": list(failed.values()),
        "n_runs": len(cells),
        "found": {row.runs: _found(row.runs, record.statements) for row in aggregates},
        "promises": _promises(aggregates, record.statements),
        "missing": record.missing,
        "together": _together(settings, record),
        "patches": list(_patches(settings, record)),
        "assessed": _assessed(settings.study, record.facts.assessment),
        **_fairness(settings, rows),
        **_transfer(settings, rows),
        "record": record,
        "synthdp_version": __version__,
        "csv": base64.b64encode(results_csv(rows).encode()).decode(),
    }


def _evaluations(
    aggregates: Sequence[Aggregate],
    strategies: Sequence[str],
    chosen: Mapping[tuple[str, float | None], str],
) -> list[Evaluation]:
    found = []
    for index, place in enumerate(dict.fromkeys(map(_place, aggregates))):
        rows = tuple(row for row in aggregates if _place(row) == place)
        drawn = tuple(
            row for row in rows if chosen.get((row.strategy, row.epsilon), "") == row.tuned
        )
        drawable = any(row.metrics["auroc"].mean is not None for row in drawn)
        curves = [
            Markup(draw_curve(drawn, strategies, prefix=f"{kind}{index}", width_in=width))  # noqa: S704 (drawn here)
            if drawable
            else Markup("")
            for kind, width in (("wide", WIDE_IN), ("narrow", NARROW_IN))
        ]
        found.append(Evaluation(place, scope_words(rows), rows, drawn, *curves))
    return found


def _place(row: Aggregate) -> str:
    """What models were scored on, and trained on where a study has several training sets."""
    trained = f"; trained on {row.trained_on}" if row.trained_on else ""
    return f"{row.data_set}, {row.split}{trained}"


def _found(runs: Iterable[str], statements: Mapping[str, Statement]) -> float | None:
    """The share of members that the best attack finds at 1 % false alarms, worst over runs."""
    odds = [statements[run].odds.found_at_1_percent for run in runs if run in statements]
    return max(odds, default=None)


def statement_html(statement: Statement) -> Markup:
    """A statement's text, which is Markdown of paragraphs, lists and bold words, as HTML."""
    blocks = []
    for block in without_paths(statement.to_text()).split("\n\n"):
        text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(block)))
        if block.startswith("- "):
            items = (f"<li>{line.removeprefix('- ')}</li>" for line in text.splitlines())
            blocks.append(f"<ul>{''.join(items)}</ul>")
        else:
            blocks.append(f"<p>{text}</p>")
    return Markup("".join(blocks))  # noqa: S704 (escaped above)


def _promises(
    aggregates: Sequence[Aggregate], statements: Mapping[str, Statement]
) -> list[Promise]:
    runs: dict[tuple[str, float | None], dict[str, Statement]] = {}
    for row in aggregates:
        stated = {run: statements[run] for run in row.runs if run in statements}
        runs.setdefault((row.strategy, row.epsilon), {}).update(stated)
    return [
        Promise(
            f"{strategy_words(strategy)}{_asked_words(epsilon, found.values())}",
            max(statement.epsilon for statement in found.values()),
            tuple(dict.fromkeys(statement_html(statement) for statement in found.values())),
        )
        for (strategy, epsilon), found in runs.items()
        if found
    ]


def _asked_words(epsilon: float | None, statements: Iterable[Statement]) -> str:
    if epsilon is not None:
        return f", {number(epsilon)} asked for"
    last_stage_is_free = all(math.isinf(statement.epsilon_stage) for statement in statements)
    return ", without privacy" if last_stage_is_free else ""


def _together(settings: ReportSettings, record: StudyRecord) -> list[Promise]:
    """What publishing the whole study promises, and its private rows alone where that differs."""
    whole = settings.statement or own_statement(settings.study)
    found = list(record.statements.values())
    private = [statement for statement in found if math.isfinite(statement.epsilon)]
    try:
        whole = whole or published_together(found, "study, all of its runs published together")
        part = published_together(private, "study, its private runs alone published together")
    except InputError as error:
        return [Promise(f"The runs do not compose: {error}", math.inf, ())]
    shown = [("Everything in this study", whole)]
    if len(private) < len(found):
        shown.append(("The rows with a finite epsilon alone", part))
    return [
        Promise(title, statement.epsilon, (statement_html(statement),))
        for title, statement in shown
        if statement is not None
    ]


def _patches(settings: ReportSettings, record: StudyRecord) -> Iterable[Patches]:
    facts: StudyFacts = record.facts
    if facts.synthetic is not None:
        yield _patches_of(settings.study, facts.synthetic, "Synthetic patches", record)
    if facts.real is not None and (facts.show_real or settings.show_real):
        yield _patches_of(settings.study, facts.real, "Real patches", record)


def _patches_of(study: Path, path: Path, title: str, record: StudyRecord) -> Patches:
    try:
        dataset = open_dataset(path if path.exists() else study / path)
        classes = tuple(class_patches(dataset))
    except InputError as error:
        reason = without_paths(str(error)).splitlines()[0]
        return Patches(title, problem=f"The data set can't be shown: {reason}")
    if dataset.info.protects_patients:
        return Patches(f"{title}: {dataset.info.name}", classes)
    lineage = dataset.info.lineage
    stated = next(iter(record.statements.values()), None)
    statement = make_statement(
        lineage,
        subject="data set",
        delta=stated.delta if stated else 1e-4,
        unit=lineage.releases[0].unit if lineage.releases else "patient",
        population=stated.population if stated else None,
    )
    promise = Promise("Promise of this set", statement.epsilon, (statement_html(statement),))
    return Patches(f"{title}: {dataset.info.name}", classes, promise)


def _fairness(settings: ReportSettings, rows: Sequence[ResultRow]) -> dict[str, Any]:
    """The fairness section, or why a table that the study asked for can't be shown."""
    try:
        found = fairness_of(settings.study, rows, settings.fairness)
    except InputError as error:
        if settings.fairness is not None:
            raise
        return {"fairness": [], "fairness_problem": without_paths(str(error)).splitlines()[0]}
    return {"fairness": fairness_views(found), "fairness_problem": ""}


def _transfer(settings: ReportSettings, rows: Sequence[ResultRow]) -> dict[str, Any]:
    """The section of sites, or why a table that the study asked for can't be shown."""
    asked = settings.transfer
    try:
        found = transfer_of(settings.study, rows, asked=asked, anew=asked)
    except InputError as error:
        if asked:
            raise
        return {"transfer": [], "transfer_problem": without_paths(str(error)).splitlines()[0]}
    return {"transfer": transfer_lines(found), "transfer_problem": ""}


def _assessed(study: Path, path: Path | None) -> Assessed | None:
    """The assessment that the study names; it holds exact figures of patients, no release does."""
    if path is None:
        return None
    try:
        return Assessed(read_assessment(path if path.exists() else study / path))
    except InputError as error:
        return Assessed(problem=without_paths(str(error)).splitlines()[0])
