"""The grid of a study -> runs, on joblib; what cells share is run once.

Every run is a folder named by a hash of its settings, so a study that was interrupted goes on
where it stood: finished runs return at once, a failed one is tried again, the rest go on.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM

from synthdp.errors import InputError, RunError
from synthdp.interrupts import handled, interrupt
from synthdp.paths import without_paths
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.statement import Statement, read_statement
from synthdp.runs import Run, RunBusyError, StageCall, open_run
from synthdp.stages import STAGES
from synthdp.study.compare.fairness import fairness_of
from synthdp.study.compare.results import write_results
from synthdp.study.compare.transfer import transfer_of
from synthdp.study.record import study_statement, tuned_on, write_facts
from synthdp.study.report.page import ReportSettings, run_report
from synthdp.study.settings import StudySettings
from synthdp.study.sweep.checks import (
    refuse_contradictions,
    refuse_other_assessment,
    refuse_unfit_sets,
)
from synthdp.study.sweep.countdown import Job, Kind
from synthdp.study.sweep.defaults import DEFAULTS_FILE, write_defaults
from synthdp.study.sweep.engine import WHERE_IT_RUNS, EngineSettings, opened_engine
from synthdp.study.sweep.grid import GridRow, expand_grid
from synthdp.study.sweep.scheduler import Crew, crew_of, parent_of, to_do
from synthdp.study.sweep.state import (
    claimed,
    evaluations_of,
    is_evaluated,
    is_finished,
    joined,
    other_versions,
    part_of,
    record_failures,
    recorded_failures,
    result_rows,
    seconds_taken,
)

log = logging.getLogger(__name__)


def plan_study(settings: StudySettings) -> Statement:
    """The promise of publishing all runs of the study, before any image is read."""
    refuse_other_assessment(settings)
    refuse_unfit_sets(settings)
    rows = expand_grid(settings)
    refuse_contradictions(settings, rows)
    chosen_on = tuned_on(settings, rows)
    to_come: dict[Path, Lineage] = {}
    for row in rows:
        for call in row.calls:
            if call.out not in to_come:
                statement = STAGES[call.stage].planned(call.settings, to_come)
                to_come[call.out] = statement.lineage if statement is not None else Lineage()
    return study_statement(settings, [*to_come.values(), chosen_on.lineage])


def run_study(settings: StudySettings) -> Path:
    """Run what is missing, then write `results.csv`, the study's statement and `report.html`.

    A study that tunes writes `defaults.yaml` too. A shard runs its part alone, and writes the rest
    when it is the last one.

    Raises:
        InputError: when the grid or an ingredient does not fit; nothing has run then.
        RunBusyError: when another process is at work on the study and does not share it.
        RunError: when a run failed, whose error stands in `results.csv`, or the cluster went away.
    """
    if not (settings.out / "report.html").is_file():  # else it began with the right one
        refuse_other_assessment(settings)
        refuse_unfit_sets(settings)
    rows = expand_grid(settings)
    if not (settings.out / "privacy.json").is_file():  # written last: else it is finished
        refuse_contradictions(settings, rows)
        tuned_on(settings, rows)
    if settings.shard is not None:
        return _run_shard(settings, rows)
    return _run_whole(settings, rows, retry=True)


def _run_whole(settings: StudySettings, rows: Sequence[GridRow], *, retry: bool) -> Path:
    """Run what is missing, with `retry` what failed before too, and write the results of all."""
    with (
        claimed(settings.out, shared=False),
        open_run(settings.out, "study", settings, free=WHERE_IT_RUNS) as run,
    ):
        if not run.finished:
            failed = {} if retry else _standing(settings, rows)[1]
            _run_study(settings, run, rows, failed)
    return settings.out / "report.html"


def _run_shard(settings: StudySettings, rows: Sequence[GridRow]) -> Path:
    """Run a shard's part; whichever shard finds that none is left to run writes the results."""
    whole = settings.model_copy(update={"shard": None})
    part = part_of(rows, *settings.part)
    own, models = ({row.model.name for row in some} for some in (part, rows))
    with claimed(settings.out, shared=True), handled((SIGTERM,), interrupt):
        if joined(whole):
            return settings.out / "report.html"
        failures = _run_and_evaluate(settings, part)
        record_failures(settings.out, own, failures)
    # the claim is let go before looking: so the last one to look sees all, and is alone
    to_run, failed = _standing(settings, rows)
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


def _standing(settings: StudySettings, rows: Sequence[GridRow]) -> tuple[list[str], dict[str, str]]:
    """The models that are still to be run, and the errors of those that failed before."""
    missing, cut = to_do({row.model.name: row.calls[-1] for row in rows}, is_finished)
    told = {**recorded_failures(settings.out), **cut}
    failed = {run: told[run] for run in (*missing, *cut) if run in told}
    return [run for run in missing if run not in failed], failed


def _run_study(
    settings: StudySettings, run: Run, rows: Sequence[GridRow], failed: Mapping[str, str]
) -> None:
    began, chosen_on = time.monotonic(), tuned_on(settings, rows)
    tried = [row for row in rows if row.model.name not in failed]
    failures = {**failed, **_run_and_evaluate(settings, tried)}
    record_failures(settings.out, [row.model.name for row in rows], failures)
    results = list(result_rows(settings, rows, failures))
    write_results(settings.out / "results.csv", results)
    if settings.fairness is not None:
        fairness_of(settings.out, results, settings.fairness)
    transfer_of(settings.out, results, anew=True)
    write_facts(settings, time.monotonic() - began)
    lost = {result.run for result in results if result.state == "failed"}
    finished = [row for row in rows if row.calls[-1].folder not in lost]
    lineages = [read_statement(row.model).lineage for row in finished]
    statement = study_statement(settings, [*lineages, chosen_on.lineage])
    run_report(ReportSettings(study=settings.out, statement=statement))
    if lost:
        raise RunError(
            f"{len(lost)} run(s) failed, {len(finished)} of {len(rows)} models stand; each "
            "error is in results.csv, and the same command tries the failed ones again"
        )
    if settings.tune is not None:
        write_defaults(settings.out / DEFAULTS_FILE, results, chosen_on)
    run.finish(statement, f"# {settings.title}\n\n{statement.to_text()}\n")


def _distinct(rows: Sequence[GridRow]) -> dict[str, StageCall]:
    """Every distinct call by its folder, those that others start from first.

    They come first since they are the longest too, and the others fill the gaps.
    """
    parents = {parent_of(call) for row in rows for call in row.calls}
    placed = {(depth, call.folder): call for row in rows for depth, call in enumerate(row.calls)}
    order = sorted(placed, key=lambda place: (place[0], place[1] not in parents, place[1]))
    return {folder: placed[depth, folder] for depth, folder in order}


def _run_and_evaluate(settings: StudySettings, rows: Sequence[GridRow]) -> dict[str, str]:
    """Run and score what is missing; returns failures by the folder of the run."""
    calls = _distinct(rows)
    runs, failures = to_do(calls, is_finished)
    _say_what_stands(settings, [folder for folder in calls if folder not in {**runs, **failures}])
    evaluations = evaluations_of(settings, rows, failures)
    missing, _ = to_do({call.folder: call for call, _ in evaluations}, is_evaluated)
    kinds = _kinds(rows, evaluations)
    jobs = {
        folder: Job(kinds[folder], parent_of(call)) for folder, call in {**runs, **missing}.items()
    }
    earlier = [(kinds[folder], took) for folder, took in seconds_taken(calls.values()).items()]
    with (
        opened_engine(settings if jobs else EngineSettings()) as engine,
        crew_of(engine, jobs, earlier) as crew,
    ):
        failures |= crew.run(attempt, runs, failures)
        return failures | _evaluate_all(settings, rows, failures, crew)


def _kinds(
    rows: Sequence[GridRow], evaluations: Sequence[tuple[StageCall, str]]
) -> dict[str, Kind]:
    """What decides how long each call takes, by folder; a shared one goes by its first row."""
    found, recipes = dict[str, Kind](), dict[str, Kind]()
    for row in rows:
        recipe = (row.strategy, row.trained_on, row.tuned, f"{row.epsilon}")
        recipes.setdefault(row.model.name, recipe)
        for call in row.calls:
            found.setdefault(call.folder, (call.stage, *recipe))
    for call, owner in evaluations:
        place = (str(call.setting("dataset")), str(call.setting("split")))
        found.setdefault(call.folder, (call.stage, *place, *recipes[owner]))
    return found


def _say_what_stands(settings: StudySettings, finished: Sequence[str]) -> None:
    if finished:
        log.info("%d run(s) are finished already", len(finished))
    differing = other_versions(settings.out / "runs" / folder for folder in finished)
    if differing:
        log.warning(
            "of the finished runs %s: results may differ; delete what should be made again",
            ", ".join(differing),
        )


def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
    """Run one call in a worker; an error becomes text, so that the other runs go on."""
    import torch  # noqa: PLC0415 (in the worker, after its thread limit is set)

    torch.set_num_threads(threads)
    try:
        STAGES[call.stage].start(call.settings)
    except RunBusyError:
        raise
    except (InputError, RunError) as error:
        if not _made_elsewhere(call):
            return call.folder, str(error)
    return call.folder, None


def _made_elsewhere(call: StageCall) -> bool:
    """Whether an evaluation, which takes no lock, was finished by another process meanwhile."""
    with suppress(InputError):
        return call.stage == "evaluate" and is_evaluated(call.out)
    return False


def _evaluate_all(
    settings: StudySettings, rows: Sequence[GridRow], failures: Mapping[str, str], crew: Crew
) -> dict[str, str]:
    """Score every model on every set; returns failures by the folder of the model's run."""
    pairs = evaluations_of(settings, rows, failures)
    owners = {call.folder: owner for call, owner in pairs}
    missing, failed = to_do({call.folder: call for call, _ in pairs}, is_evaluated)
    failed |= crew.run(attempt, missing, {})
    return {owners[folder]: error for folder, error in failed.items()}
