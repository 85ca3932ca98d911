"""Volumes as arrays: one in a .npy or .npz file, or one of many in an array of a set."""

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from synthdp.data.formats.npy import read_header
from synthdp.data.volumes.scan import Scan, refuse_not_numbers, refuse_shape
from synthdp.errors import InputError, RunError
from synthdp.storage.files import refuse_without_descriptors

SUFFIXES = (".npy", ".npz")
_MAX_MEMBERS = 1000
_DAMAGED = "not a readable array (damaged, truncated, or of another kind); save it again"


def read_array(path: Path, *, bits: int | None = None) -> Scan:
    """Read the one array of a .npy or .npz file; nothing pickled is ever loaded.

    Args:
        path: of the file.
        bits: how many bits of unsigned values are used, where their type has more.

    Raises:
        InputError: when the file is missing or damaged; when it holds another number of arrays, or
            one that is no volume of finite numbers. The message never names the file.
    """
    try:
        if path.suffix.lower() == ".npy":
            with open(path, "rb") as stream:
                return scan_of(_array(stream), bits=bits)
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()][:_MAX_MEMBERS]
            if len(members) != 1 or not members[0].filename.endswith(".npy"):
                raise InputError(
                    f"holds {len(members)} arrays or files where one volume is expected; save each "
                    "volume to a file of its own, or name the arrays of a set in `arrays`"
                )
            with archive.open(members[0]) as stream:
                return scan_of(_array(stream), bits=bits)
    except (InputError, RunError, MemoryError):
        raise
    except OSError as error:
        refuse_without_descriptors(error)
        raise InputError(
            "the file is missing or cannot be read; give the user that runs this the right to"
        ) from None
    except Exception:  # whatever a damaged file leads the readers into
        raise InputError(_DAMAGED) from None


def scan_of(stored: NDArray[Any], *, bits: int | None = None) -> Scan:
    """The scan of an array (D, H, W), which says nothing of places in a patient.

    Raises:
        InputError: when it is no volume of finite numbers, or uses more than `bits`.
    """
    refuse_shape(stored.shape)
    if stored.dtype.kind not in "iufb":
        raise InputError("holds other than numbers; save grey values")
    top = None
    if stored.dtype.kind == "u" and (bits is not None or stored.dtype.itemsize == 1):
        top = float(2 ** (bits or 8) - 1)
        if stored.max() > top:
            raise InputError(
                f"holds values above the {bits} bits that `bits` says are used; set `bits` to the "
                "depth that they were taken at"
            )
    values = stored.astype(np.float32)
    refuse_not_numbers(values)
    return Scan(values, top=1.0 if stored.dtype.kind == "b" else top)


def _array(stream: IO[bytes]) -> NDArray[Any]:
    """The array in a stream, bounded by what its header says before memory is taken."""
    shape, by_column, dtype = read_header(stream)
    refuse_shape(shape)
    if dtype.kind not in "iufb":
        raise InputError("holds other than numbers; save grey values")
    wanted = math.prod(shape) * dtype.itemsize
    body = _at_most(stream, wanted)
    if len(body) < wanted:
        raise InputError("ends before its voxels do (truncated, or its header lies); save it again")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if by_column else "C")


def _at_most(stream: IO[bytes], size: int) -> bytes:
    """At most `size` bytes, in parts, since a header may ask for more than there is."""
    parts, left = [], size
    while left and (part := stream.read(min(left, 2**26))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
