"""An append-only file of JSON lines that tells when something was cut, edited or torn.

Each line ends with a digest of all bytes before it, and the head beside the file (`NAME.head`)
says how many lines were acknowledged. The head is written after the line is on the disk, so a line
beyond it belongs to an append that never returned.
"""

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from synthdp.errors import InputError
from synthdp.files import read_json, refused_when_full, write_json

#: Raised when the meaning of a line changes.
FORMAT = 1
TORN: dict[str, Any] = {"event": "torn"}
_CHAIN_DIGITS = 16
_UNKNOWN = "so what was spent is unknown; restore the file from a backup"


class Journal:
    """The lines of one file; `entries` holds a `TORN` where an append was cut off by a crash.

    Guarantee: an entry that `append` returned for is on the disk, and every later reading either
    gives it back or is refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self._hash = hashlib.sha256()
        self._size = 0
        self._open_ended = False
        self._acknowledged = 0
        if path.exists():
            self._read(path.read_bytes())
        self._compare_with_head()

    @property
    def _where(self) -> str:
        return f"private/{self.path.name}"

    @property
    def _head_path(self) -> Path:
        return self.path.with_suffix(".head")

    def _read(self, content: bytes) -> None:
        for line in content.splitlines(keepends=True):
            entry = self._checked(line.rstrip(b"\n"))
            self.entries.append(TORN if entry is None else entry)
            self._hash.update(line)
        self._size = len(content)
        self._open_ended = not content.endswith(b"\n") and content != b""

    def _compare_with_head(self) -> None:
        """Refuse a file that lost an acknowledged line, or more than the last of them is damaged.

        A torn line is no damage when a later one, which holds the digest of it, is whole.
        """
        head = read_json(self._head_path) if self._head_path.exists() else {"lines": 0}
        acknowledged = self._acknowledged = int(head["lines"])
        if len(self.entries) < acknowledged:
            raise InputError(f"{self._where}: lines are missing at its end, {_UNKNOWN}")
        whole = [number for number, entry in enumerate(self.entries) if entry is not TORN]
        last_whole = whole[-1] if whole else -1
        if acknowledged - 1 - last_whole > 1:
            raise InputError(f"{self._where}, line {last_whole + 2}: edited or damaged, {_UNKNOWN}")
        if sum(number >= acknowledged for number in whole) > 1:
            raise InputError(
                f"{self._where}: {self._head_path.name} is of another time, {_UNKNOWN} and its head"
            )

    def _checked(self, line: bytes) -> dict[str, Any] | None:
        """The entry of a line that is whole and follows all before it; None of any other."""
        try:
            entry = json.loads(line)
            chain = entry.pop("chain")
        except (ValueError, KeyError, AttributeError, TypeError):
            return None
        if int(entry.get("format", FORMAT)) > FORMAT:
            raise InputError(f"{self._where}: written by a newer synthdp; update this one")
        return entry if chain == self._chain(json.dumps(entry)) else None

    def _chain(self, body: str) -> str:
        digest = self._hash.copy()
        digest.update(body.encode())
        return digest.hexdigest()[:_CHAIN_DIGITS]

    def append(self, entry: dict[str, Any]) -> None:
        """Add one entry and return when it is on the disk.

        Raises:
            InputError: when another process has written to the file since it was read.
            RunError: when the disk is full.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.entries:
            entry = {"format": FORMAT, **entry}
        elif self._acknowledged < len(self.entries):  # a crash came between a line and its head
            self._acknowledge()
        with refused_when_full(), open(self.path, "ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if os.fstat(stream.fileno()).st_size != self._size:
                raise InputError(
                    f"{self._where}: another process writes to it; wait for that one to end"
                )
            if self._open_ended:
                self._write(stream.fileno(), b"\n")
                self._open_ended = False
            chain = self._chain(json.dumps(entry))
            self._write(stream.fileno(), json.dumps({**entry, "chain": chain}).encode() + b"\n")
            os.fsync(stream.fileno())
        self.entries.append(entry)
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
