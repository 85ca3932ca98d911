"""What `synthdp evaluate` wrote of a run: read, and found to be of that very run."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from synthdp.config.settings import Settings, validate_settings
from synthdp.config.yaml_core import read_yaml
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.fairness import FairnessFigure
from synthdp.evaluation.predictions import read_metrics
from synthdp.privacy.lineage import Spent
from synthdp.privacy.promise.stated import NOISY_FILE, noisy_statement
from synthdp.runs.inputs import changed_inputs, noted_inputs, read_inputs
from synthdp.storage.files import read_json
from synthdp.storage.paths import last_part

GROUPS_FILE = "fairness.json"


class NoisyFigure(Settings, extra="ignore"):
    """A noisy AUROC, and the standard error that the noise gives it; None without a value.

    over: of a mean over targets, which these are.
    """

    value: float | None
    noise_standard_error: float | None = None
    over: tuple[str, ...] = ()


class NoisyRecord(Settings, extra="ignore"):
    """What was released under a promise of its own: `noisy_metrics.json`.

    auroc: of one target, or the mean over several, each of which stands in `targets`.
    """

    data_set: str
    split: str
    auroc: NoisyFigure
    targets: dict[str, NoisyFigure] = Field(default_factory=dict)
    epsilon: Spent
    delta: float
    unit: str


@dataclass(frozen=True)
class ScoredSplit:
    """What `synthdp evaluate` wrote of the run: its figures, all exact but the noisy one.

    of_patients: whether the images scored are patients', or can't be told from them any more;
    of_public: whether they are those of a public set, whose patients nothing protects.
    """

    data_set: str
    split: str
    of_patients: bool
    metrics: Mapping[str, Any]
    groups: tuple[FairnessFigure, ...]
    noisy: NoisyRecord | None
    of_public: bool = False


def read_evaluation(folder: Path, original: Path) -> ScoredSplit:
    """Read an evaluation of the run `original`.

    Raises:
        InputError: when it is one of another run, or of what stood there before.
    """
    settings = read_yaml(folder / "config.yaml")
    if Path(str(settings.get("run", ""))).resolve() != original.resolve():
        raise InputError(
            f"{folder}: an evaluation of {last_part(str(settings.get('run', 'nothing')))!r} by the "
            f"path in its config.yaml, not of {original}; evaluate this run where it stands"
        )
    if is_of_another(folder, "run", original):
        raise InputError(
            f"{folder}: an evaluation of another model than stands at {original} now; evaluate "
            "this one into a new folder"
        )
    metrics = read_metrics(folder)
    groups = read_json(folder / GROUPS_FILE) if (folder / GROUPS_FILE).is_file() else []
    if not isinstance(groups, list) or any(not isinstance(one, dict) for one in groups):
        raise InputError(f"{folder.name}/{GROUPS_FILE}: holds no figures; evaluate again")
    of_patients, of_public = True, False  # unless the set says otherwise
    with suppress(InputError):
        data = Path(str(settings.get("dataset", "")))
        same = not is_of_another(folder, "dataset", data)
        info = open_dataset(data).info
        of_patients = info.protects_patients or not same
        of_public = same and info.kind == "public"
    return ScoredSplit(
        data_set=str(metrics.get("data_set", "")),
        split=str(metrics.get("split", "")),
        of_patients=of_patients,
        metrics=metrics,
        groups=tuple(
            validate_settings(FairnessFigure, one, where=f"{folder.name}/{GROUPS_FILE}")
            for one in groups
        ),
        noisy=_noisy_record(folder) if (folder / NOISY_FILE).is_file() else None,
        of_public=of_public,
    )


def _noisy_record(folder: Path) -> NoisyRecord:
    """The noisy AUROC of an evaluation; what it spent is by its ledger, where one is beside it."""
    where = f"{folder.name}/{NOISY_FILE}"
    record = validate_settings(NoisyRecord, read_json(folder / NOISY_FILE), where=where)
    if not (folder / "private" / "ledger.jsonl").is_file():
        return record
    spent = noisy_statement(folder)
    promise = {"epsilon": spent.epsilon_stage, "delta": spent.delta, "unit": spent.unit}
    return record.model_copy(update=promise)


def is_of_another(folder: Path, key: str, original: Path) -> bool:
    """Whether what was noted as judged in this folder is something else than stands there now."""
    noted = noted_inputs(folder) or {}
    return key in noted and bool(changed_inputs({key: noted[key]}, read_inputs({key: original})))
