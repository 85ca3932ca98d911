"""The study stage: plan a grid, check it, run it, compare what came of it, and report."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM

from synthdp.cards import plain_card
from synthdp.data.dataset import open_dataset, read_info
from synthdp.errors import RunError
from synthdp.interrupts import handled, interrupt
from synthdp.paths import without_paths
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.plan import with_records
from synthdp.privacy.stated import read_statement
from synthdp.privacy.statement import Statement, make_statement
from synthdp.runs import Run, RunBusyError, open_run, spelled_as_started
from synthdp.stages import STAGES
from synthdp.study.compare.defaults import DEFAULTS_FILE, write_defaults
from synthdp.study.compare.fairness import judge_study
from synthdp.study.compare.results import (
    RESULTS_FILE,
    result_rows,
    rounded_rows,
    write_results,
)
from synthdp.study.compare.transfer import compare_sites, compares_sites
from synthdp.study.record import write_facts
from synthdp.study.report.page import REPORT_FILE, ReportSettings, write_report
from synthdp.study.settings import WHERE_IT_RUNS, StudySettings
from synthdp.study.sweep.grid import (
    GridRow,
    expand_evaluations,
    expand_grid,
    refuse_unfit_grid,
    refuse_unfit_sets,
    shard_rows,
)
from synthdp.study.sweep.run import run_grid
from synthdp.study.sweep.state import (
    is_finished,
    locked_study,
    missing_calls,
    open_shared_study,
    record_failures,
    recorded_failures,
    refuse_changed_study,
)
from synthdp.study.sweep.tuning import tuning_lineage

log = logging.getLogger(__name__)


def plan_study(settings: StudySettings) -> Statement:
    """The promise of publishing all runs of the study, before any image is read.

    Raises:
        InputError: when the grid or an ingredient does not fit.
    """
    settings = spelled_as_started(settings.out, settings)
    refuse_unfit_sets(settings)
    rows = expand_grid(settings)
    refuse_unfit_grid(settings, rows)
    tuned_on = _tuned_on(settings, rows)
    planned: dict[Path, Lineage] = {}  # by folder: what later stages of a recipe start from
    for row in rows:
        for call in row.calls:
            if call.out not in planned:
                statement = STAGES[call.stage].planned(call.settings, planned)
                planned[call.out] = statement.lineage if statement is not None else Lineage()
    return _study_statement(settings, [*planned.values(), tuned_on.lineage])


def run_study(settings: StudySettings) -> Path:
    """Run what is missing, then write `results.csv`, the study's statement and `report.html`.

    A study that tunes writes `defaults.yaml` too. A shard runs its part alone, and writes the rest
    when it is the last one.

    Raises:
        InputError: when the grid or an ingredient does not fit; nothing has run then.
        RunBusyError: when another process is at work on the study and does not share it.
        RunError: when a run failed, whose error stands in `results.csv`, or the cluster went away.
    """
    settings = spelled_as_started(settings.out, settings)
    # What a study began with was checked then, and may be gone by now.
    if not (settings.out / REPORT_FILE).is_file():
        refuse_unfit_sets(settings)
    rows = expand_grid(settings)
    if not (settings.out / "privacy.json").is_file():  # written last: the study is not finished
        refuse_unfit_grid(settings, rows)
        _tuned_on(settings, rows)
    if settings.shard is not None:
        return _run_shard(settings, rows)
    return _run_whole(settings, rows, retry=True)


def _run_whole(settings: StudySettings, rows: Sequence[GridRow], *, retry: bool) -> Path:
    """Run what is missing, with `retry` what failed before too, and write the results of all."""
    with (
        locked_study(settings.out, shared=False),
        open_run(settings.out, "study", settings, free=WHERE_IT_RUNS) as run,
    ):
        refuse_changed_study(settings.out)
        if not run.finished:
            failed = {} if retry else _unmade_models(settings.out, rows)[1]
            _run_and_report(settings, run, rows, failed)
    return settings.out / REPORT_FILE


def _run_and_report(
    settings: StudySettings, run: Run, rows: Sequence[GridRow], failed: Mapping[str, str]
) -> None:
    """Run and score the models, those that `failed` apart; compare them, report, state."""
    began, tuned_on = time.monotonic(), _tuned_on(settings, rows)
    evaluations = expand_evaluations(settings, rows)
    tried = [one for one in evaluations if one.row.model.name not in failed]
    failures = {**failed, **run_grid(settings, tried)}
    refuse_changed_study(settings.out)  # while it was at work
    record_failures(settings.out, [row.model.name for row in rows], failures)

    results = result_rows(evaluations, failures)
    write_results(settings.out / RESULTS_FILE, results)
    scored_on, fairness, transfer = settings.evaluation_sets, None, None
    if settings.fairness is not None:
        judged = judge_study(settings.out, results, scored_on, settings.fairness)
        fairness = rounded_rows(judged)
    if compares_sites(settings):
        compared = compare_sites(settings.out, results, scored_on, settings.data)
        transfer = rounded_rows(compared)

    write_facts(settings, time.monotonic() - began)
    lost = {result.run for result in results if result.state == "failed"}
    finished = [row for row in rows if row.model.name not in lost]
    lineages = [read_statement(row.model).lineage for row in finished]
    statement = _study_statement(settings, [*lineages, tuned_on.lineage])
    report = ReportSettings(study=settings.out, statement=statement)
    write_report(report, results, fairness=fairness, transfer=transfer)
    if lost:
        raise RunError(
            f"{len(lost)} run(s) failed, {len(finished)} of {len(rows)} models stand; each "
            "error is in results.csv, and the same command tries the failed ones again"
        )
    if settings.tune is not None:
        write_defaults(settings.out / DEFAULTS_FILE, results, tuned_on)
    run.finish(statement, plain_card(settings.title, statement))


def _run_shard(settings: StudySettings, rows: Sequence[GridRow]) -> Path:
    """Run a shard's part; whichever shard finds that none is left to run writes the results."""
    whole = settings.model_copy(update={"shard": None})
    own_rows = shard_rows(rows, *settings.parsed_shard)
    own, models = ({row.model.name for row in some} for some in (own_rows, rows))
    with locked_study(settings.out, shared=True), handled((SIGTERM,), interrupt):
        if open_shared_study(whole):
            return settings.out / REPORT_FILE
        refuse_changed_study(settings.out)
        failures = run_grid(settings, expand_evaluations(settings, own_rows))
        record_failures(settings.out, own, failures)
    # The lock is let go before looking, so that the last shard to look sees all, and is alone.
    to_run, failed = _unmade_models(settings.out, rows)
    if not to_run:
        with suppress(RunBusyError):  # another shard is at it, or will find the same
            return _run_whole(whole, rows, retry=False)
    state = (
        f"shard {settings.shard}: {len(own - {*failures})} of its {len(own)} models stand, "
        f"{len(models - {*to_run, *failed})} of all {len(models)}"
    )
    if failures:
        errors = "\n  ".join(f"{name}: {without_paths(failures[name])}" for name in failures)
        raise RunError(f"{state}; the same command tries again what failed:\n  {errors}")
    log.info("%s; the last shard, or the command without --shard, writes the results", state)
    return settings.out


def _unmade_models(study: Path, rows: Sequence[GridRow]) -> tuple[list[str], dict[str, str]]:
    """The models that are still to be run, and the errors of those that failed before."""
    missing, cut = missing_calls({row.model.name: row.calls[-1] for row in rows}, is_finished)
    errors = {**recorded_failures(study), **cut}
    failed = {model: errors[model] for model in (*missing, *cut) if model in errors}
    return [model for model in missing if model not in failed], failed


def _tuned_on(settings: StudySettings, rows: Sequence[GridRow]) -> Statement:
    """The promise behind tuned values, which descend from the sets that they are chosen on.

    Raises:
        InputError: when scores of a set may not choose among values, or its promise has another
            unit than the study.
    """
    lineage = Lineage()
    if settings.tune is not None:
        lineage = tuning_lineage(settings.sets, [call for row in rows for call in row.calls])
    return _statement(settings, lineage, "choice of tuned settings")


def _study_statement(settings: StudySettings, lineages: Iterable[Lineage]) -> Statement:
    """The promise of publishing models of these lineages, and the patches that the report shows."""
    shown = [path for path in (settings.synthetic, settings.phantoms) if path is not None]
    lineage = Lineage().joined([*lineages, *(read_info(path).lineage for path in shown)])
    statement = _statement(settings, lineage, "study, all of its runs published together")
    return with_records(statement, [open_dataset(settings.data)])


def _statement(settings: StudySettings, lineage: Lineage, subject: str) -> Statement:
    return make_statement(
        lineage,
        subject=subject,
        delta=settings.privacy.delta,
        unit=settings.privacy.unit,
        population=settings.privacy.population,
    )
