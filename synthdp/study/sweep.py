"""The grid of a study -> runs, on joblib; what cells share is run once.

Every run is a folder named by a hash of its settings, so a study that was interrupted goes on
where it stood: finished runs return at once, a failed one is tried again, the rest go on.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from synthdp.config import validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError, RunError
from synthdp.evaluation.assessment import read_assessment
from synthdp.files import read_json, write_json
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.statement import Statement, make_statement
from synthdp.runs import Run, RunBusyError, StageCall, open_run, read_statement
from synthdp.stages import STAGES
from synthdp.study.claims import claimed, joined, part_of
from synthdp.study.compare import ResultRow, evaluation_row, failed_row, write_results
from synthdp.study.comparisons import ComparePlan, FixedOn
from synthdp.study.contradictions import refuse_contradictions
from synthdp.study.defaults import DEFAULTS_FILE, write_defaults
from synthdp.study.engine import WHERE_IT_RUNS, EngineSettings, opened_engine
from synthdp.study.fairness import fairness_of, refuse_unfit_attributes
from synthdp.study.grid import (
    CompareSettings,
    EvaluateOn,
    GridRow,
    StudySettings,
    expand_grid,
)
from synthdp.study.places import without_paths
from synthdp.study.predictions import evaluation_folder
from synthdp.study.report import ReportSettings, run_report
from synthdp.study.rounds import Crew, crew_of, parent_of, to_do
from synthdp.study.standing import is_evaluated, is_finished, other_versions, seconds_by_stage
from synthdp.study.transfer import refuse_unfit_sites, transfer_of
from synthdp.study.tuning import tuning_lineage

log = logging.getLogger(__name__)


def plan_study(settings: StudySettings) -> Statement:
    """The promise of publishing all runs of the study, before any image is read."""
    _refuse_other_assessment(settings)
    _refuse_unfit_sets(settings)
    rows = expand_grid(settings)
    refuse_contradictions(settings, rows)
    tuned_on = _tuned_on(settings, rows)
    to_come: dict[Path, Lineage] = {}
    for row in rows:
        for call in row.calls:
            out = Path(call.settings["out"])
            if out not in to_come:
                stage = STAGES[call.stage]
                values = validate_settings(stage.settings_class(), call.settings, where=call.stage)
                statement = stage.planned(values, to_come)
                to_come[out] = statement.lineage if statement is not None else Lineage()
    return _study_statement(settings, [*to_come.values(), tuned_on.lineage])


def _tuned_on(settings: StudySettings, rows: Sequence[GridRow]) -> Statement:
    """What stands behind tuned values; refuses sets whose scores may not choose among them."""
    lineage = Lineage()
    if settings.tune is not None:
        lineage = tuning_lineage(settings.sets, [call for row in rows for call in row.calls])
    return _statement(settings, lineage, "choice of tuned settings")


def _study_statement(settings: StudySettings, lineages: Sequence[Lineage]) -> Statement:
    """The promise of publishing models of these lineages, and the patches that the report shows."""
    shown = [path for path in (settings.synthetic, settings.phantoms) if path is not None]
    lineage = Lineage().joined([*lineages, *(open_dataset(path).info.lineage for path in shown)])
    return _statement(settings, lineage, "study, all of its runs published together")


def _statement(settings: StudySettings, lineage: Lineage, subject: str) -> Statement:
    return make_statement(
        lineage,
        subject=subject,
        delta=settings.privacy.delta,
        unit=settings.privacy.unit,
        population=settings.privacy.population,
    )


def _refuse_other_assessment(settings: StudySettings) -> None:
    """Refuse an assessment that is missing, or of another set than the study's."""
    if settings.assessment is None or settings.synthetic is None:
        return
    assessed = read_assessment(settings.assessment).info
    if assessed != open_dataset(settings.synthetic).info:
        raise InputError(
            f"assessment: {settings.assessment.name!r} is of another synthetic set; name the one "
            "that `synthdp assess` made of this study's set, or leave it out"
        )


def _refuse_unfit_sets(settings: StudySettings) -> None:
    """Refuse sets that lack what their images are to be chosen or judged by."""
    if settings.fairness is not None:
        refuse_unfit_attributes(settings.fairness, settings.places)
    if settings.transfer is not None:
        refuse_unfit_sites(settings)


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
        _refuse_other_assessment(settings)
        _refuse_unfit_sets(settings)
    rows = expand_grid(settings)
    if not (settings.out / "privacy.json").is_file():  # written last: else it is finished
        refuse_contradictions(settings, rows)
        _tuned_on(settings, rows)
    if settings.shard is not None:
        return _run_shard(settings, rows)
    with (
        claimed(settings.out, shared=False),
        open_run(settings.out, "study", settings, free=WHERE_IT_RUNS) as run,
    ):
        if not run.finished:
            _run_study(settings, run, rows)
    return settings.out / "report.html"


def _run_shard(settings: StudySettings, rows: Sequence[GridRow]) -> Path:
    """Run a shard's part; whichever shard finds all models finished writes the results."""
    whole = settings.model_copy(update={"shard": None})
    own = part_of(rows, *settings.part)
    with claimed(settings.out, shared=True):
        if joined(whole):
            return settings.out / "report.html"
        failures = _run_and_evaluate(settings, own)
    # the claim is let go before looking: so the last one to look sees all, and is alone
    n_finished = sum(is_finished(_folder(settings, row.calls[-1])) for row in rows)
    state = (
        f"shard {settings.shard}: {len(own) - len(failures)} of its {len(own)} models stand, "
        f"{n_finished} of all {len(rows)}"
    )
    if failures:
        errors = "\n  ".join(f"{name}: {without_paths(failures[name])}" for name in failures)
        raise RunError(f"{state}; the same command tries again what failed:\n  {errors}")
    if n_finished == len(rows):
        with suppress(RunBusyError):  # another shard is at it, or will find the same
            return run_study(whole)
    log.info("%s; the last shard, or the command without --shard, writes the results", state)
    return settings.out


def _run_study(settings: StudySettings, run: Run, rows: Sequence[GridRow]) -> None:
    began, tuned_on = time.monotonic(), _tuned_on(settings, rows)
    failures = _run_and_evaluate(settings, rows)
    results = list(_results(settings, rows, failures))
    write_results(settings.out / "results.csv", results)
    if settings.fairness is not None:
        fairness_of(settings.out, results, settings.fairness)
    transfer_of(settings.out, results, anew=True)
    _describe(settings, time.monotonic() - began)
    lost = {result.run for result in results if result.state == "failed"}
    finished = [row for row in rows if row.calls[-1].folder not in lost]
    lineages = [read_statement(_folder(settings, row.calls[-1])).lineage for row in finished]
    statement = _study_statement(settings, [*lineages, tuned_on.lineage])
    run_report(ReportSettings(study=settings.out, statement=statement))
    if lost:
        raise RunError(
            f"{len(lost)} run(s) failed, {len(finished)} of {len(rows)} models stand; each "
            "error is in results.csv, and the same command tries the failed ones again"
        )
    if settings.tune is not None:
        write_defaults(settings.out / DEFAULTS_FILE, results, tuned_on)
    run.finish(statement, f"# {settings.title}\n\n{statement.to_text()}\n")


def _folder(settings: StudySettings, call: StageCall) -> Path:
    return settings.out / "runs" / call.folder


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
    evaluations = _evaluations(settings, rows, failures)
    missing, _ = to_do({call.folder: call for call, _ in evaluations}, is_evaluated)
    jobs = Counter(call.stage for call in (*runs.values(), *missing.values()))
    with opened_engine(settings if jobs else EngineSettings()) as engine:
        took = seconds_by_stage(calls.values())
        with crew_of(engine, jobs, took) as crew:
            failures |= crew.run(attempt, runs, failures)
            return failures | _evaluate_all(settings, rows, failures, crew)


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
    stage = STAGES[call.stage]
    try:
        stage.start(validate_settings(stage.settings_class(), call.settings, where=call.stage))
    except RunBusyError:
        raise
    except (InputError, RunError) as error:
        return call.folder, str(error)
    return call.folder, None


def _evaluation(settings: StudySettings, row: GridRow, where: EvaluateOn) -> StageCall:
    run = _folder(settings, row.calls[-1])
    out = evaluation_folder(settings.out, run.name, where.name, where.split)
    values = {"run": str(run), "dataset": str(where.data), "split": where.split, "out": str(out)}
    return StageCall("evaluate", {**values, "where": where.where})


def _evaluations(
    settings: StudySettings, rows: Sequence[GridRow], failures: Mapping[str, str]
) -> list[tuple[StageCall, str]]:
    """Every scoring of a model on a set, with the folder of the model's run."""
    return [
        (_evaluation(settings, row, where), row.calls[-1].folder)
        for row in rows
        if row.calls[-1].folder not in failures
        for where in settings.places
    ]


def _evaluate_all(
    settings: StudySettings, rows: Sequence[GridRow], failures: Mapping[str, str], crew: Crew
) -> dict[str, str]:
    """Score every model on every set; returns failures by the folder of the model's run."""
    pairs = _evaluations(settings, rows, failures)
    owners = {call.folder: owner for call, owner in pairs}
    missing, failed = to_do({call.folder: call for call, _ in pairs}, is_evaluated)
    failed |= crew.run(attempt, missing, {})
    return {owners[folder]: error for folder, error in failed.items()}


def _results(
    settings: StudySettings, rows: Sequence[GridRow], failures: Mapping[str, str]
) -> Iterator[ResultRow]:
    for row in rows:
        last = row.calls[-1]
        run = _folder(settings, last)
        for where in settings.places:
            cell: dict[str, Any] = {
                "strategy": row.strategy,
                "epsilon": row.epsilon,
                "seed": row.seed,
                "tuned": row.tuned,
                "trained_on": row.trained_on,
                "data_set": where.name,
                "split": where.split,
                "run": run.name,
            }
            error = failures.get(last.folder)
            try:
                if error is None:
                    out = Path(_evaluation(settings, row, where).settings["out"])
                    metrics, statement = read_json(out / "metrics.json"), read_statement(run)
            except InputError as problem:  # deleted since it was finished
                error = f"{run.name}: deleted or cut while the study was at work ({problem})"
            if error is not None:
                yield failed_row(**cell, error=error)
            else:
                yield evaluation_row(**cell, metrics=metrics, statement=statement)


def _describe(settings: StudySettings, seconds: float) -> None:
    """Write `study.json`, what the report needs beside the table; times add up over resumes."""
    path = settings.out / "study.json"
    before = read_json(path)["wall_time_s"] if path.is_file() else 0.0
    write_json(
        path,
        {
            "title": settings.title,
            "wall_time_s": round(before + seconds, 1),
            "synthetic": str(settings.synthetic) if settings.synthetic else None,
            "assessment": str(settings.assessment) if settings.assessment else None,
            "real": str(settings.data),
            "show_real": settings.report.show_real,
            "published": str(settings.published) if settings.published else None,
            "compare": _plan(settings.compare or CompareSettings()).model_dump(mode="json"),
        },
    )


def _plan(compare: CompareSettings) -> ComparePlan:
    """What is compared, with data sets by their names instead of their places."""
    fixed_on = None
    if compare.threshold_on is not None:
        on = compare.threshold_on
        fixed_on = FixedOn(data_set=on.name, split=on.split)
    return ComparePlan(
        reference=compare.reference,
        margin=compare.margin,
        redraws=compare.redraws,
        threshold_on=fixed_on,
        sensitivity=compare.sensitivity,
    )
