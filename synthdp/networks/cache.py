"""What frozen extractors give for images, computed once and kept beside the data set.

A cache file stands in the private folder of the data set, for a feature vector is as private as
its image. Its name is made of the extractor's identity and a keyed digest of the images.

Of many images it is made in parts, which all processes share that ask for it
(`synthdp.storage.shared_work`): none waits for another's work, and what a killed one has finished
is kept. Which of them computes an image depends on how many there are, so that those alone share
parts that give the same bits: on one kind of processor, with as many threads. Parts are joined when
all are there. A large file is mapped into memory, not read, so that what it takes can be given
back.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray

from synthdp.data.dataset import Dataset, Row, load_images
from synthdp.data.identity import keyed_digest
from synthdp.errors import InputError, RunError
from synthdp.machine.devices import kernels
from synthdp.machine.progress import progress
from synthdp.networks.denoise import Prepare
from synthdp.storage.files import closed_to_others, refused_when_full
from synthdp.storage.shared_work import make_parts

Compute = Callable[[NDArray[np.float32]], NDArray[Any]]
Made = TypeVar("Made")
FOLDER = "features"
#: In bytes, of the addresses of new tensors.
_ALIGNMENT = 64
#: Rows of a part, if not more for `_MOST_PARTS`: about what two processes wait for each other.
_PART_ROWS, _MOST_PARTS = 32, 1024
#: In bytes, what is mapped into memory.
_MAPPED_FROM = 64 * 2**20
#: Rows that are looked at together, for memory.
_AT_ONCE = 4096
#: Names of dtypes in files of safetensors.
_DTYPES = {"float32": "F32", "float16": "F16"}


@dataclass(frozen=True)
class _Entry:
    """A file with an array, and what it must say of itself to be believed."""

    path: Path
    name: str
    n_rows: int
    dtype: str


def cached_array(
    dataset: Dataset,
    rows: Sequence[Row],
    *,
    name: str,
    dtype: str,
    compute: Callable[[int, int], NDArray[Any]],
    batch: int,
    what: str = "features",
    finite: bool = True,
) -> NDArray[Any]:
    """An array with one row an image, from the cache of the data set or from `compute`.

    Processes that want the same array share the work. A damaged cache file is computed again; where
    the data set cannot be written to, nothing is kept.

    Args:
        dataset: the opened data set.
        rows: some of its rows, in the order of the result.
        name: everything beside the images that decides the result.
        dtype: "float32", or "float16" where half the room is worth the rounding.
        compute: gives the rows of the array from one place to before another, (n, ...); of at most
            `batch` rows, begun at a multiple of it.
        batch: rows at once; all of them where they can't be computed in pieces.
        what: names the progress bar, and the array in errors.
        finite: refuse what is not. False for whoever promises something to these patients, where a
            refusal would tell of one of them: such an image then counts as zero.

    Returns:
        (N, ...) of `dtype`.

    Raises:
        RunError: when the array is not finite, or the disk is full.
    """

    def computed(begin: int, end: int) -> NDArray[Any]:
        starts = range(begin, max(end, 1), batch)  # of no image, too, the shape is asked for
        alone = begin == 0 and end == len(rows)
        shown = progress(starts, what=f"{what} of {dataset.info.name}") if alone else starts
        with np.errstate(over="ignore"):
            parts = [compute(at, min(at + batch, end)).astype(dtype, copy=False) for at in shown]
        return checked(np.concatenate(parts) if len(parts) > 1 else parts[0])

    def checked(values: NDArray[Any]) -> NDArray[Any]:
        pieces = (values[at : at + _AT_ONCE] for at in range(0, len(values), _AT_ONCE))
        if finite and not all(np.isfinite(piece).all() for piece in pieces):
            raise RunError(
                f"{what}: not finite for some images; the weights have diverged or are damaged"
            )
        return _aligned(values)

    maker = hashlib.sha256(f"{name} {dtype}".encode()).hexdigest()
    try:
        entry_name = f"{maker[:32]}-{keyed_digest(dataset, rows)[:32]}"
        folder = dataset.private / FOLDER
        with closed_to_others():
            folder.mkdir(exist_ok=True)
            lock = open(folder / f".{entry_name}.lock", "a", encoding="utf-8")  # noqa: SIM115
    except (OSError, RunError):  # a read-only folder, or one of somebody else
        return computed(0, len(rows))
    entry = _Entry(folder / f"{entry_name}.safetensors", entry_name, len(rows), dtype)
    with lock:
        # first without the lock, so that readers need not wait for each other
        if (stored := _read(entry)) is not None:
            return checked(stored)
        parts = _parts(entry, batch)
        if len(parts) > 1:
            joined = _shared(entry, parts, computed, lock, f"{what} of {dataset.info.name}")
            if joined is not None:
                return checked(joined)
        _lock(lock, fcntl.LOCK_EX)
        if (stored := _read(entry)) is not None:  # another process computed it meanwhile
            return checked(stored)
        values = computed(0, len(rows))
        with suppress(OSError):  # made read-only meanwhile: the array itself is fine
            _write(entry, values.shape, lambda: iter([values]))
        return values


def cached_features(
    dataset: Dataset,
    rows: Sequence[Row],
    *,
    extractor_id: str,
    size_px: int,
    compute: Compute,
    batch: int = 64,
    what: str = "features",
    dtype: str = "float32",
    finite: bool = True,
    prepare: Prepare | None = None,
) -> NDArray[Any]:
    """What an extractor gives for the images of `rows`, cached as by `cached_array`.

    Args:
        dataset: the opened data set.
        rows: some of its rows, in the order of the result.
        extractor_id: names everything that decides what `compute` gives.
        size_px: the side at which images are handed to `compute`.
        compute: (B, 1, size_px, size_px) float32 in [-1, 1] to (B, ...).
        batch: images at once.
        what: names the progress bar and errors.
        dtype: of the result.
        finite: as `cached_array`.
        prepare: what is done to each image before it is resampled; `extractor_id` tells it.

    Returns:
        (N, ...) of `dtype`.

    Raises:
        InputError: when an image is unreadable.
        RunError: when the result is not finite, or the disk is full.
    """
    return cached_array(
        dataset,
        rows,
        name=f"{extractor_id} at {size_px} px",
        dtype=dtype,
        compute=lambda begin, end: compute(load_images(dataset, rows[begin:end], size_px, prepare)),
        batch=batch,
        what=what,
        finite=finite,
    )


def made_among(
    make: Callable[[Sequence[Row]], Made], rows: Sequence[Row], among: Sequence[Row]
) -> tuple[Made, list[int]]:
    """What `make` gives for more rows than are asked for, which other choices of rows then share.

    Args:
        make: gives something of each row, in their order, by `cached_array`.
        rows: those that are asked for, N of `among`.
        among: these and more.

    Returns:
        What `make` gave, and the N places of `rows` in it.

    Guarantee: whether it ends or raises depends on `rows` alone. Whoever is left out of a run may
    not stop it, by an image that can't be read: it would tell of somebody whom the run never meets.

    Raises:
        InputError, RunError: those of `make` for `rows` alone.
    """
    try:
        made = make(among)
    except (InputError, RunError):
        return make(rows), list(range(len(rows)))
    place = {row.image: index for index, row in enumerate(among)}
    return made, [place[row.image] for row in rows]


def _aligned(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers at an address as a new tensor has, wherever they come from.

    Sums round otherwise at odd addresses, where what is read from a file stands: a run that reads
    what it once computed must go on to the bit.
    """
    if values.ctypes.data % _ALIGNMENT == 0:
        return values
    aligned: NDArray[Any] = torch.from_numpy(values).clone().numpy()
    return aligned


# Work that is shared: parts beside the file that they are to become.


def _parts(entry: _Entry, batch: int) -> list[_Entry]:
    """The parts of an array, each of whole batches."""
    rows = max(_PART_ROWS, -(-entry.n_rows // _MOST_PARTS))
    rows = -(-rows // batch) * batch
    computed_by = hashlib.sha256(kernels().encode()).hexdigest()[:8]
    folder = entry.path.with_suffix(f".{computed_by}.parts")
    parts = []
    for begin in range(0, entry.n_rows, rows):
        end = min(begin + rows, entry.n_rows)
        name = f"{begin:09d}-{end:09d}"
        part = _Entry(folder / name, f"{entry.name} {name}", end - begin, entry.dtype)
        parts.append(part)
    return parts


def _shared(
    entry: _Entry,
    parts: Sequence[_Entry],
    compute: Callable[[int, int], NDArray[Any]],
    lock: IO[str],
    what: str,
) -> NDArray[Any] | None:
    """The array, made by all processes that want it; None where nothing can be kept.

    Whoever is at parts shares the lock; whoever joins and removes them has it alone.
    """
    folder = parts[0].path.parent

    def make(index: int) -> None:
        begin = sum(part.n_rows for part in parts[:index])
        values = compute(begin, begin + parts[index].n_rows)
        _write(parts[index], values.shape, lambda: iter([values]), durable=False)

    _lock(lock, fcntl.LOCK_SH)
    try:
        while (stored := _read(entry)) is None:
            with closed_to_others():
                folder.mkdir(exist_ok=True)
            make_parts(folder, [part.path.name for part in parts], make, what=what)
            _lock(lock, fcntl.LOCK_EX)
            if (stored := _read(entry)) is not None:  # joined by another process
                break
            if _join(entry, parts):
                for made in entry.path.parent.glob(f"{entry.name}.*parts"):
                    shutil.rmtree(made, ignore_errors=True)
            _lock(lock, fcntl.LOCK_SH)
    except OSError:  # made read-only, or without locks removed by another process, meanwhile
        return _read(entry)
    return stored


def _join(entry: _Entry, parts: Sequence[_Entry]) -> bool:
    """Write the file of parts; False where one was damaged, which is removed."""
    damaged = list[_Entry]()

    def pieces() -> Iterator[NDArray[Any]]:
        for part in parts:
            values = _read(part)
            if values is None:
                damaged.append(part)
                raise ValueError
            yield values

    try:
        of_row = next(pieces()).shape[1:]
        _write(entry, (entry.n_rows, *of_row), pieces)
    except ValueError:
        for part in damaged:
            part.path.unlink(missing_ok=True)
        return False
    return True


def _lock(lock: IO[str], kind: int) -> None:
    with suppress(OSError):  # without locks, several processes may compute it at once
        fcntl.flock(lock, kind)  # freed when the file is closed


# Files: those of safetensors, with what they are of and a checksum in their header.


def _read(entry: _Entry) -> NDArray[Any] | None:
    """The array of a cache file; None when it is absent, damaged, or of something else."""
    try:
        with safetensors.safe_open(entry.path, framework="numpy") as stored:
            about = json.loads((stored.metadata() or {})["about"])
            if os.path.getsize(entry.path) < _MAPPED_FROM:
                values: NDArray[Any] = stored.get_tensor("values")
            else:
                values = _mapped(entry, stored.get_slice("values").get_shape())
    except (OSError, KeyError, ValueError, safetensors.SafetensorError):
        return None
    fits = len(values) == entry.n_rows and values.dtype == entry.dtype
    whole = fits and about == {"name": entry.name, "sha256": _checksum([values])}
    return values if whole else None


def _mapped(entry: _Entry, shape: Sequence[int]) -> NDArray[Any]:
    """The array of a file in memory that the system may take back, since the file has it.

    What is written to the array does not reach the file.
    """
    with open(entry.path, "rb") as stream:
        begin = 8 + int.from_bytes(stream.read(8), "little")
    return np.asarray(np.memmap(entry.path, entry.dtype, "c", begin, tuple(shape)))


def _write(
    entry: _Entry,
    shape: Sequence[int],
    pieces: Callable[[], Iterator[NDArray[Any]]],
    *,
    durable: bool = True,
) -> None:
    """Write an array of this shape that comes in pieces, so that its file is whole or absent.

    Args:
        entry: the file.
        shape: of the array.
        pieces: gives its rows; asked for twice.
        durable: wait until it is on the disk. A part need not be there after a power failure: its
            checksum tells.

    Raises:
        OSError: when the folder can't be written.
        RunError: when the disk is full.
    """
    about = json.dumps({"name": entry.name, "sha256": _checksum(pieces())})
    n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(entry.dtype).itemsize
    of_values = {"dtype": _DTYPES[entry.dtype], "shape": list(shape), "data_offsets": [0, n_bytes]}
    header = json.dumps({"__metadata__": {"about": about}, "values": of_values}).encode()
    header += b" " * (-(8 + len(header)) % _ALIGNMENT)  # the values begin where a tensor would
    scratch = entry.path.parent / f".{entry.path.name}.{secrets.token_hex(4)}.part"
    with refused_when_full(n_bytes), closed_to_others():
        try:
            with open(scratch, "wb") as stream:
                stream.write(len(header).to_bytes(8, "little") + header)
                for values in pieces():
                    stream.write(np.ascontiguousarray(values).data)
                if durable:
                    stream.flush()
                    os.fsync(stream.fileno())
            os.replace(scratch, entry.path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


def _checksum(pieces: Iterable[NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for values in pieces:
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
