"""A study's results as one self-contained HTML file with two cards beside it, or as a table."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment

from synthdp import __version__
from synthdp.config import Settings
from synthdp.evaluation.groups import Fairness
from synthdp.files import write_atomic
from synthdp.pages.drawing import MARKS
from synthdp.pages.environment import page_environment
from synthdp.pages.script import content_policy, page_script
from synthdp.privacy.statement import Statement, number, percent
from synthdp.study.answer import answer, strategy_words
from synthdp.study.compare import results_csv
from synthdp.study.comparison_plan import ComparePlan
from synthdp.study.defaults import choose
from synthdp.study.evaluation_section import evaluations_of
from synthdp.study.export import METRIC_WORDS, TableFormat, results_table
from synthdp.study.findings import refuse_unfit_plan
from synthdp.study.promises import not_covered, row_promises, together, whole_statement
from synthdp.study.record import write_private_part
from synthdp.study.results import Results, read_study
from synthdp.study.sections import further_sections, section_anchors
from synthdp.study.shown_sets import Assessed, Patches, shown_assessment, shown_patches
from synthdp.study.study_cards import (
    DATA_CARD,
    MODEL_CARD,
    CardFacts,
    study_data_card,
    study_model_card,
)
from synthdp.study.study_sets import read_sets
from synthdp.study.tuning import tuned_words

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
