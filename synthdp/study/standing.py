"""What stands of a study's runs and evaluations: finished, to be made, or cut."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synthdp.errors import InputError
from synthdp.evaluation.predictions import PREDICTIONS_FILE
from synthdp.files import read_json
from synthdp.runs import StageCall, read_statement, versions

METRICS_FILE = "metrics.json"


def _status(run: Path) -> Mapping[str, Any]:
    path = run / "status.json"
    status = read_json(path) if path.is_file() else {}
    if not isinstance(status, dict):
        raise InputError("status.json: not that of a run")
    return status


def is_finished(run: Path) -> bool:
    """Whether a run says that it is finished.

    Raises:
        InputError: when it can't be read, or is finished but cut, or of another version.
    """
    try:
        if _status(run).get("state") != "finished":
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
    """Whether an evaluation stands.

    Raises:
        InputError: when it was cut.
    """
    if not (evaluation / METRICS_FILE).is_file():
        return False
    try:
        metrics = read_json(evaluation / METRICS_FILE)
        if not isinstance(metrics, dict) or not {"auroc", "mean"} & {*metrics}:
            raise InputError(f"{METRICS_FILE}: not that of an evaluation")
        if not (evaluation / PREDICTIONS_FILE).is_file():
            raise InputError(f"its {PREDICTIONS_FILE} is gone")
    except InputError as error:
        raise InputError(
            f"evaluation {evaluation.name}: cut ({error}); delete the folder, and the same command "
            "scores the model again"
        ) from error
    return True


def seconds_taken(calls: Iterable[StageCall]) -> dict[str, float]:
    """How long the finished runs among these calls took, by folder."""
    found: dict[str, float] = {}
    for call in calls:
        try:
            status = _status(Path(call.settings["out"]))
        except InputError:
            continue
        if status.get("state") == "finished" and isinstance(status.get("seconds"), float):
            found[call.folder] = status["seconds"]
    return found


def other_versions(runs: Iterable[Path]) -> list[str]:
    """What finished runs were made with that is not at hand now, in words, with their number."""
    now, found = versions(), Counter[str]()
    for run in runs:
        made_with = _status(run).get("versions", {})
        found.update(
            f"{name} {version} (now {now.get(name, 'absent')})"
            for name, version in made_with.items()
            if now.get(name) != version
        )
    return [f"{n} with {what}" for what, n in found.items()]
