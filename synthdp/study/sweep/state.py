"""What of a study is on disk: runs, scores and failures, and who is at work on it.

A run and an evaluation are one of three: missing, so that they are to be made; there; or cut, so
that a person has to decide. A run that was cut is never made again by itself, since its privacy
would be spent twice.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from synthdp.config.yaml_core import read_yaml
from synthdp.data.description import is_dataset
from synthdp.errors import InputError
from synthdp.evaluation.predictions import METRICS_FILE, PREDICTIONS_FILE, read_metrics
from synthdp.privacy.promise.stated import read_statement
from synthdp.runs.folder import RunBusyError, StageCall, held_lock, open_run, versions
from synthdp.runs.inputs import MEND, Input, changed_inputs, noted_inputs, read_inputs
from synthdp.status import read_status
from synthdp.storage.files import closed_to_others, read_json, refused_when_full, write_json
from synthdp.storage.paths import without_paths
from synthdp.study.compared import CompareSettings, registered_differences
from synthdp.study.sets import seen_from
from synthdp.study.settings import FREE, StudySettings

log = logging.getLogger(__name__)

# Runs and evaluations.


def is_finished(run: Path) -> bool:
    """Whether a run says that it is finished, or a synthetic set stands whole.

    Raises:
        InputError: when it can't be read, or is finished but cut, or of another version.
    """
    if is_dataset(run):  # which is made in one go
        return True
    try:
        status = read_status(run)
        if status is None or status.state != "finished":
            return False
        read_statement(run)
        for name in ("config.yaml", "model"):
            if not (run / name).exists():
                raise InputError(f"its {name} is gone")
        if not any((run / "model").iterdir()):
            raise InputError("its model is gone")
    except InputError as error:
        raise InputError(
            f"{run.name}: cut, or of another version of synthdp ({error}); put it back, or delete "
            "the folder: the same command makes the run again, and its privacy is spent anew"
        ) from error
    return True


def is_evaluated(evaluation: Path) -> bool:
    """Whether the folder of an evaluation holds its scores.

    Raises:
        InputError: when it was cut.
    """
    if not (evaluation / METRICS_FILE).is_file():
        return False
    try:
        read_metrics(evaluation)
        if not (evaluation / PREDICTIONS_FILE).is_file():
            raise InputError(f"its {PREDICTIONS_FILE} is gone")
    except InputError as error:
        raise InputError(
            f"evaluation {evaluation.name}: cut ({error}); delete the folder, and the same command "
            "scores the model again"
        ) from error
    return True


def missing_calls(
    calls: Mapping[str, StageCall], is_made: Callable[[Path], bool]
) -> tuple[dict[str, StageCall], dict[str, str]]:
    """The calls whose results are missing, and errors for those whose results are cut, by folder.

    Args:
        calls: by folder.
        is_made: `is_finished` or `is_evaluated`.
    """
    missing, cut = {}, {}
    for folder, call in calls.items():
        try:
            if not is_made(call.out):
                missing[folder] = call
        except InputError as error:
            cut[folder] = str(error)
    return missing, cut


def other_versions(runs: Iterable[Path]) -> list[str]:
    """What finished runs were made with that is not at hand now, in words, with their number."""
    now, different = versions(), Counter[str]()
    for run in runs:
        status = read_status(run)
        different.update(
            f"{name} {version} (now {now.get(name, 'absent')})"
            for name, version in (status.versions if status is not None else {}).items()
            if now.get(name) != version
        )
    return [f"{n} with {version}" for version, n in different.items()]


def refuse_changed_results(study: Path, folders: Iterable[Path]) -> None:
    """Refuse to go on with results, or to report them, when what they were made from has changed.

    They are not made again by themselves: that would spend the patients' privacy anew, unasked; and
    results of two states of one set may not stand in one report.

    Args:
        study: the study's folder.
        folders: of its runs and evaluations; those that are not there are passed over.

    Raises:
        InputError: saying which inputs have changed, what of them, and for how many results.
    """
    known, changed, n_untold = dict[Path, Input | None](), Counter[str](), 0
    for folder in folders:
        if not (folder / "config.yaml").is_file():
            continue
        noted = noted_inputs(folder)
        if noted is None:
            n_untold += 1
            continue
        paths = {key: _seen_in(study, Path(one.path)) for key, one in noted.items()}
        changed.update(changed_inputs(noted, read_inputs(paths, known=known)))
    if changed:
        lines = [f"{line} ({n} of its runs and scores)" for line, n in sorted(changed.items())]
        raise InputError(
            "\n  ".join(
                [f"{study}: was made from other inputs than stand there now:", *lines, MEND]
            )
        )
    if n_untold:
        log.info(
            "%s: %d of its runs and scores are of an earlier version, which noted no digests of "
            "inputs, so whether these are still the same can't be told",
            study,
            n_untold,
        )


def refuse_changed_study(study: Path) -> None:
    """Refuse a study when what it or any of its runs was made from has changed.

    Of its runs the first stages of a recipe count too, which no row of the results names.

    Raises:
        InputError: as `refuse_changed_results`.
    """
    parts = [*sorted((study / "runs").glob("*/")), *sorted((study / "evaluations").glob("*/"))]
    refuse_changed_results(study, [study, *parts])


def _seen_in(study: Path, path: Path) -> Path:
    """A path of a study's settings; one of its own runs where the study stands now."""
    own = study / "runs" / path.name
    return own if own.is_dir() else seen_from(study, path)


# Failures on record in the study's folder, so that another shard can write them into results. Each
# has a file of its own, since shards that write at once must not lose each other's.

FAILURES = "failures"


def record_failures(study: Path, runs: Iterable[str], failures: Mapping[str, str]) -> None:
    """Put on record which of these runs failed last time, and that the others did not.

    Args:
        study: the study's folder.
        runs: those that were tried, by folder.
        failures: errors by folder.
    """
    for run in runs:
        path = study / FAILURES / f"{run}.json"
        if run in failures:
            write_json(path, {"error": without_paths(failures[run])})
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or holds failures of other shards
        (study / FAILURES).rmdir()


def recorded_failures(study: Path) -> dict[str, str]:
    """Errors of the runs that failed when they were last tried, by folder."""
    failures: dict[str, str] = {}
    for path in sorted((study / FAILURES).glob("*.json")):
        with suppress(InputError):  # deleted or damaged: the run is then as if it were never tried
            record = read_json(path)
            if isinstance(record, dict) and isinstance(record.get("error"), str):
                failures[path.stem] = record["error"]
    return failures


def as_registered(settings: StudySettings) -> StudySettings:
    """The settings to open a study's folder with.

    Primary differences that a study was not started with change nothing of what it runs, so that it
    goes on; but they are not registered, and its report says so.
    """
    compare, out = settings.compare, settings.out
    named = compare.primary if compare is not None else None
    started = (out / "config.yaml").is_file()
    if compare is None or named is None or not started or registered_differences(out):
        return settings
    log.info(
        "study: it was started without these compare.primary, which are not registered by that; "
        "a report calls them named later"
    )
    rest = compare.model_copy(update={"primary": None})
    had_none = read_yaml(out / "config.yaml").get("compare") is None
    unset = had_none and rest == CompareSettings()
    return settings.model_copy(update={"compare": None if unset else rest})


# Who works on a study: the plain command alone, or shards together; the rest are refused. Locks
# are the kernel's, so that they end with their process, however it ends.

#: Shards that begin at once open the study one after the other; each takes milliseconds.
_OPEN_WITHIN_S = 60.0


@contextmanager
def locked_study(out: Path, *, shared: bool) -> Iterator[None]:
    """Hold the lock of the study at `out`: for this process alone, or together with other shards.

    Raises:
        RunBusyError: when another process has it, and does not share it.
    """
    with refused_when_full():
        out.parent.mkdir(parents=True, exist_ok=True)
        with closed_to_others():
            out.mkdir(exist_ok=True)
            (out / ".study.lock").touch()
    with open(out / ".study.lock", "a+", encoding="utf-8") as lock, ExitStack() as held:
        try:
            held.enter_context(held_lock(lock, out, shared=shared))
        except RunBusyError as error:
            why = (
                "the plain command is at work there and takes every run, so no shard is needed"
                if shared
                else "nothing was started; to share the work, start all of them with --shard i/n"
            )
            raise RunBusyError(f"{error}; {why}; finished runs stand") from error
        yield


def open_shared_study(settings: StudySettings) -> bool:
    """Open the study as one shard of several, or make it; returns whether it is finished.

    Raises:
        InputError: when it was started with other settings.
        RunBusyError: when another process does not let go of it.
    """
    give_up = time.monotonic() + _OPEN_WITHIN_S
    while True:
        try:
            with open_run(settings.out, "study", as_registered(settings), free=FREE) as run:
                finished: bool = run.finished
                return finished
        except RunBusyError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)
