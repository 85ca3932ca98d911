"""NPY and NPZ of one image of whole numbers; nothing pickled is ever loaded.

The type is the file's word for the depth: 8 and 16 bits, signed or not, and truths. Numbers of 32
and 64 bits need `bits`; numbers with a fraction have no full range that a file could state.
"""

import io
import math
import zipfile
from typing import IO, Any

import numpy as np

from synthdp.data.formats.limits import SEVERAL_FRAMES, TRUNCATED, refuse_size
from synthdp.data.formats.samples import Samples
from synthdp.errors import InputError

BEGINNING = b"\x93NUMPY"
ZIP_BEGINNING = b"PK\x03\x04"
_COLOURS = (1, 3, 4)
_MAX_HEADER = 10_000
_MEMBER = ".npy"
_DIRECTORY_ENTRY, _MAX_MEMBERS = b"PK\x01\x02", 1000


def read_npy(content: bytes) -> Samples:
    """The samples of a NPY file.

    Raises:
        InputError: when it is damaged, is no image, or is of a type that is refused by name.
    """
    return _read(io.BytesIO(content), len(content))


def read_npz(content: bytes) -> Samples:
    """The samples of the only array of a NPZ file.

    Raises:
        InputError: as `read_npy`; when it holds another number of arrays.
    """
    if content.count(_DIRECTORY_ENTRY) > _MAX_MEMBERS:  # before each becomes an object
        raise InputError("holds a great many files where one image is expected")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1 or not members[0].filename.endswith(_MEMBER):
            raise InputError(
                f"holds {len(members)} arrays or files where one image is expected; save each "
                "image to a file of its own"
            )
        with archive.open(members[0]) as stream:
            return _read(stream, members[0].file_size)


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape of the array in a stream, whether it lies by column, and its type.

    Raises:
        InputError: when its header is of a version that may hold other than plain numbers.
        ValueError: when the header is damaged.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise InputError("has a header that is not of plain numbers; save it with numpy.save")
    read = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        read = np.lib.format.read_array_header_2_0
    return read(stream, max_header_size=_MAX_HEADER)


def _read(stream: IO[bytes], n_bytes: int) -> Samples:
    """The array in a stream of so many bytes, by its own header."""
    shape, by_column, dtype = read_header(stream)
    shape = shape[1:] if len(shape) == 3 and shape[0] == 1 and shape[2] not in _COLOURS else shape
    if len(shape) > 2 and shape[-1] not in _COLOURS:
        raise InputError(SEVERAL_FRAMES)
    if len(shape) not in (2, 3):
        raise InputError(f"holds an array of {len(shape)} dimensions, which is no image")
    refuse_size(shape[1], shape[0])
    if dtype.kind not in "uib" or dtype.itemsize > 8:
        named = {"f": "numbers with a fraction", "c": "complex numbers", "O": "pickled objects"}
        raise InputError(
            f"holds {named.get(dtype.kind, 'other than numbers')}, whose full range it does not "
            "say; save it in 16 bits, scaled alike for all images"
        )
    n_samples = math.prod(shape)
    wanted = n_samples * dtype.itemsize
    if wanted > n_bytes:
        raise InputError(TRUNCATED)
    body = stream.read(wanted)
    if len(body) < wanted:
        raise InputError(TRUNCATED)
    if stream.read(1):
        raise InputError(SEVERAL_FRAMES)
    stored = np.frombuffer(body, np.uint8 if dtype.kind == "b" else dtype, n_samples)
    values = stored.reshape(shape, order="F" if by_column else "C")
    values = values.reshape(*shape[:2], -1).astype(values.dtype.newbyteorder("="))
    bits = 1 if dtype.kind == "b" else 8 * dtype.itemsize
    return Samples(
        values,
        top=2**bits - 1,
        least=-(2 ** (bits - 1)) if dtype.kind == "i" else 0,
        has_alpha=values.shape[-1] == 4,
    )
