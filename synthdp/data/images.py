"""Safe paths, bounded decoding of grey PNG and TIFF images, and the writing of PNG."""

import io
import warnings
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from synthdp.errors import InputError
from synthdp.files import refuse_without_descriptors

MAX_FILE_BYTES = 64 * 2**20
MAX_SIDE_PX = 8192
MAX_PIXELS = 32 * 2**20
FORMATS = ("PNG", "TIFF")
EIGHT_BIT_MODES = ("L", "RGB", "RGBA", "LA", "P", "1")
SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I")
EIGHT_BIT_TOP, SIXTEEN_BIT_TOP = 255, 65535
_UNREADABLE = "not a readable PNG or TIFF (truncated, or of another kind)"


def path_problem(name: str, root: Path) -> str | None:
    """What is wrong with the file that a table calls `name`; None when it is safe and there.

    `root` is the resolved folder that the file must stand in, links followed. The answer never
    repeats the name, since a name may hold a patient's id.
    """
    relative = PurePosixPath(name)
    if not name or relative.is_absolute() or ".." in relative.parts or "\\" in name:
        return "the path leads outside the folder"
    try:
        name.encode()
        if not (root / name).is_file():
            return "the file is missing"
        if not (root / name).resolve().is_relative_to(root):
            return "the path leads outside the folder"
    except UnicodeEncodeError:  # bytes that Python keeps as lone surrogates
        return "the file's name is not UTF-8; rename it"
    except OSError:  # a name too long for the file system, or a folder that may not be read
        return "the file cannot be reached"
    return None


def decode_pixels(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode one grey image, in its own depth; colour images become grey.

    Returns:
        (H, W) uint8 or uint16.

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
                return _grey(image)
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


def to_float(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.float32]:
    """Pixels in 8 or 16 bits, scaled to float32 in [-1, 1]."""
    top = EIGHT_BIT_TOP if pixels.dtype == np.uint8 else SIXTEEN_BIT_TOP
    return pixels.astype(np.float32) * np.float32(2 / top) - np.float32(1)


def decode_image(path: Path) -> NDArray[np.float32]:
    """Decode one grey image to (H, W) float32 in [-1, 1].

    Raises:
        InputError: as `decode_pixels`.
    """
    return to_float(decode_pixels(path))


def to_uint8(images: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Images in [-1, 1] as 8-bit pixels, values beyond clamped."""
    scaled = (np.clip(images, -1, 1) + 1) * (EIGHT_BIT_TOP / 2)
    pixels: NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return pixels


def to_uint16(images: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Images in [-1, 1] as 16-bit pixels, values beyond clamped."""
    scaled = (np.clip(images, -1, 1) + 1) * (SIXTEEN_BIT_TOP / 2)
    pixels: NDArray[np.uint16] = np.rint(scaled).astype(np.uint16)
    return pixels


def encode_png(pixels: NDArray[np.uint8] | NDArray[np.uint16], compress_level: int = 6) -> bytes:
    """A grey PNG of (H, W) uint8 or uint16 pixels, without any text or time in it."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=compress_level)
    return stream.getvalue()


def resize(images: Tensor, size_px: int) -> Tensor:
    """Resample float images (B, 1, H, W) to (B, 1, size_px, size_px), bilinear, antialiased."""
    if images.shape[-2:] == (size_px, size_px):
        return images
    size = (size_px, size_px)
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def pad_square(image: NDArray[np.float32], black: float) -> NDArray[np.float32]:
    """An image (H, W) in the middle of a square of its longer side, the rest of it `black`."""
    height, width = image.shape
    side = max(height, width)
    above, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side), black, dtype=np.float32)
    square[above : above + height, left : left + width] = image
    return square


def resize_pixels(image: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """Resample one (H, W) image to (size_px, size_px), bilinear with antialiasing."""
    batch = torch.from_numpy(image)[None, None]
    resized: NDArray[np.float32] = resize(batch, size_px)[0, 0].numpy()
    return resized


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


def fit_square(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], size_px: int
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A (H, W) image in its own depth, padded with black to a square and resampled to `size_px`."""
    height, width = pixels.shape
    if height == width == size_px:
        return pixels
    square = pad_square(pixels.astype(np.float32), black=0.0)
    top = np.iinfo(pixels.dtype).max
    resampled = np.rint(np.clip(resize_pixels(square, size_px), 0, top))
    if pixels.dtype == np.uint8:
        return resampled.astype(np.uint8)
    return resampled.astype(np.uint16)
