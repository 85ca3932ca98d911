"""What a study's folder records beside its results table: facts, statements, times, versions."""

import math
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from synthdp.config.settings import Settings, read_json_as
from synthdp.config.yaml_core import dump_yaml, read_yaml
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.privacy.lineage import Spent
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import DELTA, Statement, fitting_delta, joined_statement
from synthdp.privacy.units import Unit
from synthdp.status import RunStatus, read_status
from synthdp.storage.files import write_json
from synthdp.storage.paths import settings_without_paths, without_paths
from synthdp.study.compare.results import ResultRow
from synthdp.study.compared import (
    FACTS_FILE,
    ComparePlan,
    CompareSettings,
    PrimaryDifference,
    registered_differences,
)
from synthdp.study.sets import seen_from
from synthdp.study.settings import UNTITLED, StudySettings

# What may be said of the data sets of a study: what their folders say in public, and no count.

_ROLES = {
    "data": "training",
    "synthetic": "pretraining, or training beside patients",
    "private_synthetic": "pretraining, or training beside patients; of a private generator",
    "phantoms": "pretraining, or centring of features",
    "public": "pretraining, or centring of features; its patients are not protected",
}


class SetFacts(Settings):
    """The public facts of one data set, and its roles in the study; nothing counted.

    `epsilon` is what the releases that it descends from spent, at the `delta` of the set's own
    statement: 0 for images of patients themselves, which promise nothing, and for phantoms.
    """

    name: str
    kind: Literal["real", "synthetic", "phantom", "public"]
    stands_for_patients: bool
    roles: tuple[str, ...]
    size_px: int
    targets: tuple[str, ...]
    unit: Unit
    licence: str = ""
    description: str = ""
    columns: tuple[str, ...] = ()
    epsilon: Spent = 0.0
    delta: float = Field(default=DELTA, gt=0, lt=1)
    depth: int | None = Field(default=None, ge=1)

    @property
    def sides(self) -> str:
        """The size of an image, in words; of a volume with the number of its slices."""
        slices = "" if self.depth is None else f"{self.depth} slices of "
        return f"{slices}{self.size_px} x {self.size_px} px"

    @model_serializer(mode="wrap")
    def _without_depth_of_flat_images(self, handler: SerializerFunctionWrapHandler) -> Any:
        """Leave out what volumes alone have, so that records of flat images are as they were."""
        values = handler(self)
        return {key: value for key, value in values.items() if (key, value) != ("depth", None)}


def read_sets(study: Path) -> tuple[SetFacts, ...]:
    """The sets that a study's settings name; those that are no longer there are left out."""
    roles: dict[Path, list[str]] = {}
    with suppress(InputError):  # a study without readable settings names no set
        for path, role in _named_sets(read_yaml(study / "config.yaml")):
            roles.setdefault(path, []).append(role)
    sets = []
    for path, names in roles.items():
        with suppress(InputError):
            dataset = open_dataset(seen_from(study, path))
            info = dataset.info
            deltas = [] if info.delta is None else [info.delta]
            delta = fitting_delta(deltas, info.lineage.populations)
            sets.append(
                SetFacts(
                    name=info.name,
                    kind=info.kind,
                    stands_for_patients=info.protects_patients,
                    roles=tuple(dict.fromkeys(names)),
                    size_px=info.size_px,
                    depth=info.depth,
                    targets=info.targets,
                    unit=info.unit,
                    licence=info.licence,
                    description=without_paths(info.description),
                    columns=tuple(dataset.rows[0].attributes) if dataset.rows else (),
                    epsilon=info.lineage.epsilon(delta),
                    delta=delta,
                )
            )
    return tuple(sets)


def _named_sets(settings: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Paths of sets and their roles, from settings of any version: what does not fit is no set."""
    for key, role in _ROLES.items():
        if isinstance(settings.get(key), str):
            yield Path(settings[key]), role
    evaluate_on = settings.get("evaluate_on")
    for on in evaluate_on if isinstance(evaluate_on, list) else []:
        if isinstance(on, Mapping) and isinstance(on.get("data"), str):
            yield Path(on["data"]), f"evaluation, split {on.get('split', 'val')}"


# `study.json`, and what the folders of the runs say.

#: What the arithmetic of two machines may leave of an epsilon.
_ROUNDING = 1 - 1e-6


class StudyFacts(Settings):
    """What `study.json` holds; the paths, of data sets and an assessment, are never shown.

    `sets` stand in a released study, which has no path to read them from, and so does what was
    `withheld` there: scores or counts of patients.
    """

    title: str = UNTITLED
    wall_time_s: float | None = Field(default=None, ge=0)
    synthetic: Path | None = None
    assessment: Path | None = None
    real: Path | None = None
    show_real: bool = False
    published: Path | None = None
    compare: ComparePlan = ComparePlan()
    sets: tuple[SetFacts, ...] = ()
    withheld: tuple[Literal["scores", "counts"], ...] = ()


def study_title(settings: StudySettings) -> str:
    """What the report is called: as the settings say, else after the data set."""
    if settings.title != UNTITLED:
        return settings.title
    return f"{open_dataset(settings.data).info.name}: privacy and utility"


def write_facts(settings: StudySettings, seconds: float) -> None:
    """Write `study.json`, what the report needs beside the table; times add up over resumes."""
    path = settings.out / FACTS_FILE
    before = 0.0
    with suppress(InputError):  # none of before, or a damaged one
        before = read_json_as(StudyFacts, path).wall_time_s or 0.0
    facts = StudyFacts(
        title=study_title(settings),
        wall_time_s=round(before + seconds, 1),
        synthetic=settings.shown_synthetic,
        assessment=settings.assessment,
        real=settings.data,
        show_real=settings.report.show_real,
        published=settings.published,
        compare=(settings.compare or CompareSettings()).plan,
    )
    write_json(path, facts.model_dump(mode="json", exclude={"sets", "withheld"}))


@dataclass(frozen=True)
class StageTime:
    """How long the runs of one stage took, in seconds."""

    stage: str
    n_runs: int
    median_s: float
    total_s: float


@dataclass(frozen=True)
class StudyRecord:
    """A study's folder, read once.

    `statements` and `statuses` go by the run's folder name; `missing` says of a finished run why
    its statement could not be read. `unnamed` are the statements of the other runs that stand,
    which no finished row names: those of other folds, generators, and what is left of cells that
    failed or were interrupted. They spent what they spent. `registered` are the primary differences
    that the study was started with.
    """

    facts: StudyFacts
    statements: Mapping[str, Statement]
    missing: Mapping[str, str]
    statuses: Mapping[str, RunStatus]
    settings: str
    unnamed: Mapping[str, Statement] = field(default_factory=dict)
    registered: tuple[PrimaryDifference, ...] = ()

    @property
    def seconds(self) -> dict[str, float]:
        """How long each run took; a released run does not tell."""
        return {
            run: status.seconds
            for run, status in self.statuses.items()
            if status.seconds is not None
        }

    @property
    def date(self) -> str:
        """The day (UTC) on which the last run ended; empty when none was recorded."""
        last = max((status.last or 0.0 for status in self.statuses.values()), default=0)
        return datetime.fromtimestamp(last, UTC).date().isoformat() if last else ""

    @property
    def versions(self) -> dict[str, str]:
        """Each package's version, or versions where runs differ."""
        versions: dict[str, set[str]] = {}
        for status in self.statuses.values():
            for package, version in status.versions.items():
                versions.setdefault(package, set()).add(version)
        return {package: ", ".join(sorted(some)) for package, some in versions.items()}

    @property
    def stage_times(self) -> list[StageTime]:
        """Times by stage, the longest first."""
        by_stage: dict[str, list[float]] = {}
        for run, seconds in self.seconds.items():
            stage = self.statuses[run].stage or "unknown"
            by_stage.setdefault(stage, []).append(seconds)
        times = [
            StageTime(stage, len(seconds), statistics.median(seconds), sum(seconds))
            for stage, seconds in by_stage.items()
        ]
        return sorted(times, key=lambda time: -time.total_s)


def read_record(study: Path, rows: Iterable[ResultRow]) -> StudyRecord:
    """Read what the folder `study` holds about the runs of `rows`.

    Raises:
        InputError: when `study.json` is there and wrong, or a row promises more than its run.
    """
    path = study / FACTS_FILE
    facts = read_json_as(StudyFacts, path) if path.is_file() else StudyFacts()
    statements: dict[str, Statement] = {}
    missing: dict[str, str] = {}
    rows = tuple(rows)
    for run in dict.fromkeys(row.run for row in rows if row.state == "finished"):
        try:
            statements[run] = read_statement(study / "runs" / run, sender=None)
        except InputError as error:
            missing[run] = without_paths(str(error))
    _refuse_overstated(rows, statements)
    statuses, unnamed = _statuses(study), other_statements(study, {*statements, *missing})
    for run, status in statuses.items():
        if status.state == "finished" and run not in {*statements, *unnamed, *missing}:
            try:
                read_statement(study / "runs" / run, sender=None)
            except InputError as error:
                missing[run] = without_paths(str(error))
    return StudyRecord(
        facts,
        statements,
        missing,
        statuses,
        _shown_settings(study),
        unnamed=unnamed,
        registered=registered_differences(study),
    )


def other_statements(study: Path, known: Collection[str]) -> dict[str, Statement]:
    """The statements of all runs that stand in a study beside the known ones, by folder.

    A run that no row names, or none any more, is among them: what it spent is spent. One that
    cannot be read is not.
    """
    others = dict[str, Statement]()
    for run in sorted((study / "runs").glob("*/")):
        with suppress(InputError):  # not finished, a synthetic set, or cut
            if run.name not in known:
                others[run.name] = read_statement(run, sender=None)
    return others


def _refuse_overstated(rows: Iterable[ResultRow], statements: Mapping[str, Statement]) -> None:
    """Refuse rows that promise more than the statements of their runs, which go by run.

    Raises:
        InputError: naming the first of them.
    """
    for row in rows:
        stated = statements.get(row.run)
        if row.state != "finished" or stated is None:
            continue
        pairs = (
            (row.epsilon_end_to_end, stated.epsilon),
            (row.epsilon_stage, stated.epsilon_stage),
        )
        less = any(one is None or one < other * _ROUNDING for one, other in pairs)
        if less or (row.delta, row.unit) != (stated.delta, stated.unit):
            raise InputError(
                f"results.csv, run {row.run}: promises something else than the run's own "
                "statement; restore the file, or run the study again to write it anew"
            )


def _statuses(study: Path) -> dict[str, RunStatus]:
    statuses: dict[str, RunStatus] = {}
    for run in sorted((study / "runs").glob("*/")):
        with suppress(InputError):  # a status cut off by a crash has no time to show
            status = read_status(run)
            if status is not None:
                statuses[run.name] = status
    return statuses


def _shown_settings(study: Path) -> str:
    """The settings of the study, with every path cut to its last part."""
    with suppress(InputError):  # damaged settings are not worth a report
        settings = settings_without_paths(read_yaml(study / "config.yaml"))
        return dump_yaml(settings)
    return ""


# The promises of a study: its own, and that of its private runs alone.

PRIVATE_PART_FILE = "privacy-dp.json"


def own_statement(study: Path) -> Statement | None:
    """The statement of the study itself; None while it has not finished."""
    with suppress(InputError):
        return read_statement(study, sender=None)
    return None


def private_part(record: StudyRecord) -> Statement | None:
    """The promise of publishing the runs with a finite epsilon, and no others of the study.

    Whether a row names them or not. None when there are none, or when what a finished run spent
    can't be read: without it the rest would promise too much.

    Raises:
        InputError: when some hold per patient and some per image.
    """
    if record.missing:
        return None
    spent = (one for one in record.unnamed.values() if one.lineage.releases)
    every = [*record.statements.values(), *spent]
    private = [one for one in every if math.isfinite(one.epsilon)]
    subject = "study, its private runs alone published together"
    return joined_statement(private, subject=subject) if private else None


def write_private_part(study: Path, statement: Statement | None) -> None:
    """Write `privacy-dp.json`, the statement of `private_part`, beside `privacy.json`.

    Where nothing can be stated there is no such file.
    """
    if statement is None:
        (study / PRIVATE_PART_FILE).unlink(missing_ok=True)
    else:
        write_json(study / PRIVATE_PART_FILE, statement.model_dump(mode="json"))
