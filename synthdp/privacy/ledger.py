"""What was really spent: releases, their lineage, and an append-only record of steps.

Steps are reserved on disk before they run. A crash leaves the reserved block spent, so the record
is never below what was computed, and an older checkpoint refunds nothing.
"""

import fcntl
import json
import math
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError

from synthdp.config import Settings
from synthdp.errors import InputError
from synthdp.files import append_line
from synthdp.privacy.mechanism import Mechanism, Unit


def _number_or_inf(value: Any) -> Any:
    return math.inf if value in ("inf", "Infinity") else value


def _inf_as_word(value: float) -> float | str:
    return "inf" if math.isinf(value) else value


#: A number of at least 0 that may be infinite; JSON has no infinity, so there it is "inf".
Spent = Annotated[
    Annotated[float, Field(ge=0, allow_inf_nan=True)],
    BeforeValidator(_number_or_inf),
    PlainSerializer(_inf_as_word, when_used="json"),
]


def new_release_id() -> str:
    """A random name for one release, so that an ancestor shared by many counts once."""
    return secrets.token_hex(8)


class Release(Settings):
    """One output of a computation on patients, and what it spent.

    `mu` is its Gaussian signal-to-noise for each unit, infinite where nothing protects.
    """

    id: str = Field(default_factory=new_release_id, pattern=r"^[0-9a-f]{16}$")
    stage: str
    data: str
    unit: Unit = "patient"
    mu: Spent
    mechanism: Mechanism | None = None
    note: str = ""


class Lineage(Settings):
    """Every release that something descends from; empty where no patient was involved."""

    releases: tuple[Release, ...] = ()

    def joined(self, others: Iterable["Lineage"]) -> "Lineage":
        """The union with `others`; a release that several share counts once."""
        seen = {release.id: release for release in self.releases}
        for other in others:
            for release in other.releases:
                seen.setdefault(release.id, release)
        return Lineage(releases=tuple(seen.values()))

    def with_release(self, release: Release) -> "Lineage":
        """The lineage of something made from this and one more release."""
        return self.joined([Lineage(releases=(release,))])

    @property
    def mu(self) -> float:
        """Signal-to-noise of all releases together: sqrt of the sum of mu squared.

        Guarantee: an upper bound for every patient, since data sets are taken to overlap.
        """
        return math.sqrt(sum(release.mu**2 for release in self.releases))

    @property
    def unprotected(self) -> tuple[Release, ...]:
        """The releases that nothing protects."""
        return tuple(release for release in self.releases if math.isinf(release.mu))


class Ledger:
    """The append-only record of the steps of one release, `private/ledger.jsonl` of its run.

    Guarantee: `spent_steps` counts every step ever reserved; nothing lowers it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries = self._read() if path.exists() else []

    def _read(self) -> list[dict[str, Any]]:
        lines = self.path.read_bytes().split(b"\n")
        entries = []
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                entry = json.loads(line)
                if not isinstance(entry, dict) or entry.get("event") not in ("open", "reserve"):
                    raise ValueError("no event")
                entries.append(entry)
            except ValueError as error:
                raise InputError(
                    f"ledger.jsonl, line {number}: not readable, so what was spent is unknown; "
                    "restore the file, or start in a new run folder with a new budget"
                ) from error
        return entries

    @property
    def release(self) -> Release | None:
        """The release that this ledger was opened for, with its full budget."""
        for entry in self._entries:
            if entry["event"] == "open":
                try:
                    return Release.model_validate(entry["release"])
                except ValidationError as error:
                    raise InputError(
                        "ledger.jsonl: its first entry is not a release of this version; "
                        "restore the file, or start in a new run folder"
                    ) from error
        return None

    @property
    def spent_steps(self) -> int:
        """How many steps have been reserved so far, whether or not they were finished."""
        return sum(int(entry["steps"]) for entry in self._entries if entry["event"] == "reserve")

    def open(self, release: Release) -> None:
        """Write the release that the steps to come belong to; only once."""
        if self._entries:
            raise InputError("ledger.jsonl: opened already; a release has one ledger")
        self._append({"event": "open", "release": release.model_dump(mode="json")})

    def reserve(self, steps: int) -> int:
        """Reserve `steps` steps on disk; returns the number of the first of them.

        Raises:
            InputError: when that is more than the release's mechanism has.
        """
        release = self.release
        if release is None or release.mechanism is None:
            raise InputError("ledger.jsonl: open a release with a mechanism before reserving")
        first = self.spent_steps
        if first + steps > release.mechanism.steps:
            raise InputError(
                f"ledger.jsonl: {first} of {release.mechanism.steps} steps are spent, so "
                f"{steps} more would exceed the budget"
            )
        self._append({"event": "reserve", "first": first, "steps": steps})
        return first

    def _append(self, entry: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_line(self.path, json.dumps(entry), durable=True)
        self._entries.append(entry)

    def spent(self) -> Release:
        """The release with what was really spent of its budget."""
        release = self.release
        if release is None or release.mechanism is None:
            raise InputError("ledger.jsonl: holds no release; the run has not started")
        return release.model_copy(update={"mu": release.mechanism.mu_of(self.spent_steps)})


def record_release(path: Path, release: Release) -> None:
    """Note a release in the ledger that stands beside a data set, once for each id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists() and f'"{release.id}"' in path.read_text(encoding="utf-8"):
            return
        append_line(path, json.dumps(release.model_dump(mode="json")), durable=True)
