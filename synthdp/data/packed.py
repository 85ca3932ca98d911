"""Images of a set in one memory-mapped form, for whoever reads them again in each pass.

Decoding a PNG and bringing it to a network's side takes longer than a step of a small network. So
the pixels are kept in shards at that side, 8 or 16 bits each, beside the set they are of, in its
`private/packed`: nothing of it leaves. Shards are made on demand, by as many processes as ask for
them. Their folder is called by keyed digests of the set and of the rows, so that a changed image is
another pack, and packs of images that are no longer the set's are removed. Which process makes an
image's shard depends on who else is there: of images that are resampled, whose last bits a kind of
processor decides, each kind has a pack of its own.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import Dataset, Row, load_images, load_volumes
from synthdp.data.identity import keyed_digest
from synthdp.data.images import to_float, to_uint8, to_uint16
from synthdp.errors import RunError
from synthdp.storage.files import closed_to_others, refuse_without_descriptors, write_atomic
from synthdp.storage.shared_work import make_parts, remove_locks

Bits = Literal[8, 16]
FOLDER = "packed"
_MAGIC = b"synthdp packed 2\n"
#: Magic, SHA-256 of what the shard is of and its pixels, zeros: pixels begin at a multiple of any
#: processor's line.
_HEADER_BYTES = 64
#: Pixels of a shard, in bytes, and how many images it has at most.
_SHARD_BYTES, _MOST_ROWS = 16 * 2**20, 4096
_DIGEST_CHARS = 32


@dataclass(eq=False)
class PackedImages:
    """Images of some rows of a set, by their places among these rows.

    dataset, rows: which; size_px: their side S; bits: of a pixel. What is kept of an image is its
    pixels as `load_images` gives them, rounded to so many bits: but for float32's rounding, values
    are within 1/255 (8 bits) or 1/65535 (16) of those, and equal to the last bit where an image of
    that depth has the side `size_px` itself.

    Guarantee: what is given for an image is a function of that image and of public numbers alone.
    """

    dataset: Dataset
    rows: Sequence[Row]
    size_px: int
    bits: Bits = 8
    _folder: Path | None = None
    _shards: dict[int, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The images at these places, as networks see them.

        Args:
            indices: (n,) from 0 to `len(self)` - 1, in any order, repeats allowed.

        Returns:
            (n, 1, S, S) float32 in [-1, 1]; of volumes (n, D, S, S).

        Raises:
            InputError: when an image has to be read and is unreadable.
        """
        images = to_float(self.pixels(indices))
        return images[:, None] if self.dataset.info.depth is None else images

    def pixels(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """The same images as they are kept: (n, S, S), of volumes (n, D, S, S), uint8 or uint16,
        `to_float` of which is given by `images`; for whoever scales them on another device.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"places must be from 0 to {len(self) - 1}")
        if self._folder is None:  # nothing is kept beside a set that can't be written to
            return self._decoded([self.rows[index] for index in indices])
        pixels = np.empty((len(indices), *self._row_shape), dtype=self._dtype)
        shards, offsets = np.divmod(indices, self._rows_a_shard)
        for shard in np.unique(shards):
            here = shards == shard
            pixels[here] = self._shard(int(shard))[offsets[here]]
        return pixels

    @property
    def _dtype(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint8 if self.bits == 8 else np.uint16

    @property
    def _row_shape(self) -> tuple[int, ...]:
        depth = self.dataset.info.depth
        return (self.size_px,) * 2 if depth is None else (depth, self.size_px, self.size_px)

    @property
    def _rows_a_shard(self) -> int:
        of_row = math.prod(self._row_shape) * self.bits // 8
        return min(max(_SHARD_BYTES // of_row, 1), _MOST_ROWS)

    def _rows_of(self, shard: int) -> Sequence[Row]:
        return self.rows[shard * self._rows_a_shard : (shard + 1) * self._rows_a_shard]

    def _decoded(self, rows: Sequence[Row]) -> NDArray[Any]:
        if self.dataset.info.depth is None:
            images = load_images(self.dataset, rows, self.size_px)[:, 0]
        else:
            images = load_volumes(self.dataset, rows, self.size_px)
        return to_uint8(images) if self.bits == 8 else to_uint16(images)

    def _shard(self, shard: int) -> NDArray[Any]:
        """The pixels of a shard, memory-mapped; checked when it is first asked for.

        A damaged one is made again.
        """
        pixels = self._shards.get(shard)
        if pixels is None:
            pixels = self._mapped(shard)
            if pixels is None:
                pixels = self._made(shard)
            self._shards[shard] = pixels
        return pixels

    def _mapped(self, shard: int) -> NDArray[Any] | None:
        """A shard's pixels as they stand; None when it is absent, damaged, or of another kind."""
        assert self._folder is not None
        path = self._folder / _name(shard)
        shape = (len(self._rows_of(shard)), *self._row_shape)
        try:
            with open(path, "rb") as stream:
                header = stream.read(_HEADER_BYTES)
            mapped = np.memmap(path, self._dtype, mode="r", offset=_HEADER_BYTES, shape=shape)
        except OSError as error:
            refuse_without_descriptors(error)
            return None
        except ValueError:  # shorter than its pixels
            return None
        pixels = np.asarray(mapped)
        whole = os.path.getsize(path) == _HEADER_BYTES + pixels.nbytes
        return pixels if whole and header == self._header(shard, pixels) else None

    def _made(self, shard: int) -> NDArray[Any]:
        """A shard's pixels from the images, kept where that can be."""
        assert self._folder is not None
        pixels = np.ascontiguousarray(self._decoded(self._rows_of(shard)))
        with suppress(OSError), closed_to_others():
            header = self._header(shard, pixels)
            write_atomic(self._folder / _name(shard), header + pixels.tobytes())
        return pixels

    def _header(self, shard: int, pixels: NDArray[Any]) -> bytes:
        """What a shard's file begins with; of another shard, pack or set it is another."""
        assert self._folder is not None
        digest = hashlib.sha256("/".join([*self._folder.parts[-2:], _name(shard), ""]).encode())
        digest.update(pixels.data)
        return (_MAGIC + digest.digest()).ljust(_HEADER_BYTES, b"\0")


def packed_images(
    dataset: Dataset, rows: Sequence[Row], size_px: int, *, bits: Bits = 8
) -> PackedImages:
    """The images of some rows in packed form, which is made where it is not there.

    Memory does not grow with their number: of `rows` alone there is something for each.

    Args:
        dataset: the opened data set.
        rows: some of its rows, by whose places images are asked for.
        size_px: the side that they are brought to.
        bits: of a pixel, 8 or 16: a public setting, never read from images, since the depth of one
            patient's image would decide the rounding of all others'.

    Raises:
        InputError: when an image is unreadable; it is named by its row.
        RunError: when the disk is full.
    """
    packed = PackedImages(dataset, rows, size_px, bits)
    if not rows:
        return packed
    try:
        of_set = keyed_digest(dataset, dataset.rows)[:_DIGEST_CHARS]
        of_rows = keyed_digest(dataset, rows)[:_DIGEST_CHARS]
    except (OSError, RunError):  # no key, and none can be made: nothing is kept
        return packed
    everything = dataset.private / FOLDER
    resampled = "" if size_px == dataset.info.size_px else f"-{_processor()}"
    folder = everything / of_set / f"{size_px}-{bits}-{of_rows}{resampled}"
    names = [_name(shard) for shard in range(-(-len(rows) // packed._rows_a_shard))]
    packed._folder = folder

    def make(shard: int) -> None:
        packed._made(shard)
        if not (folder / names[shard]).exists():
            raise PermissionError

    try:
        with closed_to_others():
            folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(everything, of_set)
        make_parts(folder, names, make, what=f"packing {dataset.info.name}")
        remove_locks(folder)
    except OSError as error:
        refuse_without_descriptors(error)
        packed._folder = None
    return packed


def _processor() -> str:
    from synthdp.machine.devices import kernels  # noqa: PLC0415 (it imports torch)

    return hashlib.sha256(kernels(threads=False).encode()).hexdigest()[:8]


def _name(shard: int) -> str:
    return f"{shard:06d}.bin"


def _remove_stale(everything: Path, of_set: str) -> None:
    """Remove packs of images and rows that are no longer the set's."""
    for path in everything.iterdir():
        if path.name != of_set:
            shutil.rmtree(path, ignore_errors=True)
