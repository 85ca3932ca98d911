"""The grid of a study -> runs, on joblib; what cells share is run once.

Every run is a folder named by a hash of its settings, so a study that was interrupted goes on
where it stood: finished runs return at once, a failed one is tried again, the rest go on.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config

from synthdp.config import validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError, RunError
from synthdp.evaluation.assessment import read_assessment
from synthdp.files import read_json, write_json
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.statement import Statement, make_statement
from synthdp.progress import progress
from synthdp.runs import Run, StageCall, open_run, read_statement
from synthdp.stages import STAGES
from synthdp.study.compare import ResultRow, evaluation_row, failed_row, write_results
from synthdp.study.comparisons import ComparePlan, FixedOn
from synthdp.study.defaults import DEFAULTS_FILE, write_defaults
from synthdp.study.fairness import fairness_of, refuse_unfit_attributes
from synthdp.study.grid import CompareSettings, EvaluateOn, GridRow, StudySettings, expand_grid
from synthdp.study.predictions import evaluation_folder
from synthdp.study.report import ReportSettings, run_report
from synthdp.study.transfer import refuse_unfit_sites, transfer_of
from synthdp.study.tuning import tuning_lineage

log = logging.getLogger(__name__)


def plan_study(settings: StudySettings) -> Statement:
    """The promise of publishing all runs of the study, before any image is read."""
    _refuse_other_assessment(settings)
    _refuse_unfit_sets(settings)
    rows = expand_grid(settings)
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

    A study that tunes writes `defaults.yaml` too.

    Raises:
        InputError: when the grid or an ingredient does not fit; nothing has run then.
        RunError: when no run finished; each failure stands in `results.csv`.
    """
    if not (settings.out / "report.html").is_file():  # else it began with the right one
        _refuse_other_assessment(settings)
        _refuse_unfit_sets(settings)
    rows = expand_grid(settings)
    if not (settings.out / "privacy.json").is_file():  # written last: else it is finished
        _tuned_on(settings, rows)
    with open_run(settings.out, "study", settings) as run:
        if not run.finished:
            _run_study(settings, run, rows)
    return settings.out / "report.html"


def _run_study(settings: StudySettings, run: Run, rows: Sequence[GridRow]) -> None:
    began, tuned_on = time.monotonic(), _tuned_on(settings, rows)
    failures = _run_levels(settings, rows)
    failures |= _evaluate_all(settings, rows, failures)
    results = list(_results(settings, rows, failures))
    write_results(settings.out / "results.csv", results)
    if settings.fairness is not None:
        fairness_of(settings.out, results, settings.fairness)
    transfer_of(settings.out, results, anew=True)
    _describe(settings, time.monotonic() - began)
    finished = [row for row in rows if row.calls[-1].folder not in failures]
    lineages = [read_statement(_folder(settings, row.calls[-1])).lineage for row in finished]
    statement = _study_statement(settings, [*lineages, tuned_on.lineage])
    run_report(ReportSettings(study=settings.out, statement=statement))
    if failures:
        raise RunError(
            f"{len(failures)} run(s) failed, {len(finished)} of {len(rows)} models stand; each "
            "error is in results.csv, and the same command tries the failed ones again"
        )
    if settings.tune is not None:
        write_defaults(settings.out / DEFAULTS_FILE, results, tuned_on)
    run.finish(statement, f"# {settings.title}\n\n{statement.to_text()}\n")


def _folder(settings: StudySettings, call: StageCall) -> Path:
    return settings.out / "runs" / call.folder


def _run_levels(settings: StudySettings, rows: Sequence[GridRow]) -> dict[str, str]:
    """Run every distinct call, first those that others start from; returns failures by folder.

    Within a level these come first too: they are the longest, and the others fill the gaps.
    """
    parents = {Path(call.settings.get("init") or "").name for row in rows for call in row.calls}
    placed = {(depth, call.folder): call for row in rows for depth, call in enumerate(row.calls)}
    failures: dict[str, str] = {}
    for depth, group in groupby(sorted(placed), key=lambda place: place[0]):
        calls = [placed[place] for place in group]
        ready = [call for call in calls if not _lost_parent(call, failures)]
        ready.sort(key=lambda call: call.folder not in parents)
        failures |= {
            call.folder: "the run that it starts from failed" for call in calls if call not in ready
        }
        failures |= _run_all(settings, ready, what=f"runs, level {depth + 1}")
    return failures


def _lost_parent(call: StageCall, failures: Mapping[str, str]) -> bool:
    init = call.settings.get("init")
    return init is not None and Path(init).name in failures


def _run_all(settings: StudySettings, calls: Sequence[StageCall], *, what: str) -> dict[str, str]:
    failures = {}
    with _engine(settings) as parallel:
        done = parallel(delayed(_attempt)(call, settings.threads) for call in calls)
        for folder, error in progress(done, what=what, total=len(calls)):
            if error is not None:
                failures[folder] = error
                log.warning("a run failed: %s", error)
    return failures


@contextmanager
def _engine(settings: StudySettings) -> Iterator[Parallel]:
    with parallel_config(backend="loky", inner_max_num_threads=settings.threads):
        yield Parallel(n_jobs=settings.workers, return_as="generator_unordered")


def _attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
    """Run one call in a worker; an error becomes text, so that the other runs go on."""
    import torch  # noqa: PLC0415 (in the worker, after its thread limit is set)

    torch.set_num_threads(threads)
    stage = STAGES[call.stage]
    try:
        stage.start(validate_settings(stage.settings_class(), call.settings, where=call.stage))
    except (InputError, RunError) as error:
        return call.folder, str(error)
    return call.folder, None


def _evaluation(settings: StudySettings, row: GridRow, where: EvaluateOn) -> StageCall:
    run = _folder(settings, row.calls[-1])
    out = evaluation_folder(settings.out, run.name, where.name, where.split)
    values = {"run": str(run), "dataset": str(where.data), "split": where.split, "out": str(out)}
    return StageCall("evaluate", {**values, "where": where.where})


def _evaluate_all(
    settings: StudySettings, rows: Sequence[GridRow], failures: Mapping[str, str]
) -> dict[str, str]:
    """Score every model on every set; returns failures by the folder of the model's run."""
    owners = {}
    for row in rows:
        if row.calls[-1].folder not in failures:
            for where in settings.places:
                call = _evaluation(settings, row, where)
                if not (Path(call.settings["out"]) / "metrics.json").is_file():
                    owners[call.folder] = (call, row.calls[-1].folder)
    failed = _run_all(settings, [call for call, _ in owners.values()], what="evaluations")
    return {owners[folder][1]: error for folder, error in failed.items()}


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
            if last.folder in failures:
                yield failed_row(**cell, error=failures[last.folder])
            else:
                out = Path(_evaluation(settings, row, where).settings["out"])
                metrics = read_json(out / "metrics.json")
                yield evaluation_row(**cell, metrics=metrics, statement=read_statement(run))


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
