"""The run folder: settings, status, metrics; what may leave apart from what is private.

`open_run` gives a new one, one to resume, or a finished one, and refuses one of other settings.
What a stage writes in one go (an evaluation, an assessment) has no status: `is_written`.
"""

import contextlib
import json
import os
import platform
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from signal import SIGTERM
from typing import IO, Any

from synthdp import __version__
from synthdp.config.card_file import CARD
from synthdp.config.settings import (
    ADDED_LATER,
    Settings,
    SettingsType,
    dump_settings,
    read_settings,
    validate_settings,
)
from synthdp.config.spellings import respelled, started_in
from synthdp.config.typed_values import typing
from synthdp.config.yaml_core import parse_yaml
from synthdp.errors import InputError, RunError, quoted
from synthdp.machine.interrupts import handled, interrupt
from synthdp.privacy.ledger.run_ledger import Ledger, Terms
from synthdp.privacy.lineage import new_release_id
from synthdp.privacy.noisy_sum.noise import KEY_FILE
from synthdp.privacy.promise.statement import Statement
from synthdp.runs.inputs import (
    Input,
    Resolve,
    as_named,
    named_inputs,
    read_inputs,
    refuse_changed,
    write_inputs,
)
from synthdp.runs.tracking import PUBLIC_NAMES, send
from synthdp.status import RunStatus, State, read_status, unix_time, write_status
from synthdp.storage.files import (
    append_line,
    closed_to_others,
    refused_when_full,
    write_atomic,
    write_json,
)
from synthdp.storage.locks import locked, owner_of, owner_words

LEDGER = "ledger.jsonl"
_LEDGER_STEM = Path(LEDGER).stem  # the head of its journal stands beside it
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "opacus")


class RunBusyError(InputError):
    """Another process is at work on the run; it was left alone."""


@dataclass(frozen=True)
class StageCall:
    """A stage with its settings: what a strategy is made of.

    The name of its folder is a hash of both (`out` apart), so that calls which are the same share
    one run. A study finds its runs by these names, so they never change.
    """

    stage: str
    settings: Settings

    @cached_property
    def folder(self) -> str:
        """The name of the run's folder."""
        values = self.settings.model_dump(mode="json", exclude={"out"})
        _leave_out_unset(self.settings, values)
        content = json.dumps([self.stage, values], sort_keys=True)
        return f"{self.stage}-{sha256(content.encode()).hexdigest()[:12]}"

    @property
    def out(self) -> Path:
        """The path of the run's folder, or of the evaluation's."""
        out: Path = self.setting("out")
        return out

    def setting(self, key: str) -> Any:
        """The value of a setting; None where the stage has no such key."""
        return getattr(self.settings, key, None)


def placed_call(
    stage: str, settings: type[Settings], values: Mapping[str, Any], root: Path
) -> StageCall:
    """A call of a stage with checked settings, whose folder of its own name stands in `root`.

    Raises:
        InputError: when a setting does not fit.
    """
    draft = {**values, "out": Path("unnamed")}
    checked = validate_settings(settings, draft, where=f"{stage} of this study")
    out = root / StageCall(stage, checked).folder
    return StageCall(stage, checked.model_copy(update={"out": out}))


def _leave_out_unset(settings: Settings, values: dict[str, Any]) -> None:
    """Drop what is marked `ADDED_LATER` and unset from `values`, the settings as plain values."""
    for key, field in type(settings).model_fields.items():
        value = getattr(settings, key)
        if value is None and ADDED_LATER in field.metadata:
            del values[key]
        elif isinstance(value, Settings):
            _leave_out_unset(value, values[key])


class Run:
    """One stage at work in its folder; made by `open_run`."""

    def __init__(self, path: Path, stage: str, status: RunStatus) -> None:
        self.path = path
        self.stage = stage
        self.finished = status.state == "finished"
        self.resumed = status.attempts > 1
        #: Which figures trackers may know (`synthdp.runs.tracking`); None for all.
        self.names_to_send: Collection[str] | None = PUBLIC_NAMES
        self._status = status
        self._lock: IO[str] | None = None

    @property
    def private(self) -> Path:
        """What never leaves the house: metrics, predictions, ledger, checkpoints, keys."""
        return self.path / "private"

    @property
    def model(self) -> Path:
        """The final weights and their settings."""
        return self.path / "model"

    @property
    def ledger_path(self) -> Path:
        """Where stands what the run is to state, and what it has spent."""
        return self.private / LEDGER

    @property
    def checkpoints(self) -> Path:
        """Where the run's checkpoints stand."""
        return self.private / "checkpoints"

    @property
    def release_id(self) -> str:
        """The id under which this run's release is counted, the same after a resume."""
        return self._status.release

    def log(self, **metrics: float | int | str | None) -> None:
        """Append one line to `private/metrics.jsonl`; trackers get what they may know of it."""
        append_line(self.private / "metrics.jsonl", json.dumps(metrics))
        send(self.stage, metrics, names=self.names_to_send)

    def finish(self, statement: Statement, card: str) -> None:
        """Write the statement and the card, then mark the run as finished.

        Raises:
            RunError: when the folder was deleted or cut meanwhile.
        """
        if not self._stands():
            raise RunError(
                f"{self.path.name}: the run's folder was deleted or cut while it was at work; "
                "delete what is left of it, and the same command makes the run again"
            )
        self._note_terms(statement)
        write_json(self.path / "privacy.json", statement.model_dump(mode="json"))
        write_atomic(self.path / CARD, card)
        self._set_state("finished")
        self.finished = True

    def _note_terms(self, statement: Statement) -> None:
        """Put what the statement is made of into the ledger, where the stage has not done so.

        A stage that reads patients has, before it began; any other descends from ancestors alone.
        """
        ledger = Ledger(self.ledger_path)
        noted = ledger.terms
        if noted is None or (noted.release is None and noted.ancestors != statement.lineage):
            ledger.note_terms(
                Terms(
                    subject=statement.subject,
                    delta=statement.delta,
                    unit=statement.unit,
                    population=statement.population,
                    smallest_population=statement.smallest_population,
                    ancestors=statement.lineage,
                )
            )

    def _stands(self) -> bool:
        """Whether the folder is still the one that was opened, and not deleted or made anew."""
        lock = self.path / ".lock"
        if self._lock is None or not lock.is_file() or not (self.path / "config.yaml").is_file():
            return False
        return os.path.samestat(os.fstat(self._lock.fileno()), lock.stat())

    def _set_state(self, state: State) -> None:
        now = unix_time()
        before = self._status.last
        worked = max(0.0, now - before) if before is not None else 0.0  # a clock may be set back
        seconds = round((self._status.seconds or 0.0) + worked, 3)
        changed = {"state": state, "seconds": seconds, "last": now}
        self._status = self._status.model_copy(update=changed)
        write_status(self.path, self._status)


def versions() -> dict[str, str]:
    """Versions of Python, synthdp and the packages that decide a result."""
    known = {"python": platform.python_version(), "synthdp": __version__}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            known[package] = metadata.version(package)
    return known


def is_written(out: Path, settings: Settings, *, last: str, what: str) -> bool:
    """Whether what a stage writes in one go is at `out`, made with these settings and inputs.

    Args:
        out: the folder, with the settings in `config.yaml`, and its inputs noted (`write_inputs`).
        settings: of the stage.
        last: the name of a file that such a folder holds.
        what: it is, for the error: "an evaluation".

    Raises:
        InputError: when it was made with other settings, or from other inputs.
    """
    if not (out / last).is_file():
        return False
    where = f"{out.name}/config.yaml"
    stored = read_settings(type(settings), out / "config.yaml")
    known = validate_settings(type(settings), stored, where=where).model_dump(mode="json")
    asked = settings.model_dump(mode="json")
    if known != respelled(settings, asked, known, started_in(out, known.get("out"))):
        raise InputError(f"{out}: holds {what} with other settings; name another out")
    refuse_changed(out, lambda: read_inputs(named_inputs(settings)))
    return True


def _differences(
    stored: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """Where settings differ, a line for each key."""
    lines = []
    for key in sorted({*stored, *asked}, key=str):
        old, new = stored.get(key), asked.get(key)
        if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            old, new = dict(enumerate(old)), dict(enumerate(new))
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {quoted(old)} there, {quoted(new)} asked for")
    return lines


def spelled_as_started(out: Path, settings: SettingsType) -> SettingsType:
    """The settings with paths as they were spelled when the run at `out` was started.

    For a study, whose runs have names that are made of these paths.

    Raises:
        InputError: when the run was started in another folder with paths that were relative to it.
    """
    config = out / "config.yaml"
    if not config.is_file():
        return settings
    stored, plain = read_settings(type(settings), config), settings.model_dump(mode="json")
    here = respelled(settings, plain, stored, Path.cwd())
    if respelled(settings, plain, stored, started_in(out, stored.get("out"))) != here:
        raise InputError(
            f"{out}: was started in another folder, with paths relative to it, of which the names "
            "of its runs are made; run the command in the folder in which it was started"
        )
    return validate_settings(type(settings), here, where="settings")


def _matching_status(
    out: Path, stage: str, settings: Settings, free: Collection[str]
) -> RunStatus | None:
    """The status of the run at `out` that has these settings; None where there is no run.

    Raises:
        InputError: when the folder holds other files, or a run of another stage or other settings.
    """
    status = read_status(out)
    if status is None:
        if any(not path.name.startswith(".") for path in out.iterdir()):
            raise InputError(
                f"{out}: holds other files and is not a run; name a new folder (or delete it, if "
                "it is what was left of a run)"
            )
        return None
    if status.stage != stage:
        raise InputError(f"{out}: a run of {status.stage}, not of {stage}; name another out")
    if not status.release:
        raise InputError(
            f"{out}: its status.json names no release, so what it spent can't be counted; restore "
            "the file, or name a new folder"
        )
    if status.state == "starting":  # killed before its settings were noted
        return status
    as_typed = typing(type(settings), [])
    asked = parse_yaml(dump_settings(settings), where="settings", prepare=as_typed)
    stored = read_settings(type(settings), out / "config.yaml")
    asked = respelled(settings, asked, stored, started_in(out, stored.get("out")))
    fixed, wanted = (
        {key: value for key, value in values.items() if key not in free}
        for values in (stored, asked)
    )
    if lines := _differences(fixed, wanted):
        if status.state == "failed" and _never_began(out):  # an earlier version refused it
            return status.model_copy(update={"state": "starting"})
        words = f"{out}: was started with other settings; name a new `out`, or go back to them:"
        raise InputError("\n  ".join([words, *lines]))
    return status


@contextmanager
def held_lock(lock: IO[str], out: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of an open file for the block; an exclusive owner is written into it.

    Raises:
        InputError: when the file system keeps no locks that can be shared.
        RunBusyError: when another process holds it; says which.
    """
    with contextlib.ExitStack() as held:
        try:
            mine = held.enter_context(locked(lock, shared=shared, wait=False))
        except OSError as error:
            raise InputError(
                f"{out}: its file system keeps no locks ({error.strerror}), so what is to be "
                "written there by several processes can't be; name a folder on one that does, or "
                "start a single process"
            ) from error
        if not mine:
            lock.seek(0)
            beside = owner_of(lock)
            owner = beside or lock.read(200).strip()
            by = f" ({owner})" if owner else ""
            stale = f", or remove {Path(lock.name).name}.owner in it if that one has ended"
            raise RunBusyError(
                f"{out}: another process is at work there{by}; wait for it, or stop it first"
                f"{stale if beside else ''}"
            )
        with contextlib.suppress(OSError):  # the owner's name is a courtesy: a disk may be full
            os.ftruncate(lock.fileno(), 0)
            if not shared:
                os.write(lock.fileno(), f"{owner_words()}\n".encode())
        yield


@contextmanager
def open_run(
    out: Path,
    stage: str,
    settings: Settings,
    *,
    free: Collection[str] = (),
    resolve: Resolve = as_named,
) -> Iterator[Run]:
    """Open the run folder `out`: a new one, one to resume, or a finished one.

    What the stage makes meanwhile is closed to all but its owner (`closed_to_others`). A resume may
    change the settings named in `free`: those that decide nothing of the result. The digests of
    what the settings name are noted when the run begins (`synthdp.runs.inputs`). A new run that is
    refused (InputError) before it wrote anything leaves no folder, so that the corrected command
    may name the same.

    Args:
        out: the folder.
        stage: its name.
        settings: of the stage.
        free: the keys of settings that a resume may change.
        resolve: gives the folder of an input that is a name.

    Raises:
        InputError: when the folder holds other files, or a run of other settings or inputs.
        RunBusyError: when another process is at work on it.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder for the run")
    with refused_when_full():
        out.parent.mkdir(parents=True, exist_ok=True)
        with closed_to_others():
            out.mkdir(exist_ok=True)
            (out / ".lock").touch()
    with (
        closed_to_others(),
        open(out / ".lock", "a+", encoding="utf-8") as lock,
        handled((SIGTERM,), interrupt),
        held_lock(lock, out),
    ):
        status = _matching_status(out, stage, settings, free)

        def inputs() -> Mapping[str, Input]:
            return read_inputs(named_inputs(settings), resolve=resolve)

        if status is not None and status.state != "starting":
            refuse_changed(out, inputs)
        is_new = status is None or status.state == "starting"
        try:
            run = _start(out, stage, settings, status, inputs)
        except InputError:
            if is_new and _never_began(out):
                _remove_unbegun(out)
            raise
        run._lock = lock
        try:
            yield run
        except BaseException as error:
            if is_new and isinstance(error, InputError) and _never_began(out):
                _remove_unbegun(out)
            elif not run.finished:
                # a folder that was deleted stays so, and the first error says more than a second
                with contextlib.suppress(RunError):
                    stopped = isinstance(error, KeyboardInterrupt)
                    if run._stands():
                        run._set_state("interrupted" if stopped else "failed")
            raise


#: What a run's folder holds before its stage has done anything; locks beside it are hidden files.
_OF_A_START = ("status.json", "config.yaml", "private", "private/inputs.json")


def _never_began(out: Path) -> bool:
    """Whether a folder holds what the start of a run wrote and no more: nothing done or spent."""
    ledger = out / "private" / LEDGER
    names = (path.relative_to(out).as_posix() for path in out.rglob("*"))
    others = {name for name in names if not name.startswith(".")} - {*_OF_A_START}
    if any(not name.startswith(f"private/{_LEDGER_STEM}.") for name in others):
        return False
    return not ledger.is_file() or Ledger(ledger).is_untouched


def _remove_unbegun(out: Path) -> None:
    """Remove what the start of a run wrote, and its folder if nothing else stands there."""
    private = out / "private"
    for path in (
        *private.glob(f"{_LEDGER_STEM}.*"),
        *(out / name for name in reversed(_OF_A_START)),
    ):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    (out / ".lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other locks, such as a study's
        out.rmdir()


def _remove_abandoned(out: Path) -> None:
    """Remove what killed processes left in a run's folder: torn writes, an earlier version's key.

    The folders of other runs, in a study's, are left alone: other processes may be at work there.
    """
    torn = [*out.glob(".*.part"), *out.glob("model/.*.part"), *out.glob("private/**/.*.part")]
    for path in (*torn, out / "private" / KEY_FILE):
        if not path.is_dir():
            path.unlink(missing_ok=True)


def _start(
    out: Path,
    stage: str,
    settings: Settings,
    status: RunStatus | None,
    inputs: Callable[[], Mapping[str, Input]],
) -> Run:
    if status is None:
        status = RunStatus(
            stage=stage,
            state="starting",
            release=new_release_id(),
            seconds=0.0,
            versions=versions(),
        )
        write_status(out, status)
    if status.state == "starting":
        (out / "private").mkdir(mode=0o700, exist_ok=True)
        write_atomic(out / "config.yaml", dump_settings(settings))
        write_inputs(out, inputs())
        Ledger(out / "private" / LEDGER).create(status.release)
        status = status.model_copy(update={"ledger": True})
    if status.state == "finished":
        return Run(out, stage, status)
    if status.ledger:
        Ledger(out / "private" / LEDGER).refuse_other_run(status.release)
    _remove_abandoned(out)
    started = {"state": "running", "attempts": status.attempts + 1, "last": unix_time()}
    run = Run(out, stage, status.model_copy(update=started))
    run._set_state("running")
    return run
