"""Small pictures of many images, in a file that has no name, so that memory holds few at once."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.files import refused_when_full

THUMBNAIL_PX = 32
_VALUES = THUMBNAIL_PX**2
_ROW_BYTES = 2 * _VALUES


class Thumbnails:
    """N vectors of 1024 half-precision numbers, as `synthdp.data.importing.survey.thumbnail` makes.

    The file is the process's alone: it has no name, and goes with it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Begin an empty store; its file lies in `folder`, or where temporary files do."""
        self._stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (lives with the store)
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def append(self, rows: NDArray[np.float16]) -> None:
        """Add (n, 1024) rows.

        Raises:
            RunError: when the disk is full.
        """
        with refused_when_full(rows.nbytes):
            self._stream.seek(self._rows * _ROW_BYTES)
            self._stream.write(np.ascontiguousarray(rows, dtype=np.float16).tobytes())
            self._stream.flush()
        self._rows += len(rows)

    def rows(self, indices: NDArray[np.int64] | Sequence[int]) -> NDArray[np.float32]:
        """The rows of these indices, (n, 1024) float32 of length 1, or 0."""
        wanted = np.asarray(indices, dtype=np.int64)
        found = np.empty((len(wanted), _VALUES), dtype=np.float16)
        # Neighbours in the file are read at once.
        starts = np.flatnonzero(np.diff(wanted, prepend=-2) != 1)
        for start, stop in zip(starts, [*starts[1:], len(wanted)], strict=True):
            self._stream.seek(int(wanted[start]) * _ROW_BYTES)
            content = self._stream.read((int(stop) - int(start)) * _ROW_BYTES)
            found[start:stop] = np.frombuffer(content, dtype=np.float16).reshape(-1, _VALUES)
        exact = found.astype(np.float32)
        lengths = np.linalg.norm(exact, axis=1, keepdims=True)
        np.divide(exact, lengths, out=exact, where=lengths > 0)
        return exact
