"""Files that are whole or absent: atomic writes, bounded reads, hashes."""

import errno
import fcntl
import filecmp
import glob
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from synthdp.errors import InputError, RunError
from synthdp.storage.locks import WITHOUT_LOCKS

#: The largest JSON file that is read, and the most values in it: what is written stays far below,
#: and a file at both bounds takes some hundred megabytes of memory.
MAX_JSON_BYTES = 16 * 2**20
MAX_JSON_VALUES = 500_000
#: Longer numbers count nothing that a file here could hold, and take long to read and to print.
MAX_DIGITS = 100
#: The deepest that values may stand inside each other.
MAX_DEPTH = 64


_WITHOUT_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def refused_when_full(bytes_needed: int = 0) -> Iterator[None]:
    """Turn a full disk into one clear error; files that were there before stay as they are.

    Args:
        bytes_needed: how much was to be written, for the error; 0 where that is not known.

    Raises:
        RunError: when the file system has no space left.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            wanted = f" ({bytes_needed:,} bytes were to be written)" if bytes_needed else ""
            raise RunError(
                f"the disk is full{wanted}: free some space and run the same command again; "
                "what was finished before is kept"
            ) from error
        raise


@contextmanager
def refused_without_rights(what: str) -> Iterator[None]:
    """Turn a file that can't be read, written or locked into one clear error.

    Args:
        what: is used, without the folders above it, which may have a patient's name.

    Raises:
        RunError: when the file system is read-only, withholds the right, has no locks, or is full.
    """
    with refused_when_full():
        try:
            yield
        except OSError as error:
            if error.errno in _WITHOUT_RIGHT:
                raise RunError(
                    f"{what} cannot be read or written ({os.strerror(error.errno)}): give the user "
                    "that runs this both rights to it and its folder, on a disk that may be "
                    "written"
                ) from error
            if error.errno in WITHOUT_LOCKS:
                raise RunError(
                    f"{what} cannot be locked ({os.strerror(error.errno)}): its file system has no "
                    "working locks, and without them two processes could spend at once unseen; "
                    "move the folder to one that has (a local disk, or NFS with its lock service)"
                ) from error
            raise


def refuse_without_descriptors(error: OSError) -> None:
    """Tell a file that cannot be opened now from one that may not be read, or is not there.

    Raises:
        RunError: when the process or the system has no file descriptor left.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise RunError(
            "too many files are open at once, so a file or folder could not be looked at: raise "
            "the limit (ulimit -n 4096) and run the same command again"
        ) from error


def folders_below(root: Path) -> tuple[list[tuple[Path, list[str], list[str]]], int]:
    """Each folder below `root`, itself first, with the names of its subfolders and of its files.

    Returns:
        The folders, links not followed, and how many could not be read, or not be entered: their
        files have names, and nothing else.

    Raises:
        RunError: when no file descriptor is left, so that nobody knows what is there.
    """
    unread = 0

    def count(error: OSError) -> None:
        nonlocal unread
        refuse_without_descriptors(error)
        unread += 1

    walked = []
    for folder, names, files in os.walk(root, onerror=count):
        if os.access(folder, os.X_OK):
            walked.append((Path(folder), names, files))
        else:
            unread += 1
            names.clear()  # none of them is walked
    return walked, unread


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` so that `path` holds all of it or what it held before.

    Raises:
        RunError: when the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    scratch = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    with refused_when_full(len(data)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(scratch, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(scratch, path)
            _sync_folder(path.parent)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


def append_line(path: Path, line: str, *, durable: bool = False) -> None:
    """Append one line in a single write; `durable` waits until it is on the disk.

    Raises:
        RunError: when the disk is full.
    """
    with refused_when_full(len(line)), open(path, "ab") as stream:
        stream.write(line.encode() + b"\n")
        stream.flush()
        if durable:
            os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically.

    Raises:
        RunError: when the disk is full.
        ValueError: when a number is nan or infinite, which JSON does not have.
    """
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_text(path: Path, max_bytes: int, *, where: str = "") -> str:
    """Read a UTF-8 text file of at most `max_bytes`; nothing beyond is read, whatever it is.

    `where` is what errors call the file: its name when empty.

    Raises:
        InputError: when the file is missing, may not be read, is too large, or is no such text.
        RunError: when no file descriptor is left.
    """
    where = where or path.name
    if not path.is_file():
        raise InputError(f"{where}: there is no such file in the folder {path.parent.name!r}")
    try:
        with open(path, "rb") as stream:
            content = stream.read(max_bytes + 1)
    except OSError as error:
        refuse_without_descriptors(error)
        raise InputError(
            f"{where}: could not be read ({error.strerror}); correct its permissions, or restore it"
        ) from error
    if len(content) > max_bytes:
        raise InputError(f"{where}: larger than {max_bytes:,} bytes, so it was not read")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text; save it as UTF-8, or restore it") from error


def read_json(
    path: Path, max_bytes: int = MAX_JSON_BYTES, max_values: int = MAX_JSON_VALUES
) -> Any:
    """Read a JSON file of at most `max_bytes`, in bounded time and memory.

    Refused are also what JSON does not have (NaN, infinity, halves of surrogate pairs), what no
    file here needs (NUL, numbers of more than `MAX_DIGITS` digits, more than `max_values`
    values) and a key that stands twice, since readers differ in which one they take.

    Raises:
        InputError: when the file is missing, too large, or no such JSON.
    """
    text = read_text(path, max_bytes)
    try:
        return parse_json(text, max_values)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path.name}: not valid JSON ({error}); restore the file or make the folder again"
        ) from error


def parse_json(text: str, max_values: int = MAX_JSON_VALUES) -> Any:
    """The value in a JSON text, under the bounds of `read_json`.

    Raises:
        ValueError: when it is no such JSON.
        RecursionError: when it is nested too deeply.
    """
    if text.count(",") + text.count("[") + text.count("{") > max_values:
        raise ValueError(f"more than {max_values:,} values")
    value = json.loads(
        text,
        object_pairs_hook=_without_repeats,
        parse_constant=_refuse_constant,
        parse_int=_bounded_int,
        parse_float=_finite_float,
    )
    _refuse_deep(value)
    if "\\u" in text:  # only an escape can hold these
        written = json.dumps(value, ensure_ascii=False)
        if "\\u0000" in written:
            raise ValueError("a text holds the character NUL")
        written.encode()  # a surrogate alone is a ValueError
    return value


def _refuse_deep(value: Any) -> None:
    """Refuse what would take a reader that calls itself for each level out of its stack."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        parts = (part for one in level for part in (one.values() if isinstance(one, dict) else one))
        level = [part for part in parts if isinstance(part, dict | list)]
    if level:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite_float(digits: str) -> float:
    value = float(digits) if len(digits) <= MAX_DIGITS else math.inf
    if math.isinf(value):
        raise ValueError("a number too large or too long")
    return value


def readable_name(name: str) -> str:
    r"""A file's name as text that any table or JSON file holds: bytes that are none as `\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _remove_abandoned(path: Path) -> None:
    """Remove what killed processes left of `path`; the folder of one that still runs is locked."""
    for scratch in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        # another process may remove it at once, or another user own it
        with suppress(OSError), _locked(scratch) as held:
            if held:
                shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Try to lock a folder for the block: True when held, False when another process holds it.

    False too where the file system has no locks: nobody removes then what another may be at.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        held = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = False
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            held = False
        yield held
    finally:
        os.close(descriptor)


@contextmanager
def short_lived_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` for the block, its owner's alone, that goes with the block.

    What processes that were killed in such a block of this path have left goes before.
    """
    _remove_abandoned(path)
    name = secrets.token_hex(4)
    made = path.parent / f".{path.name}.{name}.new"
    made.mkdir(mode=0o700)
    scratch = made.with_suffix(".part")
    try:
        with _locked(made):  # before it has the name by which others look for what was left
            os.replace(made, scratch)
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refuse_filled(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: is a link to nowhere; name a new folder or remove it first")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists already; name a new folder or remove it first")


def _same_files(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files with the same bytes."""
    names = [
        {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}
        for folder in (one, other)
    ]
    return names[0] == names[1] != set() and all(
        filecmp.cmp(one / name, other / name, shallow=False) for name in names[0]
    )


class _Mask:
    """The process's mask for new files, closed while any thread is in a block that asks for it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._blocks = 0
        self._before = 0

    def close(self) -> None:
        with self._lock:
            if self._blocks == 0:
                self._before = os.umask(0o077)
            self._blocks += 1

    def reopen(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                os.umask(self._before)


_mask = _Mask()


@contextmanager
def closed_to_others() -> Iterator[None]:
    """Let what is made in the block be its owner's alone, files (mode 600) and folders (700).

    For what is about patients. What leaves is written anew, outside such a block. The mask is the
    process's own: what other threads make meanwhile is closed too, and the last block to end in any
    of them gives back the mask from before the first.
    """
    _mask.close()
    try:
        yield
    finally:
        _mask.reopen()


@contextmanager
def atomic_folder(path: Path, *, closed: bool = False, again: bool = False) -> Iterator[Path]:
    """Yield a hidden sibling folder that becomes `path` when the block ends well.

    Args:
        path: of the folder.
        closed: it is about patients, and made as by `closed_to_others`.
        again: the same block may make it again: what is there with the very files that it made
            stays, as after a kill that came when all was done.

    Raises:
        InputError: when `path` exists and is not an empty folder, or not the same one.
        RunError: when the disk is full.
    """
    if not again:
        _refuse_filled(path)
    scratch = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    with refused_when_full():
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        try:
            with closed_to_others() if closed else nullcontext():
                scratch.mkdir()
            with _locked(scratch):
                with closed_to_others() if closed else nullcontext():
                    yield scratch
                if again and _same_files(path, scratch):
                    shutil.rmtree(scratch)
                    return
                os.sync()  # all files at once: a wait for each of thousands takes far longer
                _refuse_filled(path)  # another process may have been faster
                if path.exists():
                    path.rmdir()
                os.replace(scratch, path)
                _sync_folder(path.parent)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
