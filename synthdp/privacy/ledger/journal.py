"""An append-only file of JSON lines that shows when it was cut, edited or torn.

Each line ends with a digest of all bytes before it, and the head beside the file (`NAME.head`) says
how many lines were acknowledged. The head is written after the line is on the disk, so a line
beyond it belongs to an append that never returned. Both are read, and both are written, under one
lock of the file: a reader never sees a file beside the head of another moment.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from synthdp.errors import InputError
from synthdp.storage.files import read_json, refused_without_rights, write_json
from synthdp.storage.locks import locked

#: Raised when the meaning of a line changes; stands in the first line of each format. Format 1 had
#: neither terms nor starts, and a data set's ledger no line at its creation.
FORMAT = 2
#: What stands for a line whose end is missing.
TORN: dict[str, Any] = {"event": "torn"}
#: What a line of each kind holds at least, in either ledger; other kinds are read past.
_FIELDS: dict[str, dict[str, type]] = {
    "terms": {"terms": dict},
    "open": {"release": dict, "block_steps": int, "fingerprint": str},
    "inputs": {"inputs": dict},
    "signed": {"token": str},
    "reserve": {"first": int, "steps": int},
    "stop": {"at": int},
    "resume": {"at": int},
    "release": {"release": dict},
    "start": {"token": str},
    "block": {"token": str, "release": str},
    "end": {"token": str},
    "budget": {"budget": dict},
    "left": {"left": dict},
    "withdrawn": {"withdrawn": dict},
}
_CHAIN_DIGITS = 16
#: Of a first line.
_MOST_BYTES = 1 << 24
_UNKNOWN = "so what was spent is unknown; restore the file from a backup"


class Journal:
    """The lines of one file; `entries` holds a `TORN` where an append was cut off by a crash.

    Guarantee: an entry that `append` returned for is on the disk, and a later reading gives it back
    or is refused; the last line alone may be read as `TORN`, when it was damaged.

    Raises:
        InputError: when the file was cut, edited, or written by a newer version.
        RunError: when it can't be read or locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()
        self.read_on()

    def _forget(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._hash = hashlib.sha256()
        self._size = 0
        self._last_line = b""
        self._format = 0  # of the newest line that says one
        self._acknowledged = 0

    @property
    def _name(self) -> str:
        """What errors call the file, whose folder may have a patient's name."""
        return f"private/{self.path.name}"

    @property
    def _head_path(self) -> Path:
        return self.path.with_suffix(".head")

    def read_on(self) -> None:
        """Read what other processes have added; all anew where the file isn't the one it was.

        The last line that was read holds a digest of all before it: while it stands in its place,
        so do they.
        """
        with refused_without_rights(self._name):
            if self.path.exists():
                with open(self.path, "rb") as stream, locked(stream, shared=True):
                    stream.seek(self._size - len(self._last_line))
                    if self._ends_torn or stream.read(len(self._last_line)) != self._last_line:
                        self._forget()
                        stream.seek(0)
                    self._acknowledged, content = self._head_lines(), stream.read()
                self._read(content)
            else:
                self._forget()
                self._acknowledged = self._head_lines()
        self._compare_with_head()

    def _read(self, content: bytes) -> None:
        for line in content.splitlines(keepends=True):
            self.entries.append(self._checked(line.rstrip(b"\n"), len(self.entries) + 1))
            self._took(line)

    def _took(self, line: bytes) -> None:
        """Count a line, or the rest of one, as known."""
        self._hash.update(line)
        self._size += len(line)
        self._last_line = self._last_line + line if self._open_ended else line

    @property
    def _open_ended(self) -> bool:
        """Whether the last line was torn before its end."""
        return not self._last_line.endswith(b"\n") and self._last_line != b""

    @property
    def _ends_torn(self) -> bool:
        return self._open_ended or (self.entries != [] and self.entries[-1] is TORN)

    def _checked(self, line: bytes, number: int) -> dict[str, Any]:
        """The entry of a line, or `TORN` where its end is missing.

        A line that is whole and does not follow from all before it was never written by `append`.
        """
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return TORN
        fields = entry if isinstance(entry, dict) else {}
        chain, version = fields.pop("chain", None), fields.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise InputError(f"{self._name}: written by a newer synthdp; update this one")
        self._format = version if isinstance(version, int) else self._format
        event = fields.get("event")
        wanted = _FIELDS.get(event, {}) if isinstance(event, str) else {"event": str}
        whole = all(isinstance(fields.get(name), kind) for name, kind in wanted.items())
        if not whole or chain is None or chain != self._chain(json.dumps(entry)):
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
            RunError: when the disk is full, or the file can't be written or locked.
        """
        if self._format < FORMAT:
            entry = {"format": FORMAT, **entry}
        with refused_without_rights(self._name):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            refused_without_rights(self._name),
            open(self.path, "ab") as stream,
            locked(stream),
        ):
            if os.fstat(stream.fileno()).st_size != self._size:
                raise InputError(
                    f"{self._name}: another process writes to it; wait for that one to end"
                )
            if self._acknowledged < len(self.entries):  # a crash came between a line and its head
                self._acknowledge()
            if self._open_ended:
                self._write(stream.fileno(), b"\n")
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
        self._took(content)


def first_entry(path: Path) -> dict[str, Any]:
    """The first entry of a file of which nothing else is read; `TORN` where none can be read.

    It is not held against its digest: whoever is to rely on more than this line reads a `Journal`.
    """
    try:
        with open(path, "rb") as stream:  # without the lock: a first line is never written again
            entry = json.loads(stream.readline(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return TORN
    return entry if isinstance(entry, dict) else TORN
