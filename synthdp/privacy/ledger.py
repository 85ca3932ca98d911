"""What was really spent, on disk before it is spent: steps of a run, releases on a data set.

A `Ledger` counts the steps of one run's release. Steps are reserved before they run; a crash leaves
the reserved block spent, so that the record is never below what was computed, and an older
checkpoint refunds nothing. `record_release` and `recorded_releases` keep a data set's own ledger:
each release on its patients, once.

Both are a `Journal`, an append-only file of JSON lines that shows when it was cut, edited or torn.
Each line ends with a digest of all bytes before it, and the head beside the file (`NAME.head`) says
how many lines were acknowledged. The head is written after the line is on the disk, so a line
beyond it belongs to an append that never returned.
"""

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from synthdp.config import RiskTarget, Settings
from synthdp.errors import InputError
from synthdp.files import read_json, refused_when_full, write_json
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Unit

#: Raised when the meaning of a line changes; stands in the first line of each format. Format 1 had
#: neither terms nor starts, and a data set's ledger no line at its creation.
FORMAT = 2
#: What stands for a line whose end is missing.
TORN: dict[str, Any] = {"event": "torn"}
_CHAIN_DIGITS = 16
_Line = TypeVar("_Line", "Terms", Release)
_UNKNOWN = "so what was spent is unknown; restore the file from a backup"


class Journal:
    """The lines of one file; `entries` holds a `TORN` where an append was cut off by a crash.

    Guarantee: an entry that `append` returned for is on the disk, and a later reading gives it back
    or is refused; the last line alone may be read as `TORN`, when it was damaged.

    Raises:
        InputError: when the file was cut, edited, or written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self._hash = hashlib.sha256()
        self._size = 0
        self._format = 0  # of the newest line that says one
        self._open_ended = False
        self._acknowledged = self._head_lines()  # first: another process may be appending
        if path.exists():
            self._read(path.read_bytes())
        self._compare_with_head()

    @property
    def _name(self) -> str:
        """What errors call the file, whose folder may have a patient's name."""
        return f"private/{self.path.name}"

    @property
    def _head_path(self) -> Path:
        return self.path.with_suffix(".head")

    def _read(self, content: bytes) -> None:
        for number, line in enumerate(content.splitlines(keepends=True), start=1):
            self.entries.append(self._checked(line.rstrip(b"\n"), number))
            self._hash.update(line)
        self._size = len(content)
        self._open_ended = not content.endswith(b"\n") and content != b""

    def _checked(self, line: bytes, number: int) -> dict[str, Any]:
        """The entry of a line, or `TORN` where its end is missing.

        A line that is whole and does not follow from all before it was never written by `append`.
        """
        try:
            entry = json.loads(line)
        except ValueError:
            return TORN
        fields = entry if isinstance(entry, dict) else {}
        chain, version = fields.pop("chain", None), fields.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise InputError(f"{self._name}: written by a newer synthdp; update this one")
        self._format = version if isinstance(version, int) else self._format
        if chain is None or chain != self._chain(json.dumps(entry)):
            raise InputError(
                f"{self._name}, line {number}: edited, damaged, or of another version, {_UNKNOWN}"
            )
        return fields

    def _compare_with_head(self) -> None:
        """Refuse a file that lost an acknowledged line, the last of them apart, which may be torn.

        An earlier torn line is no damage: a later one holds the digest of it.
        """
        acknowledged = self._acknowledged
        if len(self.entries) < acknowledged:
            raise InputError(f"{self._name}: lines are missing at its end, {_UNKNOWN}")
        whole = [number for number, entry in enumerate(self.entries) if entry is not TORN]
        last_whole = whole[-1] if whole else -1
        if acknowledged - 1 - last_whole > 1:
            raise InputError(f"{self._name}, line {last_whole + 2}: damaged, {_UNKNOWN}")
        if sum(number >= acknowledged for number in whole) > 1:
            raise InputError(
                f"{self._name}: {self._head_path.name} is of another time, {_UNKNOWN} and its head"
            )

    def _head_lines(self) -> int:
        """How many lines were acknowledged."""
        head = read_json(self._head_path) if self._head_path.exists() else {"lines": 0}
        lines = head.get("lines") if isinstance(head, dict) else None
        if not isinstance(lines, int):
            raise InputError(f"private/{self._head_path.name}: damaged, {_UNKNOWN}")
        return lines

    def _chain(self, body: str) -> str:
        digest = self._hash.copy()
        digest.update(body.encode())
        return digest.hexdigest()[:_CHAIN_DIGITS]

    def refuse_loss(self) -> None:
        """Refuse a journal whose last acknowledged line is torn, where its entry can't be guessed.

        Raises:
            InputError: when it is.
        """
        torn = self._acknowledged > 0 and self.entries[self._acknowledged - 1] is TORN
        if torn and all(entry is TORN for entry in self.entries[self._acknowledged :]):
            raise InputError(f"{self._name}: its last line is damaged, {_UNKNOWN}")

    def append(self, entry: dict[str, Any]) -> None:
        """Add one entry and return when it is on the disk.

        Raises:
            InputError: when another process has written to the file since it was read.
            RunError: when the disk is full.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._format < FORMAT:
            entry = {"format": FORMAT, **entry}
        elif self._acknowledged < len(self.entries):  # a crash came between a line and its head
            self._acknowledge()
        with refused_when_full(), open(self.path, "ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if os.fstat(stream.fileno()).st_size != self._size:
                raise InputError(
                    f"{self._name}: another process writes to it; wait for that one to end"
                )
            if self._open_ended:
                self._write(stream.fileno(), b"\n")
                self._open_ended = False
            chain = self._chain(json.dumps(entry))
            self._write(stream.fileno(), json.dumps({**entry, "chain": chain}).encode() + b"\n")
            os.fsync(stream.fileno())
        self.entries.append(entry)
        self._format = FORMAT
        self._acknowledge()

    def _acknowledge(self) -> None:
        write_json(self._head_path, {"lines": len(self.entries)})
        self._acknowledged = len(self.entries)

    def _write(self, descriptor: int, content: bytes) -> None:
        rest = content
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        self._hash.update(content)
        self._size += len(content)


class Terms(Settings):
    """All that a run's statement is made of, beside what was spent of the run's own release.

    subject, delta, unit, population: as `make_statement` takes them; target: the epsilon that was
    asked for, None without one; risk: the risk that was asked for instead; ancestors: what the
    result descends from beside the run's own release; release: that one, with its full budget,
    where its rows are patients, else None.
    """

    subject: str
    delta: float = Field(gt=0, lt=1)
    unit: Unit = "patient"
    population: int | None = Field(default=None, ge=1)
    target: float | None = Field(default=None, gt=0)
    risk: RiskTarget | None = None
    ancestors: Lineage = Lineage()
    release: Release | None = None


class Ledger:
    """What a run is to state, and the steps of its release that were reserved.

    It is `private/ledger.jsonl` of a run. Every run has one; only a private training opens a
    release in it and reserves steps.

    Guarantee: `spent_steps` counts every step ever reserved; nothing lowers it.

    Raises:
        InputError: when the file was cut, edited, or written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._release, self._block_steps, self._fingerprint = None, 0, ""
        self._terms: Terms | None = None
        for entry in self._journal.entries:
            if entry["event"] == "terms":
                self._terms = _checked(Terms, entry["terms"])
            elif entry["event"] == "open":
                self._release = _checked(Release, entry["release"])
                self._block_steps = int(entry["block_steps"])
                self._fingerprint = str(entry["fingerprint"])

    @property
    def terms(self) -> Terms | None:
        """What the run's statement is made of; None of a run of an earlier version."""
        return self._terms

    @property
    def release(self) -> Release | None:
        """The release that this ledger was opened for, with its full budget."""
        return self._release

    @property
    def counted(self) -> Release | None:
        """The run's own release as it counts in a lineage, with what was really spent of it.

        None where the rows are no patients, or of a run of an earlier version.
        """
        if self._terms is None or self._terms.release is None:
            return None
        if self._release is None or self._release.mechanism is None:
            return self._terms.release
        return self.spent()

    def note_terms(self, terms: Terms) -> None:
        """Put on the disk what the run's statement is made of; the newest such line holds."""
        if terms != self._terms:
            self._journal.append({"event": "terms", "terms": terms.model_dump(mode="json")})
            self._terms = terms

    def _opened(self) -> tuple[Release, int]:
        """The release that the ledger was opened for, and its budget of steps."""
        if self._release is None or self._release.mechanism is None:
            raise InputError("private/ledger.jsonl: no release with a mechanism is open in it")
        return self._release, self._release.mechanism.steps

    @property
    def spent_steps(self) -> int:
        """How many steps have been reserved so far, whether or not they were finished.

        A torn line counts as a whole block.
        """
        spent, is_open = 0, False
        for entry in self._journal.entries:
            is_open = is_open or entry["event"] == "open"
            if entry["event"] == "reserve":
                spent = int(entry["first"]) + int(entry["steps"])
            elif entry is TORN and is_open:
                spent = min(spent + self._block_steps, self._opened()[1])
        return spent

    @property
    def steps_left(self) -> int:
        """How many steps of the release's mechanism can still be reserved."""
        return self._opened()[1] - self.spent_steps

    def claim(self, release: Release, *, fingerprint: str, block_steps: int) -> Release:
        """Open the ledger for a release, or make sure that it was opened for this very one.

        Args:
            release: with its full budget.
            fingerprint: keyed digest of the data.
            block_steps: the most steps that are reserved at a time.

        Returns:
            The release to go on with: the one that the ledger was opened for. A run that another
            version began keeps the noise that it began with.

        Raises:
            InputError: when the ledger is that of another release, mechanism or data.
        """
        if self._release is None:
            self._journal.append(
                {
                    "event": "open",
                    "release": release.model_dump(mode="json"),
                    "block_steps": block_steps,
                    "fingerprint": fingerprint,
                }
            )
            self._release, self._block_steps = release, block_steps
            self._fingerprint = fingerprint
        elif self._fingerprint != fingerprint:
            raise InputError(
                "the data set has changed since this run began; start in a new run folder"
            )
        elif not release.same_but_for_rounding(self._release):
            raise InputError(
                "private/ledger.jsonl belongs to another release than this run plans (an ancestor "
                "or the mechanism has changed); start in a new run folder"
            )
        return self._release

    def reserve(self, steps: int) -> range:
        """Reserve `steps` steps on disk, a block at most; returns their numbers.

        Raises:
            InputError: when that is more than the release's mechanism has.
        """
        first, (_, budget) = self.spent_steps, self._opened()
        if first + steps > budget:
            raise InputError(
                f"private/ledger.jsonl: {first} of {budget} steps are spent, so {steps} more would "
                "exceed the budget"
            )
        if steps > self._block_steps:
            raise ValueError(f"{steps} steps are more than a block of {self._block_steps}")
        self._journal.append({"event": "reserve", "first": first, "steps": steps})
        return range(first, first + steps)

    def note_stop(self, at: int) -> None:
        """Note that the steps from `at` on, though reserved, have not been touched."""
        self._journal.append({"event": "stop", "at": at})

    def resumed(self, state_at: int) -> range:
        """The reserved steps that a state of `state_at` steps may still run.

        Those after a clean stop at the very same step; none after a crash, whose block stays spent.

        Raises:
            InputError: when the state has more steps than the ledger.
        """
        spent = self.spent_steps
        if state_at > spent:
            raise InputError(
                "private/ledger.jsonl counts fewer steps than the checkpoint has; restore the "
                "ledger, or start in a new run folder"
            )
        last = self._journal.entries[-1] if self._journal.entries else TORN
        if last["event"] != "stop" or last["at"] != state_at:
            return range(spent, spent)
        self._journal.append({"event": "resume", "at": state_at})
        return range(state_at, spent)

    def spent(self) -> Release:
        """The release with what was really spent of its budget.

        Raises:
            InputError: when the ledger was opened for no release with a mechanism.
        """
        release, _ = self._opened()
        return release.after(self.spent_steps)


def _checked(kind: type[_Line], value: Any) -> _Line:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise InputError(
            f"private/ledger.jsonl: its {kind.__name__.lower()} is not of this version; restore "
            "the file, or start in a new run folder"
        ) from error


def record_release(path: Path, release: Release) -> None:
    """Note a release in the ledger that stands beside a data set, once for each id.

    Guarantee: when it returns, the release is on the disk; nothing takes it back.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        journal = Journal(path)
        if release.id not in (recorded.id for recorded in _releases(journal)):
            journal.append({"event": "release", "release": release.model_dump(mode="json")})


def recorded_releases(path: Path) -> tuple[Release, ...]:
    """The releases in the ledger beside a data set.

    A torn line that was never acknowledged belongs to a release that never began.

    Raises:
        InputError: when the file was cut, edited, or written by a newer version.
    """
    return _releases(Journal(path))


def _releases(journal: Journal) -> tuple[Release, ...]:
    journal.refuse_loss()
    return tuple(
        _checked(Release, entry["release"]) for entry in journal.entries if entry is not TORN
    )
