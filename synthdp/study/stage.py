"""The study stage: plan a grid, check it, run it, compare what came of it, and report."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM

from synthdp.errors import RunError
from synthdp.machine.interrupts import handled, interrupt
from synthdp.privacy.promise.stated import read_statement
from synthdp.runs.cards import plain_card
from synthdp.runs.folder import Run, RunBusyError, open_run, spelled_as_started
from synthdp.storage.paths import without_paths
from synthdp.study.compare.cross_validated import laid_together
from synthdp.study.compare.defaults import DEFAULTS_FILE, write_defaults
from synthdp.study.compare.fairness import judge_study
from synthdp.study.compare.results import (
    NOT_RUN,
    RESULTS_FILE,
    headline_rows,
    result_rows,
    rounded_rows,
    write_results,
)
from synthdp.study.compare.shortcut import compare_with_pixels
from synthdp.study.compare.transfer.table import compare_sites, compares_sites
from synthdp.study.estimate import study_seconds, workers_estimate
from synthdp.study.plan import plan_calls, refuse_overspent_sets, study_statement, tuned_promise
from synthdp.study.record import other_statements, study_title, write_facts
from synthdp.study.report.page import REPORT_FILE, write_report
from synthdp.study.report.settings import ReportSettings
from synthdp.study.settings import FREE, StudySettings
from synthdp.study.sweep.grid import (
    Evaluation,
    GridRow,
    expand_evaluations,
    expand_grid,
    refuse_unfit_grid,
    refuse_unfit_sets,
    shard_rows,
)
from synthdp.study.sweep.run import run_grid
from synthdp.study.sweep.state import (
    as_registered,
    is_evaluated,
    is_finished,
    locked_study,
    missing_calls,
    open_shared_study,
    record_failures,
    recorded_failures,
    refuse_changed_study,
)

log = logging.getLogger(__name__)


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
        tuned_promise(settings, rows)
        if not (settings.out / "runs").exists():  # else it was looked at when the study began
            refuse_overspent_sets(plan_calls(rows, weights=True))
    if settings.shard is not None:
        return _run_shard(settings, rows)
    return _run_whole(settings, rows, retry=True)


def _run_whole(settings: StudySettings, rows: Sequence[GridRow], *, retry: bool) -> Path:
    """Run what is missing, with `retry` what failed before too, and write the results of all."""
    with (
        locked_study(settings.out, shared=False),
        open_run(settings.out, "study", as_registered(settings), free=FREE) as run,
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
    began, tuned_on = time.monotonic(), tuned_promise(settings, rows)
    evaluations = expand_evaluations(settings, rows)
    expected_s = None
    if not (settings.out / "runs").exists():
        expected_s = study_seconds(settings, rows)
        log.info("study: %s", workers_estimate(settings, expected_s))
    tried = [one for one in evaluations if one.row.model.name not in failed]
    try:
        failures = {**failed, **run_grid(settings, tried, expected_s=expected_s)}
    except KeyboardInterrupt:
        _keep_what_is_scored(settings.out, evaluations, failed)
        raise
    refuse_changed_study(settings.out)  # while it was at work
    record_failures(settings.out, [row.model.name for row in rows], failures)

    results = result_rows(*laid_together(settings.out, evaluations, failures))
    write_results(settings.out / RESULTS_FILE, results)
    scored_on, fairness, transfer = settings.evaluation_sets, None, None
    models = headline_rows(results)
    if settings.fairness is not None:
        judged = judge_study(settings.out, models, scored_on, settings.fairness)
        fairness = rounded_rows(judged)
    if compares_sites(settings):
        compared = compare_sites(settings.out, models, scored_on, settings.data)
        transfer = rounded_rows(compared)
    if settings.shortcut:  # the report reads what is written here
        compare_with_pixels(settings.out, models, scored_on, settings.data)

    write_facts(settings, time.monotonic() - began)
    finished = [row for row in rows if row.model.name not in failures]
    unscored = {result.run for result in results if result.state == "failed"}
    # of a cell that lost one fold the other models stand, and spent what they spent
    finished = [row for row in finished if row.fold is not None or row.model.name not in unscored]
    lost = {row.model.name for row in rows} - {row.model.name for row in finished}
    lineages = [read_statement(row.model).lineage for row in finished]
    # so did a generator whose classifiers failed
    known = {row.model.name for row in finished}
    lineages += [one.lineage for one in other_statements(settings.out, known).values()]
    statement = study_statement(settings, [*lineages, tuned_on.lineage])
    report = ReportSettings(study=settings.out, statement=statement)
    write_report(report, results, fairness=fairness, transfer=transfer)
    if lost:
        raise RunError(
            f"{len(lost)} run(s) failed, {len(finished)} of {len(rows)} models stand; each "
            "error is in results.csv, and the same command tries the failed ones again"
        )
    if settings.tune is not None:
        write_defaults(settings.out / DEFAULTS_FILE, models, tuned_on)
    run.finish(statement, plain_card(study_title(settings), statement))


def _keep_what_is_scored(
    study: Path, evaluations: Sequence[Evaluation], failed: Mapping[str, str]
) -> None:
    """Write the results of a study that is interrupted; what is missing is told there as failed."""
    unscored, _ = missing_calls({one.call.folder: one.call for one in evaluations}, is_evaluated)
    models = {one.row.model.name for one in evaluations}
    missing = {one.row.model.name for one in evaluations if one.call.folder in unscored}
    if missing == models:
        return
    failures = {**dict.fromkeys(missing, NOT_RUN), **failed}
    write_results(study / RESULTS_FILE, result_rows(*laid_together(study, evaluations, failures)))
    log.info(
        "study: results.csv has the scores of %d of its %d models",
        len(models - missing),
        len(models),
    )


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
