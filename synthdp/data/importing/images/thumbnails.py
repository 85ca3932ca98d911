"""Small pictures of many images, in a file that has no name, so that memory holds few at once."""

import os
import tempfile
from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.storage.files import refused_when_full, refused_without_rights

THUMBNAIL_PX = 32
_VALUES = THUMBNAIL_PX**2
_ROW_BYTES = 2 * _VALUES


class Thumbnails:
    """N vectors of 1024 half-precision numbers, as `survey.thumbnail` makes.

    The file is the process's alone: it has no name, and goes with it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Begin an empty store; its file lies in `folder`, or where temporary files do."""
        with refused_without_rights("the folder of temporary files (TMPDIR)"):
            self._stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (lives with the store)
        self._rows = np.empty(0, dtype=np.int64)  # of each image, in the file

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, images: Sequence[int]) -> "Thumbnails":
        """Those of some images, by their indices here; the file is the same."""
        chosen = copy(self)
        chosen._rows = self._rows[np.asarray(images, dtype=np.int64)]
        return chosen

    def append(self, thumbnails: NDArray[np.float16]) -> None:
        """Add (n, 1024) thumbnails.

        Raises:
            RunError: when the disk is full.
        """
        with refused_when_full(thumbnails.nbytes):
            end = self._stream.seek(0, os.SEEK_END)
            self._stream.write(np.ascontiguousarray(thumbnails, dtype=np.float16).tobytes())
            self._stream.flush()
        first = end // _ROW_BYTES
        self._rows = np.append(self._rows, np.arange(first, first + len(thumbnails)))

    def rows(self, images: NDArray[np.int64] | Sequence[int]) -> NDArray[np.float32]:
        """The thumbnails of some images, (n, 1024) float32 of length 1, or 0."""
        wanted = self._rows[np.asarray(images, dtype=np.int64)]
        read = np.empty((len(wanted), _VALUES), dtype=np.float16)
        # Neighbours in the file are read at once.
        starts = np.flatnonzero(np.diff(wanted, prepend=-2) != 1)
        for start, stop in zip(starts, [*starts[1:], len(wanted)], strict=True):
            self._stream.seek(int(wanted[start]) * _ROW_BYTES)
            content = self._stream.read((int(stop) - int(start)) * _ROW_BYTES)
            read[start:stop] = np.frombuffer(content, dtype=np.float16).reshape(-1, _VALUES)
        exact = read.astype(np.float32)
        lengths = np.linalg.norm(exact, axis=1, keepdims=True)
        np.divide(exact, lengths, out=exact, where=lengths > 0)
        return exact
