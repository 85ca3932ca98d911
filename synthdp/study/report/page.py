"""A study's results as one self-contained HTML file with two cards beside it, or as a table.

The page is composed here, section after section; each template names what it shows. What sections
show stands here too, save for curves, promises and published figures, which have their own files.
"""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment

from synthdp import __version__
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.assessment import CLOSEST_PAIRS_FILE, Assessment, read_assessment
from synthdp.evaluation.metrics import MACRO
from synthdp.evaluation.settings import FairnessSettings
from synthdp.pages.html import (
    MARKS,
    ClassPatches,
    class_patches,
    content_policy,
    page_environment,
    page_script,
)
from synthdp.privacy.accounting.bounds import epsilon_text, percent
from synthdp.privacy.promise.statement import make_statement
from synthdp.storage.files import write_atomic
from synthdp.storage.paths import without_paths
from synthdp.study.compare.aurocs import (
    ComparisonRow,
    Comparisons,
    ThresholdRow,
    refuse_unfit_plan,
    write_comparisons,
)
from synthdp.study.compare.cited import interval_words
from synthdp.study.compare.defaults import choose
from synthdp.study.compare.fairness import FairnessRow, fairness_of
from synthdp.study.compare.results import (
    RESULTS_FILE,
    ResultRow,
    cell_key,
    headline_rows,
    read_results,
    results_csv,
)
from synthdp.study.compare.shortcut import PIXELS, ShortcutRow, shortcut_of, shortcut_words
from synthdp.study.compare.transfer import (
    BELOW_CHANCE,
    DECISIONS,
    ELSEWHERE,
    MAYBE_BELOW_CHANCE,
    TransferRow,
    transfer_of,
)
from synthdp.study.record import StudyRecord, read_sets, write_private_part
from synthdp.study.report.cards import (
    DATA_CARD,
    MODEL_CARD,
    CardFacts,
    study_data_card,
    study_model_card,
)
from synthdp.study.report.comparison_tables import comparison_table
from synthdp.study.report.curve import evaluation_views
from synthdp.study.report.figures.write import write_figures
from synthdp.study.report.promises import (
    PromiseView,
    StudyPromise,
    not_covered,
    row_promise_views,
    statement_html,
    study_promise,
    study_promise_views,
)
from synthdp.study.report.published import published_rows, read_published
from synthdp.study.report.published_matrices import PublishedMatrices, published_matrices_view
from synthdp.study.report.settings import TABLE_FORMATS, ReportSettings
from synthdp.study.report.strategy_lines import WHAT_IT_DOES
from synthdp.study.report.study_results import StudyResults, study_results
from synthdp.study.report.summary import strategy_words, summary
from synthdp.study.report.tables import METRIC_WORDS, results_table, target_grids
from synthdp.study.settings import seen_from
from synthdp.study.sweep.state import refuse_changed_study
from synthdp.study.sweep.tuning import tuned_words

REPORT_FILE = "report.html"
MAX_PAIRS_BYTES = 8 * 2**20


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
    if settings.compare is not None:
        refuse_unfit_plan(settings.study, headline_rows(rows), settings.compare)
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
        "compared": comparison_views(comparisons),
        **_published(study, results, settings.published or facts.published),
        **_fairness(study, results.rows, settings.fairness, fairness),
        **_transfer(study, results.rows, transfer, asked=settings.transfer),
        **_shortcut(study, results.rows, asked=settings.shortcut),
    }
    content["contents"] = _contents(content)
    out = settings.out or study / REPORT_FILE
    write_atomic(out, _environment().get_template("report.html.j2").render(content))
    card_facts = CardFacts(
        title=results.title,
        summary=content["summary"],
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
        return comparison_table(compared, settings.format, title=results.title)
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


def _content(
    study: Path, results: StudyResults, promise: StudyPromise, *, show_real: bool
) -> dict[str, Any]:
    """What every report shows, by the names of the templates."""
    rows, record = results.rows, results.record
    evaluations = evaluation_views(
        results.cells, results.strategies, choose(rows), results.members_found
    )
    n_runs, failed = len({row.model for row in rows}), results.failed
    first = evaluations[0] if evaluations else None
    shown = (first.drawn or first.cells) if first else ()
    script = page_script()
    return {
        "title": results.title,
        "summary": summary(
            shown,
            n_runs,
            len(failed),
            results.members_found,
            withheld="scores" in record.facts.withheld,
            first_of=(first.name, len(evaluations)) if first and len(evaluations) > 1 else None,
        ),
        "evaluations": evaluations,
        "targets": target_grids(results.cells, results.cells_by_target),
        "what_it_does": WHAT_IT_DOES,
        "made_up_patients": any(
            one.kind == "phantom" and one.stands_for_patients and "training" in one.roles
            for one in record.facts.sets or read_sets(study)
        ),
        "styles": {name: index % len(MARKS) for index, name in enumerate(results.strategies)},
        "marks": MARKS,
        "metrics": METRIC_WORDS,
        "rows": rows,
        "tuned": any(row.tuned for row in rows),
        "sites": len({row.trained_on for row in rows}) > 1,
        "failed": failed,
        "n_runs": n_runs,
        "members_found": results.members_found,
        "interval_words": interval_words(results.cells),
        "cited": any(cell.cited_auroc for cell in results.cells),
        "promises": row_promise_views(results.cells, record.statements),
        "not_covered": not_covered(record.statements.values()),
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
    return [
        ("Utility", "evaluation-1"),
        *([("Patches", "patches-1")] if content["patches"] else []),
        *([("What next", "next")] if content["made_up_patients"] else []),
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


def _reason(error: InputError) -> str:
    """Why something can't be shown, free of paths."""
    return without_paths(str(error)).splitlines()[0]


# Sections that not every report has. Where the study's own settings ask for one that can't be made,
# the page says why; where the settings of this report do, it is refused.


def _published(study: Path, results: StudyResults, path: Path | None) -> dict[str, Any]:
    """Ours beside the figures that the file at `path` describes; `published.html.j2` shows it."""
    rows = results.rows
    content: dict[str, Any] = {"published": [], "published_problem": "", "matrices": None}
    if path is None or not rows:
        return content
    try:
        about = read_published(seen_from(study, path))
        if isinstance(about, PublishedMatrices):
            return {**content, "matrices": published_matrices_view(about)}
        beside = published_rows(about, results.cells)
    except InputError as error:
        return {**content, "published_problem": _reason(error)}
    on = f"{rows[0].data_set}, {rows[0].split}"
    return {**content, "published": beside, "published_about": about, "published_on": on}


@dataclass(frozen=True)
class ComparisonsView:
    """The comparisons on one evaluation set, as `comparisons.html.j2` shows them.

    `references` go by the name of the strategy that all others are compared with. `targets` has the
    same for each target, where there are several.
    """

    name: str
    means: tuple[ComparisonRow, ...]
    without_privacy: tuple[ComparisonRow, ...]
    references: Mapping[str, tuple[ComparisonRow, ...]]
    thresholds: tuple[ThresholdRow, ...]
    targets: tuple["ComparisonsView", ...] = ()


def comparison_views(comparisons: Comparisons) -> list[ComparisonsView]:
    """The comparisons of a study, by evaluation set in the order of the tables."""
    sets = dict.fromkeys((row.data_set, row.split) for row in comparisons.aurocs)
    return [_compared(comparisons, *names) for names in sets]


def _compared(comparisons: Comparisons, data_set: str, split: str) -> ComparisonsView:
    here = [row for row in comparisons.aurocs if (row.data_set, row.split) == (data_set, split)]
    targets = dict.fromkeys(row.target for row in here if row.target not in ("", MACRO))
    decided = [
        row for row in comparisons.thresholds if (row.data_set, row.split) == (data_set, split)
    ]
    return replace(
        _comparisons(f"{data_set}, {split}", [row for row in here if row.target in ("", MACRO)]),
        thresholds=tuple(decided),
        targets=tuple(
            _comparisons(target, [row for row in here if row.target == target])
            for target in targets
        ),
    )


def _comparisons(name: str, here: Sequence[ComparisonRow]) -> ComparisonsView:
    """The rows of one set and target."""
    against = [row for row in here if row.kind == "reference"]
    return ComparisonsView(
        name,
        tuple(row for row in here if row.kind == "mean"),
        tuple(row for row in here if row.kind == "without_privacy"),
        {
            name: tuple(row for row in against if row.against == name)
            for name in dict.fromkeys(row.against for row in against)
        },
        (),
    )


def _fairness(
    study: Path,
    rows: Sequence[ResultRow],
    asked: FairnessSettings | None,
    judged: Sequence[FairnessRow] | None,
) -> dict[str, Any]:
    """Groups by attribute, `judged` or read; `fairness.html.j2` shows them."""
    try:
        if judged is None:
            judged = fairness_of(study, rows, asked)
    except InputError as error:
        if asked is not None:
            raise
        return {"fairness": [], "fairness_problem": _reason(error)}
    return {"fairness": fairness_views(judged), "fairness_problem": ""}


@dataclass(frozen=True)
class FairnessView:
    """One attribute, as `fairness.html.j2` shows it: groups as rows, and what lies between them.

    `groups` and `between` go by strategy, epsilon and (for groups) name: a row of the table that
    says which, and its figures by measure. `through` has the figures through all epsilons.
    """

    title: str
    attribute: str
    target: str
    thresholds: tuple[float, ...]
    groups: tuple[tuple[FairnessRow, Mapping[str, FairnessRow]], ...]
    between: tuple[tuple[FairnessRow, Mapping[str, FairnessRow]], ...]
    through: tuple[FairnessRow, ...]


def fairness_views(rows: Sequence[FairnessRow]) -> list[FairnessView]:
    """The table by set, target and attribute, as a report shows it; means over targets first."""
    parts: dict[tuple[str, ...], list[FairnessRow]] = {}
    for row in rows:
        parts.setdefault((row.data_set, row.split, row.target, row.attribute), []).append(row)
    sets = list(dict.fromkeys(key[:2] for key in parts))
    in_order = sorted(parts, key=lambda key: (sets.index(key[:2]), key[2] != MACRO))
    return [_fairness_view(parts[key]) for key in in_order]


def _fairness_view(rows: Sequence[FairnessRow]) -> FairnessView:
    first = rows[0]
    lines: dict[tuple[object, ...], dict[str, FairnessRow]] = {}
    for row in (row for row in rows if row.epsilon != "all"):
        lines.setdefault((cell_key(row), row.group), {})[row.measure] = row
    shown = [(next(iter(figures.values())), figures) for figures in lines.values()]
    return FairnessView(
        title=f"{first.data_set}, {first.split}",
        attribute=first.attribute,
        target=first.target,
        thresholds=tuple(sorted({row.threshold for row in rows if row.threshold is not None})),
        groups=tuple(pair for pair in shown if pair[0].group),
        between=tuple(pair for pair in shown if not pair[0].group),
        through=tuple(row for row in rows if row.epsilon == "all"),
    )


def _transfer(
    study: Path,
    rows: Sequence[ResultRow],
    compared: Sequence[TransferRow] | None,
    *,
    asked: bool,
) -> dict[str, Any]:
    """Sites side by side, `compared` or read; `transfer.html.j2` shows them."""
    try:
        if compared is None:
            compared = transfer_of(study, rows, asked=asked)
    except InputError as error:
        if asked:
            raise
        return {"transfer": [], "transfer_problem": _reason(error), "drops": []}
    return {
        "transfer": transfer_views(compared),
        "transfer_problem": "",
        "below_chance": sorted(filter(_is_below_chance, compared), key=_may_be_chance),
        "surely_below": sum(not _may_be_chance(row) for row in compared if _is_below_chance(row)),
        "drops": drop_views(compared),
        "decisions": DECISIONS,
    }


def _is_below_chance(row: TransferRow) -> bool:
    return any(words in row.note for words in (BELOW_CHANCE, MAYBE_BELOW_CHANCE))


def _may_be_chance(row: TransferRow) -> bool:
    return MAYBE_BELOW_CHANCE in row.note


@dataclass(frozen=True)
class TransferView:
    """The sites by one target, as `transfer.html.j2` shows them: cells with their figures."""

    target: str
    lines: Sequence[tuple[TransferRow, Mapping[str, TransferRow]]]


def transfer_views(rows: Sequence[TransferRow]) -> list[TransferView]:
    """The table by target, the mean over several first."""
    lines = transfer_lines(rows)
    targets = sorted(dict.fromkeys(row.target for row, _ in lines), key=lambda one: one != MACRO)
    return [
        TransferView(target, [line for line in lines if line[0].target == target])
        for target in targets
    ]


def transfer_lines(
    rows: Sequence[TransferRow],
) -> list[tuple[TransferRow, Mapping[str, TransferRow]]]:
    """The table as `transfer.html.j2` shows it: for each cell, target and split its figures.

    Of several sites of training the drop is that from the first.
    """
    lines: dict[tuple[object, ...], dict[str, TransferRow]] = {}
    for row in (row for row in rows if row.trained_on != ELSEWHERE):
        key = (row.target, cell_key(row), row.data_set, row.split)
        lines.setdefault(key, {}).setdefault(row.measure, row)
    shown = [(figures["auroc"], figures) for figures in lines.values()]
    strategies = list(dict.fromkeys(row.strategy for row, _ in shown))

    def order(line: tuple[TransferRow, Mapping[str, TransferRow]]) -> tuple[object, ...]:
        row, _ = line
        epsilon = row.epsilon if isinstance(row.epsilon, float) else math.inf
        recipe = (row.target, strategies.index(row.strategy), row.trained_on, epsilon, row.tuned)
        return *recipe, row.domain != "internal", row.data_set, row.split

    return sorted(shown, key=order)


def drop_views(rows: Sequence[TransferRow]) -> list[TransferView]:
    """The mean drops at each site by target, the mean over several first."""
    lines: dict[tuple[object, ...], dict[str, TransferRow]] = {}
    for row in (row for row in rows if row.trained_on == ELSEWHERE):
        key = (cell_key(row), row.data_set, row.split, row.target)
        lines.setdefault(key, {})[row.measure] = row
    shown = [(next(iter(figures.values())), figures) for figures in lines.values()]
    targets = sorted(dict.fromkeys(row.target for row, _ in shown), key=lambda one: one != MACRO)

    def order(line: tuple[TransferRow, Mapping[str, TransferRow]]) -> tuple[object, ...]:
        row, _ = line
        epsilon = row.epsilon if isinstance(row.epsilon, float) else math.inf
        return row.data_set, row.split, row.strategy, epsilon

    return [
        TransferView(
            target, sorted((line for line in shown if line[0].target == target), key=order)
        )
        for target in targets
    ]


def _shortcut(study: Path, rows: Sequence[ResultRow], *, asked: bool) -> dict[str, Any]:
    """Models beside a probe of few pixels; `shortcut.html.j2` shows them."""
    try:
        table = shortcut_of(study, rows, asked=asked)
    except InputError as error:
        if asked:
            raise
        return {"shortcut": [], "shortcut_problem": _reason(error)}
    return {
        "shortcut": shortcut_lines(table),
        "shortcut_problem": "",
        "shortcut_words": shortcut_words(table),
    }


def shortcut_lines(
    table: Sequence[ShortcutRow],
) -> list[tuple[ShortcutRow, Sequence[ShortcutRow]]]:
    """Each probe, and what models gain over it."""
    return [
        (
            probe,
            [
                row
                for row in table
                if row.measure == "gain"
                and (row.data_set, row.split, row.target)
                == (probe.data_set, probe.split, probe.target)
            ],
        )
        for probe in table
        if probe.strategy == PIXELS
    ]


# Data sets: patches, and the assessment of the synthetic set; `sets.html.j2` shows them.


@dataclass(frozen=True)
class PatchesView:
    """Patches as `sets.html.j2` shows them, with their set's promise, or why there are none."""

    title: str
    classes: tuple[ClassPatches, ...] = ()
    promise: PromiseView | None = None
    problem: str = ""


def shown_patches(study: Path, record: StudyRecord, *, show_real: bool) -> Iterator[PatchesView]:
    """The galleries of a study: of its synthetic set, and of patients where that is allowed."""
    facts = record.facts
    if facts.real is not None and show_real:
        yield _patches_of(study, facts.real, "Real patches", record)
    if facts.synthetic is not None:
        yield _patches_of(study, facts.synthetic, "Synthetic patches", record)


def _patches_of(study: Path, path: Path, title: str, record: StudyRecord) -> PatchesView:
    try:
        dataset = open_dataset(seen_from(study, path))
        classes = tuple(class_patches(dataset))
    except InputError as error:
        return PatchesView(title, problem=f"The data set can't be shown: {_reason(error)}")
    if dataset.info.protects_patients:
        phantoms = dataset.info.kind == "phantom"
        what = "Phantoms in place of patients" if phantoms else title
        return PatchesView(f"{what}: {dataset.info.name}", classes)
    lineage = dataset.info.lineage
    stated = next(iter(record.statements.values()), None)
    statement = make_statement(
        lineage,
        subject="data set",
        delta=stated.delta if stated else 1e-4,
        unit=lineage.unit,
        population=stated.population if stated else None,
    )
    promise = PromiseView("Promise of this set", statement.epsilon, (statement_html(statement),))
    return PatchesView(f"{title}: {dataset.info.name}", classes, promise)


@dataclass(frozen=True)
class AssessmentView:
    """The assessment of the study's synthetic set, as `sets.html.j2` shows it, or why it can't.

    `pairs` is the picture of its closest pairs as a data URI: it shows patients' images, so it is
    empty unless these may be shown.
    """

    assessment: Assessment | None = None
    problem: str = ""
    pairs: str = ""


def shown_assessment(study: Path, path: Path | None, *, show_real: bool) -> AssessmentView | None:
    """The assessment that the study names, None where it names none.

    It holds exact figures of patients, so a released study has none.
    """
    if path is None:
        return None
    folder = seen_from(study, path)
    try:
        assessment = read_assessment(folder)
    except InputError as error:
        return AssessmentView(problem=_reason(error))
    file = folder / CLOSEST_PAIRS_FILE
    if not show_real or not file.is_file() or file.stat().st_size > MAX_PAIRS_BYTES:
        return AssessmentView(assessment)
    picture = base64.b64encode(file.read_bytes()).decode()
    return AssessmentView(assessment, pairs=f"data:image/png;base64,{picture}")
