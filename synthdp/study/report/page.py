"""A study's results as one self-contained HTML file with two cards beside it, or as a table.

The page is composed here, section after section; each template names what it shows. What the
sections show is made in `sections`, and the curves in `curve`.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from synthdp import __version__
from synthdp.errors import InputError
from synthdp.pages.html import MARKS, content_policy, page_environment, page_script
from synthdp.privacy.accounting.bounds import epsilon_text, percent
from synthdp.privacy.promise.uncovered import TRAINED_ON
from synthdp.privacy.units import CROSS_VALIDATED
from synthdp.storage.files import write_atomic
from synthdp.study.compare.aurocs import write_comparisons
from synthdp.study.compare.cited import interval_words
from synthdp.study.compare.defaults import choose
from synthdp.study.compare.fairness import FairnessRow
from synthdp.study.compare.results import (
    RESULTS_FILE,
    ResultRow,
    read_results,
    results_csv,
)
from synthdp.study.compare.transfer.table import TransferRow
from synthdp.study.record import read_sets, write_private_part
from synthdp.study.report.cards import (
    DATA_CARD,
    MODEL_CARD,
    CardFacts,
    study_data_card,
    study_model_card,
)
from synthdp.study.report.comparison_tables import comparison_table
from synthdp.study.report.curve import EvaluationView, evaluation_views
from synthdp.study.report.figures.write import write_figures
from synthdp.study.report.sections.comparisons import comparison_views
from synthdp.study.report.sections.fairness import fairness_section
from synthdp.study.report.sections.growth import growth_section
from synthdp.study.report.sections.next_steps import next_steps
from synthdp.study.report.sections.primary import primary_section
from synthdp.study.report.sections.promises import (
    StudyPromise,
    not_covered,
    row_promise_views,
    study_promise,
    study_promise_views,
)
from synthdp.study.report.sections.published import published_section
from synthdp.study.report.sections.sets import PatchesView, shown_assessment, shown_patches
from synthdp.study.report.sections.shortcut import shortcut_section
from synthdp.study.report.sections.transfer import transfer_section
from synthdp.study.report.settings import TABLE_FORMATS, ReportSettings
from synthdp.study.report.strategy_lines import WHAT_IT_DOES
from synthdp.study.report.study_results import StudyResults, study_results
from synthdp.study.report.summary import strategy_words, summary
from synthdp.study.report.tables import METRIC_WORDS, results_table, target_grids
from synthdp.study.sweep.state import refuse_changed_study
from synthdp.study.sweep.tuning import tuned_words

REPORT_FILE = "report.html"


def run_report(settings: ReportSettings) -> Path:
    """Write a study's report with both cards beside it; or a table, or figures, to `out`.

    Raises:
        InputError: when the study holds no readable results table, or not what is to be compared,
            or what it was made from has changed since.
    """
    if settings.format in TABLE_FORMATS:
        name = "table" if settings.table == "results" else "comparisons"
        out = settings.out or settings.study / f"{name}.{settings.format}"
        write_atomic(out, report_table(settings))
        return out
    rows = read_results(settings.study / RESULTS_FILE)
    refuse_changed_study(settings.study)
    if settings.format != "html":
        return write_figures(settings, study_results(settings, rows))
    return write_report(settings, rows)


def write_report(
    settings: ReportSettings,
    rows: Sequence[ResultRow],
    *,
    fairness: Sequence[FairnessRow] | None = None,
    transfer: Sequence[TransferRow] | None = None,
) -> Path:
    """Write the HTML report of these results, and both cards beside it.

    Args:
        settings: which study, and what may be shown.
        rows: of its `results.csv`.
        fairness: as its `fairness.csv` holds them (`rounded_rows`); None: as that file stands, or
            as the settings ask.
        transfer: of its `transfer.csv`; likewise.

    Raises:
        InputError: when what the settings ask for can't be worked out.
    """
    study = settings.study
    results = study_results(settings, rows)
    record, comparisons = results.record, results.comparisons
    facts = record.facts
    if comparisons.aurocs:
        write_comparisons(study, comparisons)
    promise = study_promise(study, record, settings.statement)
    write_private_part(study, promise.private_part)
    content = {
        **_content(study, results, promise, show_real=settings.show_real or facts.show_real),
        **primary_section(study, results, settings.patients),
        "compared": comparison_views(comparisons),
        **growth_section(study, results, settings.patients),
        **published_section(
            study, results.rows, results.cells, settings.published or facts.published
        ),
        **fairness_section(study, results.rows, settings.fairness, fairness),
        **transfer_section(study, results.rows, transfer, asked=settings.transfer),
        **shortcut_section(study, results.rows, asked=settings.shortcut),
    }
    content["contents"] = _contents(content)
    out = settings.out or study / REPORT_FILE
    write_atomic(out, _environment().get_template("report.html.j2").render(content))
    card_facts = CardFacts(
        title=results.title,
        summary=_summary(results, [v for v in content["evaluations"] if v.split not in TRAINED_ON]),
        cells=results.cells,
        cells_by_target=results.cells_by_target,
        promise=promise.whole,
        statements=results.record.statements,
        versions=results.record.versions,
        sets=facts.sets or read_sets(study),
    )
    write_atomic(out.parent / MODEL_CARD, study_model_card(card_facts))
    write_atomic(out.parent / DATA_CARD, study_data_card(card_facts))
    return out


def report_table(settings: ReportSettings) -> str:
    """The results over seeds as CSV, Markdown or LaTeX.

    Raises:
        InputError: when the study holds no readable results table.
    """
    assert settings.format in TABLE_FORMATS  # callers ask for a table
    rows = read_results(settings.study / RESULTS_FILE)
    refuse_changed_study(settings.study)
    results = study_results(settings, rows)
    if settings.table == "comparisons":
        compared = results.comparisons.aurocs
        if not any(row.kind != "mean" and row.value is not None for row in compared):
            raise InputError(
                "table: the study has no comparisons: it holds one strategy alone, or neither "
                "predictions nor comparisons.csv; leave `--table` out for the results"
            )
        return comparison_table(
            compared,
            settings.format,
            title=results.title,
            registered=bool(results.record.registered),
        )
    return results_table(
        results.cells,
        settings.format,
        metric=settings.metric,
        title=results.title,
        members_found=results.members_found,
        by_target=results.cells_by_target,
    )


def _environment() -> Environment:
    environment = page_environment("synthdp.study.report")
    environment.filters["figure"] = figure
    environment.filters["known"] = lambda value: figure(None if math.isnan(value) else value)
    environment.filters["epsilon"] = lambda value: epsilon_text(value).replace("inf", "∞")
    environment.filters["words"] = strategy_words
    environment.filters["tuned"] = tuned_words
    environment.filters["percent"] = percent
    environment.filters["duration"] = measured_duration
    return environment


def figure(value: float | None) -> str:
    """A metric to three decimals, or a dash where it has no value."""
    return "\N{EN DASH}" if value is None else f"{value:.3f}"


def measured_duration(seconds: float) -> str:
    """A duration for people, as in `1 h 05 min`, `4 min 10 s` or `8.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _n_runs(results: StudyResults) -> int:
    return len({row.model for row in results.rows})


def _summary(results: StudyResults, evaluations: Sequence[EvaluationView]) -> list[str]:
    """What one of these sets shows: of several shares of the patients the largest, else the first.

    Args:
        results: all that the study tells.
        evaluations: those that may be told of where the sentences stand.
    """
    first = max(evaluations, key=lambda one: one.share or 0.0, default=None)
    nth = "largest share" if first and first.share else "first"
    part_of = (first.name, f"the {nth} of {len(evaluations)} parts") if first else None
    return summary(
        (first.drawn or first.cells) if first else (),
        _n_runs(results),
        len(results.failed),
        results.members_found,
        withheld="scores" in results.record.facts.withheld,
        part_of=part_of if len(evaluations) > 1 else None,
    )


def _content(
    study: Path, results: StudyResults, promise: StudyPromise, *, show_real: bool
) -> dict[str, Any]:
    """What every report shows, by the names of the templates."""
    rows, record = results.rows, results.record
    evaluations = evaluation_views(
        results.cells, results.strategies, choose(rows), results.members_found
    )
    script = page_script()
    return {
        "title": results.title,
        "summary": _summary(results, evaluations),
        "evaluations": evaluations,
        "targets": target_grids(results.cells, results.cells_by_target),
        "what_it_does": WHAT_IT_DOES,
        "next_steps": next_steps(record.facts.sets or read_sets(study)),
        "styles": {name: index % len(MARKS) for index, name in enumerate(results.strategies)},
        "marks": MARKS,
        "metrics": METRIC_WORDS,
        "rows": rows,
        "tuned": any(row.tuned for row in rows),
        "sites": len({row.trained_on for row in rows}) > 1,
        "failed": results.failed,
        "n_runs": _n_runs(results),
        "members_found": results.members_found,
        "interval_words": interval_words(results.cells),
        "cited": any(cell.cited_auroc for cell in results.cells),
        "promises": row_promise_views(results.cells, record.statements),
        "not_covered": not_covered(record.statements.values()),
        "folds": any(row.split == CROSS_VALIDATED for row in rows),
        "missing": record.missing,
        "together": study_promise_views(promise, record.statements),
        "patches": list(shown_patches(study, record, show_real=show_real)),
        "assessed": shown_assessment(study, record.facts.assessment, show_real=show_real),
        "record": record,
        "synthdp_version": __version__,
        "csv": base64.b64encode(results_csv(results.every_row).encode()).decode(),
        "script": script,
        "policy": content_policy(script),
    }


#: What makes a section too: published matrices stand in that of published figures.
_STANDS_FOR = {"published": "matrices"}


def _gallery_words(shown: Sequence[PatchesView]) -> str:
    return "Images" if any(one.are_whole for one in shown) else "Patches"


def _contents(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Words and anchors of the page's sections, in their order."""
    further = {
        "published": ("Published", "published"),
        "targets": ("Targets", "targets"),
        "compared": ("Comparisons", "compared-1"),
        "fairness": ("Fairness", "fairness"),
        "transfer": ("Sites", "transfer"),
        "shortcut": ("Pixels", "shortcut"),
    }
    primary = content["primary"]
    return [
        *(
            [("Registered" if primary.registered else "Named later", "primary-1")]
            if primary
            else []
        ),
        *([("Patients", "growth")] if content["growth"] else []),
        ("Utility", "evaluation-1"),
        *([(_gallery_words(content["patches"]), "patches-1")] if content["patches"] else []),
        *([("What next", "next")] if content["next_steps"] else []),
        *(
            section
            for name, section in further.items()
            if content[name]
            or content.get(f"{name}_problem")
            or content.get(_STANDS_FOR.get(name, ""))
        ),
        ("Runs", "runs"),
        *([("Synthetic set", "assessment")] if content["assessed"] else []),
        *(("Promises", "promises"), ("Terms", "terms"), ("Settings", "settings")),
    ]
