"""NIfTI files (.nii, .nii.gz), by nibabel, with no more memory than their header may ask for.

The header is read first, and bounded; then exactly as many bytes as it says are inflated and read.
"""

import io
import math
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from synthdp.data.volumes.scan import Scan, refuse_not_numbers, refuse_shape
from synthdp.errors import InputError, RunError
from synthdp.storage.files import refuse_without_descriptors

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

SUFFIXES = (".nii", ".nii.gz")
_GZIP = b"\x1f\x8b"
#: Sizes of the header of either version, as its first four bytes say them, in either byte order.
_HEADER_BYTES = {1: 348, 2: 540}
#: Behind the header stand extensions, which nobody needs here.
_MAX_BEFORE_DATA = 16 * 2**20
_FLIP_TO_LPS = np.array([-1.0, -1.0, 1.0])
_DAMAGED = "not a readable NIfTI file (damaged, truncated, or of another kind); copy it again"


def is_nifti(path: Path) -> bool:
    """Whether a file is called as NIfTI files are."""
    return path.name.lower().endswith(SUFFIXES)


def read_nifti(path: Path, *, stored: bool = False) -> Scan:
    """Read the one volume of a file.

    Args:
        path: of the file.
        stored: whether it may leave unsaid where its axes grow to.

    Returns:
        Slices along the file's third axis, rows along its second, columns along its first.

    Raises:
        InputError: when nibabel is not installed; when the file is missing, damaged, too large, in
            colour, of several volumes, or its values are no finite numbers. The message never names
            the file.
    """
    try:
        import nibabel  # noqa: F401, PLC0415 (an extra)
    except ImportError as error:
        raise InputError(
            'NIfTI is read with nibabel, which is not installed: pip install "synthdp[volumes]"'
        ) from error
    try:
        with open(path, "rb") as stream:
            return _read(_Inflating(stream), stored=stored)
    except (InputError, RunError, MemoryError):
        raise
    except OSError as error:
        refuse_without_descriptors(error)
        if error.errno is None:
            raise InputError(_DAMAGED) from None
        raise InputError(
            "the file is missing or cannot be read; give the user that runs this the right to"
        ) from None
    except Exception:  # whatever a damaged file leads nibabel into
        raise InputError(_DAMAGED) from None


def _read(stream: "_Inflating", *, stored: bool) -> Scan:
    head = stream.read(4)
    version = _version(head)
    head += stream.read(_HEADER_BYTES[version] - 4)
    header = _header(head, version)
    shape = tuple(int(side) for side in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    refuse_shape(shape)
    dtype = header.get_data_dtype()
    if dtype.fields is not None:
        raise InputError("holds a volume in colour (RGB); convert it to grey")
    if dtype.kind not in "iuf":
        raise InputError("holds complex numbers or others that are no grey values")
    start = int(header.get_data_offset())
    if not _HEADER_BYTES[version] <= start <= _MAX_BEFORE_DATA:
        raise InputError("its header does not say where its voxels begin, or lies; export it again")
    stream.skip(start - len(head))
    wanted = math.prod(shape) * dtype.itemsize
    content = stream.read(wanted)
    if len(content) < wanted:
        raise InputError("ends before its voxels do (truncated, or its header lies); copy it again")
    voxels = np.frombuffer(content, dtype).reshape(shape, order="F")
    values = np.ascontiguousarray(voxels.T, dtype=np.float32)  # (slices, rows, columns)
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept or 0.0) != (1.0, 0.0):
        values *= np.float32(slope)
        values += np.float32(intercept or 0.0)
    refuse_not_numbers(values)
    unscaled = slope is None or (slope, intercept or 0.0) == (1.0, 0.0)
    top = 255.0 if dtype == np.uint8 and unscaled else None
    return _placed(values, header, top=top, stored=stored)


def _version(head: bytes) -> int:
    for version, size in _HEADER_BYTES.items():
        if head in (size.to_bytes(4, "little"), size.to_bytes(4, "big")):
            return version
    raise InputError(_DAMAGED)


def _header(head: bytes, version: int) -> "Nifti1Header":
    """The header of a file of one part.

    Raises:
        InputError: when it is of Analyze, or its voxels stand in another file.
    """
    from nibabel.nifti1 import Nifti1Header  # noqa: PLC0415 (an extra)
    from nibabel.nifti2 import Nifti2Header  # noqa: PLC0415 (an extra)

    kind: Any = Nifti1Header if version == 1 else Nifti2Header
    magic = head[344:348] if version == 1 else head[4:8]
    if magic[:3] not in (b"n+1", b"n+2"):
        raise InputError(
            "is of Analyze, or a header whose voxels stand in another file (.hdr and .img); "
            "convert it to one .nii file"
        )
    header: Nifti1Header = kind(head, check=False)
    return header


def _placed(values: Any, header: "Nifti1Header", *, top: float | None, stored: bool) -> Scan:
    """The scan, with its places in the patient where the header says them."""
    is_said = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    if not is_said and not stored:
        raise InputError(
            "says nothing of where its axes grow to (neither sform nor qform); set it in a copy, "
            "or take its axes as they are by `volumes.orientation: stored`"
        )
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError("its affine is no map of voxels to places; correct its header")
    steps = affine[:3, :3] * _FLIP_TO_LPS[:, None]  # a column each for columns, rows, slices
    origin = affine[:3, 3] * _FLIP_TO_LPS
    return Scan(
        values,
        positions=origin + np.arange(len(values))[:, None] * steps[:, 2],
        row_step=steps[:, 1],
        column_step=steps[:, 0],
        top=top,
    )


class _Inflating:
    """A file, inflated where it is gzip, that never gives more bytes than it was asked for."""

    _AT_ONCE = 2**20

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        beginning = stream.read(2)
        stream.seek(0)
        self._gzip = beginning == _GZIP
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def read(self, size: int) -> bytes:
        """At most `size` bytes; fewer at the end alone."""
        if not self._gzip:
            return self._read_plain(size)
        parts = io.BytesIO()
        while (left := size - parts.tell()) > 0:
            if self._inflater.eof:  # a file may be several gzip streams, one behind the other
                rest = self._inflater.unused_data
                self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            else:
                rest = self._inflater.unconsumed_tail
            content = rest or self._stream.read(self._AT_ONCE)
            if not content:
                break
            try:
                parts.write(self._inflater.decompress(content, left))
            except zlib.error:
                raise InputError(_DAMAGED) from None
        return parts.getvalue()

    def _read_plain(self, size: int) -> bytes:
        """As `read`; in parts, since a header may ask for more than there is."""
        parts = io.BytesIO()
        while (left := size - parts.tell()) > 0:
            content = self._stream.read(min(left, 64 * self._AT_ONCE))
            if not content:
                break
            parts.write(content)
        return parts.getvalue()

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        if size > 0:
            self.read(size)
