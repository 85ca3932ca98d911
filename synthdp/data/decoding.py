"""From an image file to grey levels: the one decoder, bounded, that everything reads through.

What is accepted, refused by name, and left unread stands in a table in docs/images.md, which
`tests/data/test_accepted.py` holds against this code. A file's kind is told by how it begins, never
by its name.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthdp.data.formats.jpeg import BEGINNING as JPEG_BEGINNING
from synthdp.data.formats.jpeg import read_jpeg
from synthdp.data.formats.limits import TOO_MANY_PIXELS
from synthdp.data.formats.npy import BEGINNING as NPY_BEGINNING
from synthdp.data.formats.npy import ZIP_BEGINNING, read_npy, read_npz
from synthdp.data.formats.pgm import BEGINNINGS as PGM_BEGINNINGS
from synthdp.data.formats.pgm import read_pgm
from synthdp.data.formats.png import BEGINNING as PNG_BEGINNING
from synthdp.data.formats.png import read_png
from synthdp.data.formats.samples import GreyLevels, Samples, grey_levels
from synthdp.data.formats.tiff import BEGINNINGS as TIFF_BEGINNINGS
from synthdp.data.formats.tiff import read_tiff
from synthdp.data.images import fit_square, pad_square, resize_pixels, to_float
from synthdp.errors import InputError
from synthdp.storage.files import refuse_without_descriptors

if TYPE_CHECKING:
    from synthdp.data.dicom.reading import DicomReading

MAX_FILE_BYTES = 64 * 2**20
_SEEN_BYTES = 512
#: Names that promise an image; what a file is, its content says.
IMAGE_SUFFIXES = (
    *(".png", ".tif", ".tiff", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".pgm", ".npy", ".npz", ".dcm", ".dicom"),
)
#: How files of each kind begin, and what reads them; DICOM stands apart, behind its preamble.
_READERS: tuple[tuple[str, tuple[bytes, ...], Callable[[bytes], Samples]], ...] = (
    ("PNG", (PNG_BEGINNING,), read_png),
    ("TIFF", TIFF_BEGINNINGS, read_tiff),
    ("JPEG", (JPEG_BEGINNING,), read_jpeg),
    ("NPY", (NPY_BEGINNING,), read_npy),
    ("NPZ", (ZIP_BEGINNING,), read_npz),
    ("PGM", PGM_BEGINNINGS, read_pgm),
)
DICOM = "DICOM"
KINDS = (*(kind for kind, _, _ in _READERS), DICOM)
_PAGE = "a web page (download the file again)"
#: Kinds that are known and not read, to be named.
_OTHERS = (
    (0, b"GIF8", "GIF"), (0, b"BM", "BMP"), (0, b"%PDF", "PDF"), (8, b"WEBP", "WebP"),
    (4, b"jP  \r\n", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"), (4, b"JXL ", "JPEG XL"), (4, b"ftyp", "HEIF or AVIF"),
    (0, b"\x1f\x8b", "gzip"), (0, b"P6", "PPM"), (0, b"\x89HDF", "HDF5"), (0, b"MATLAB", "MATLAB"),
    (344, b"n+1\0", "NIfTI"), (0, b"NRRD", "NRRD"), (0, b"<!DOCTYPE", _PAGE), (0, b"<html", _PAGE),
    (0, b"version https://git-lfs", "a pointer of Git LFS (fetch the file itself)"),
)  # fmt: skip
#: How the words for a narrow range begin, by which such images are counted.
NARROW = "uses less than a sixteenth of its"
_UNREADABLE = "not a readable {kind} (truncated, or damaged); copy or export it again"


def decode_pixels(
    path: Path,
    *,
    bits: int | None = None,
    reading: "DicomReading | None" = None,
    content: bytes | None = None,
) -> GreyLevels:
    """Decode the one grey image of a file, upright, black at 0.

    Args:
        path: of the file.
        bits: how many bits of a sample are used, where the file states more: 12 for a detector's 12
            bits in 16. Files of fewer bits, and DICOM, say it themselves.
        reading: how DICOM is read; by its defaults when None.
        content: what `file_content` gave, where it was read already.

    Returns:
        (H, W). The full range of its dtype is the full range of what the file means: 8 bits where
        samples have up to 8, else 16.

    Raises:
        InputError: when the file is missing, too large, truncated, or of a kind or meaning that is
            not read. The message never names the file, since a name may hold a patient's id.
        RunError: when no file descriptor is left.
    """
    # Here, since data sets are read through this file, and the reader of DICOM knows data sets.
    from synthdp.data.dicom.image import read_dicom  # noqa: PLC0415

    content = file_content(path) if content is None else content
    kind = kind_of(content)
    if kind == DICOM:
        return read_dicom(path, reading).pixels
    for of_kind, _, read in _READERS:
        if kind == of_kind:
            return _read(content, kind, read, bits)
    raise InputError(_other_words(content))


def kind_of(beginning: bytes) -> str | None:
    """Which of `KINDS` a file is, by its first 132 bytes or more; None for another."""
    from synthdp.data.dicom.file import looks_like_dicom  # noqa: PLC0415

    if looks_like_dicom(beginning):
        return DICOM
    return next((kind for kind, marks, _ in _READERS if beginning.startswith(marks)), None)


def is_jpeg(path: Path) -> bool:
    """Whether a file, by its content, is JPEG, which has lost detail of what was taken."""
    try:
        with open(path, "rb") as stream:
            return stream.read(len(JPEG_BEGINNING)) == JPEG_BEGINNING
    except OSError:
        return False


def file_content(path: Path) -> bytes:
    """All of an image's file; of DICOM the beginning, as its own reader reads it.

    Raises:
        InputError: when it is missing, empty, too large, or may not be read.
    """
    try:
        if not path.is_file():
            raise InputError("the file is missing")
        with open(path, "rb") as stream:
            content = stream.read(_SEEN_BYTES)
            if kind_of(content) == DICOM:
                return content
            n_bytes = os.fstat(stream.fileno()).st_size
            if n_bytes > MAX_FILE_BYTES:
                raise InputError(f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB")
            content += stream.read(max(n_bytes - len(content), 0))
    except OSError as error:
        refuse_without_descriptors(error)
        raise InputError(
            "the file cannot be read; give the user that runs this the right to"
        ) from error
    if not content:
        raise InputError("the file is empty; copy or export it again")
    return content


def _read(
    content: bytes, kind: str, read: Callable[[bytes], Samples], bits: int | None
) -> GreyLevels:
    """Grey levels, with whatever a damaged file leads a decoder into as InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return grey_levels(read(content), bits)
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(TOO_MANY_PIXELS) from error
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError):
            refuse_without_descriptors(error)
        raise InputError(_UNREADABLE.format(kind=kind)) from error


def _other_words(content: bytes) -> str:
    """What a file is that is not read."""
    for at, mark, name in _OTHERS:
        if content[at : at + len(mark)].lower() == mark.lower():
            return f"is not an image that is read, but {name}; {', '.join(KINDS)} are read"
    return f"not a readable image ({', '.join(KINDS)} are read)"


def narrow_range(darkest: int, brightest: int, bits: int) -> str | None:
    """What is wrong with an image that uses less than a sixteenth of the grey levels it could.

    Args:
        darkest: its least grey level.
        brightest: its greatest.
        bits: 8 or 16.
    """
    if (brightest - darkest) * 16 >= 2**bits - 1:
        return None
    return (
        f"{NARROW} {bits} bits (grey levels {darkest} to {brightest}), as an image does that is "
        "empty or was not scaled to its depth; say how many bits are used by `bits`, or scale its "
        "pixels to the full range"
    )


def refuse_narrow(pixels: GreyLevels) -> None:
    """Refuse a decoded (H, W) image that uses less than a sixteenth of its range.

    Raises:
        InputError: when it does.
    """
    bits = 8 * pixels.dtype.itemsize
    if (problem := narrow_range(int(pixels.min()), int(pixels.max()), bits)) is not None:
        raise InputError(problem)


def square_image(
    path: Path,
    size_px: int | None = None,
    *,
    bits: int | None = None,
    reading: "DicomReading | None" = None,
    fitted_px: int | None = None,
    prepare: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """An image file as networks see it: (S, S) in [-1, 1], padded with black, not stretched.

    Args:
        path: of the file.
        size_px: S, the side to resample to; the longer side of the image when None.
        bits: as in `decode_pixels`.
        reading: as in `decode_pixels`.
        fitted_px: the side that it is brought to before, in its own depth, as in a set of that
            `size_px`; none when None.
        prepare: what is done to the square before it is resampled to `size_px`.

    Raises:
        InputError: as `decode_pixels`.
    """
    pixels = decode_pixels(path, bits=bits, reading=reading)
    image = to_float(pixels if fitted_px is None else fit_square(pixels, fitted_px))
    if image.shape[0] != image.shape[1]:
        image = pad_square(image, black=-1.0)
    if prepare is not None:
        image = prepare(image)
    return image if size_px is None else resize_pixels(image, size_px)
