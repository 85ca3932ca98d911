"""From an image file to grey levels: the one decoder, bounded, that everything reads through."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthdp.data.images import SIXTEEN_BIT_TOP, pad_square, resize_pixels, to_float
from synthdp.errors import InputError
from synthdp.files import refuse_without_descriptors

MAX_FILE_BYTES = 64 * 2**20
MAX_SIDE_PX = 8192
MAX_PIXELS = 32 * 2**20
FORMATS = ("PNG", "TIFF")
EIGHT_BIT_MODES = ("L", "RGB", "RGBA", "LA", "P", "1")
SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I")
_UNREADABLE = "not a readable PNG or TIFF (truncated, or of another kind)"


def decode_pixels(path: Path, *, bits: int | None = None) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode one grey image, in its own depth; colour images become grey.

    Args:
        path: of the file.
        bits: how many bits of a 16-bit file are used, where the file itself does not say.

    Returns:
        (H, W) uint8 or uint16, whose full range is the full range of what the file means.

    Raises:
        InputError: when the file is missing, too large, truncated, or of another format. The
            message never names the file, since a name may hold a patient's id.
    """
    try:
        if not path.is_file():
            raise InputError("the file is missing")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _refuse_unsafe(image)
                image.verify()  # the checksums of a PNG, which decoding alone leaves unread
            with Image.open(path, formats=FORMATS) as image:
                return _spread(_grey(image), bits)
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(_too_large_words("more pixels than")) from error
    except OSError as error:
        if error.errno is None:  # a decoder's own, of a damaged file
            raise InputError(_UNREADABLE) from error
        refuse_without_descriptors(error)
        raise InputError(
            "the file cannot be read; give the user that runs this the right to"
        ) from error
    except Exception as error:  # a decoder raises whatever a damaged file leads it into
        raise InputError(_UNREADABLE) from error


def _too_large_words(size: str) -> str:
    return f"{size} this reader takes (side {MAX_SIDE_PX} px, {MAX_PIXELS:,} pixels at most)"


def _refuse_unsafe(image: Image.Image) -> None:
    width, height = image.size
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        raise InputError(_too_large_words(f"{width}x{height} px is more than"))
    if getattr(image, "n_frames", 1) != 1:
        raise InputError("holds several frames where one image is expected")


def _grey(image: Image.Image) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if image.mode in SIXTEEN_BIT_MODES:
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > SIXTEEN_BIT_TOP:
            raise InputError("holds values outside 16 bits")
        return pixels.astype(np.uint16)
    if image.mode in EIGHT_BIT_MODES:
        return np.asarray(image.convert("L"), dtype=np.uint8)
    raise InputError(f"has pixels of mode {image.mode}; 8- and 16-bit grey images are read")


def _spread(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], bits: int | None
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Pixels of which `bits` are used, over the full range of their 16."""
    if bits is None or pixels.dtype == np.uint8 or bits == 16:
        return pixels
    top = 2**bits - 1
    if pixels.max() > top:
        raise InputError(f"holds grey levels above the {bits} bits that `bits` says")
    spread = (pixels.astype(np.uint32) * SIXTEEN_BIT_TOP + top // 2) // top
    return np.asarray(spread, dtype=np.uint16)


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
        f"uses less than a sixteenth of its {bits} bits (grey levels {darkest} to {brightest}), as "
        "if it were flat, or not scaled to its depth; say how many bits are used by `bits`, or "
        "rescale its pixels to the full range"
    )


def decode_image(path: Path) -> NDArray[np.float32]:
    """Decode one grey image to (H, W) float32 in [-1, 1].

    Raises:
        InputError: as `decode_pixels`.
    """
    return to_float(decode_pixels(path))


def square_image(path: Path, size_px: int | None = None) -> NDArray[np.float32]:
    """An image file as networks see it: (S, S) in [-1, 1], padded with black, not stretched.

    Args:
        path: of a PNG or TIFF file.
        size_px: S, the side to resample to; the longer side of the image when None.

    Raises:
        InputError: as `decode_image`.
    """
    image = decode_image(path)
    if image.shape[0] != image.shape[1]:
        image = pad_square(image, black=-1.0)
    return image if size_px is None else resize_pixels(image, size_px)
