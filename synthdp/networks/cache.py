"""What frozen extractors give for images, computed once and kept beside the data set.

A cache file stands in the private folder of the data set, for a feature vector is as private as
its image. Its name is made of the extractor's identity and a keyed digest of the images.
"""

import fcntl
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray

from synthdp.data.dataset import Dataset, Row, load_images
from synthdp.data.identity import keyed_digest
from synthdp.errors import RunError
from synthdp.machine.progress import progress
from synthdp.storage.files import closed_to_others, write_atomic

Compute = Callable[[NDArray[np.float32]], NDArray[Any]]
FOLDER = "features"
#: In bytes, of the addresses of new tensors.
_ALIGNMENT = 64


@dataclass(frozen=True)
class _Entry:
    """A cache file, and what it must say of itself to be believed."""

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
    compute: Callable[[], NDArray[Any]],
    what: str = "features",
    finite: bool = True,
) -> NDArray[Any]:
    """An array with one row an image, from the cache of the data set or from `compute`.

    Two processes that want the same array compute it once. A damaged cache file is computed
    again; where the data set cannot be written to, nothing is kept.

    Args:
        dataset: the opened data set.
        rows: some of its rows, in the order of the result.
        name: everything beside the images that decides the result.
        dtype: "float32", or "float16" where half the room is worth the rounding.
        compute: gives the array, (N, ...).
        what: names the array in errors.
        finite: refuse what is not. False for whoever promises something to these patients, where a
            refusal would tell of one of them: such an image then counts as zero.

    Returns:
        (N, ...) of `dtype`.

    Raises:
        RunError: when the array is not finite, or the disk is full.
    """

    def computed() -> NDArray[Any]:
        with np.errstate(over="ignore"):
            return compute().astype(dtype, copy=False)

    def checked(values: NDArray[Any]) -> NDArray[Any]:
        if finite and not np.isfinite(values).all():
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
        return checked(computed())
    entry = _Entry(folder / f"{entry_name}.safetensors", entry_name, len(rows), dtype)
    with lock:
        # first without the lock, so that readers need not wait for each other
        if (stored := _read(entry)) is not None:
            return checked(stored)
        with suppress(OSError):  # without locks, several processes may compute it at once
            fcntl.flock(lock, fcntl.LOCK_EX)  # freed when the file is closed
        if (stored := _read(entry)) is not None:  # another process computed it meanwhile
            return checked(stored)
        values = checked(computed())
        _write(entry, values)
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

    Returns:
        (N, ...) of `dtype`.

    Raises:
        InputError: when an image is unreadable.
        RunError: when the result is not finite, or the disk is full.
    """

    def over_images() -> NDArray[Any]:
        numbers = range(0, max(len(rows), 1), batch)  # of no image, too, the shape is asked for
        starts = progress(numbers, what=f"{what} of {dataset.info.name}")
        parts = [
            compute(load_images(dataset, rows[start : start + batch], size_px)).astype(dtype)
            for start in starts
        ]
        return np.concatenate(parts)

    name = f"{extractor_id} at {size_px} px"
    return cached_array(
        dataset, rows, name=name, dtype=dtype, compute=over_images, what=what, finite=finite
    )


def _aligned(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers at an address as a new tensor has, wherever they come from.

    Sums round otherwise at odd addresses, where what is read from a file stands: a run that reads
    what it once computed must go on to the bit.
    """
    if values.ctypes.data % _ALIGNMENT == 0:
        return values
    aligned: NDArray[Any] = torch.from_numpy(values).clone().numpy()
    return aligned


def _checksum(values: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _read(entry: _Entry) -> NDArray[Any] | None:
    """The array of a cache file; None when it is absent, damaged, or of something else."""
    try:
        with safetensors.safe_open(entry.path, framework="numpy") as stored:
            about = json.loads((stored.metadata() or {})["about"])
            values: NDArray[Any] = stored.get_tensor("values")
    except (OSError, KeyError, ValueError, safetensors.SafetensorError):
        return None
    fits = len(values) == entry.n_rows and values.dtype == entry.dtype
    whole = fits and about == {"name": entry.name, "sha256": _checksum(values)}
    return values if whole else None


def _write(entry: _Entry, values: NDArray[Any]) -> None:
    about = json.dumps({"name": entry.name, "sha256": _checksum(values)})
    content = safetensors.numpy.save({"values": values}, metadata={"about": about})
    try:
        with closed_to_others():
            write_atomic(entry.path, content)
    except OSError:  # the folder was made read-only meanwhile: the array itself is fine
        return
