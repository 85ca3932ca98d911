"""Arrays of grey images: scaled, padded, resampled, written as PNG; safe paths to them."""

import errno
import io
import os
import stat
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:  # an import reads images in many processes, each of which it would cost 400 MB
    from torch import Tensor

EIGHT_BIT_TOP, SIXTEEN_BIT_TOP = 255, 65535


MISSING_FILE = "the file is missing"


def path_problem(name: str, root: Path, linked: Sequence[Path] = ()) -> str | None:
    """What is wrong with the file that a table calls `name`; None when it is safe and there.

    `root` is the resolved folder that the file must stand in, links followed; `linked` are resolved
    folders where a link may lead too. The answer never repeats the name, since a name may hold a
    patient's id.
    """
    # Texts, since the paths of hundreds of thousands of images are looked at.
    if not name or name.startswith("/") or ".." in name.split("/") or "\\" in name:
        return "the path leads outside the folder"
    path = os.path.join(root, name)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return MISSING_FILE
        real = os.path.realpath(path)
    except ValueError:  # half a surrogate pair or a NUL, which no file's name can hold
        return MISSING_FILE
    except OSError as error:  # else a name that is too long, or a folder that may not be read
        lost = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        return MISSING_FILE if error.errno in lost else "the file cannot be reached"
    if not any(real.startswith(os.path.join(folder, "")) for folder in (root, *linked)):
        return (
            "the path leads outside the folder, by a link; put the file itself there, or "
            "name the folder that it leads into in follow_links_into"
        )
    return None


def to_float(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.float32]:
    """Pixels in 8 or 16 bits, scaled to float32 in [-1, 1]."""
    top = EIGHT_BIT_TOP if pixels.dtype == np.uint8 else SIXTEEN_BIT_TOP
    return pixels.astype(np.float32) * np.float32(2 / top) - np.float32(1)


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


def resize(images: "Tensor", size_px: int) -> "Tensor":
    """Resample float images (B, 1, H, W) to (B, 1, size_px, size_px), bilinear, antialiased."""
    if images.shape[-2:] == (size_px, size_px):
        return images
    from torch.nn import functional as F  # noqa: PLC0415 (see above)

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
    import torch  # noqa: PLC0415 (see above)

    batch = torch.from_numpy(image)[None, None]
    resized: NDArray[np.float32] = resize(batch, size_px)[0, 0].numpy()
    return resized


def resample(image: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """As `resize_pixels`, in numpy alone; equal to it but for rounding."""
    height, width = image.shape
    resampled = resampling_weights(height, size_px) @ image @ resampling_weights(width, size_px).T
    return np.asarray(resampled, dtype=np.float32)


@lru_cache(maxsize=64)
def resampling_weights(before: int, after: int) -> NDArray[np.float32]:
    """(after, before) float32: what each sample takes of those before, along one side.

    A triangle about the sample's middle, as wide as two of the larger of both steps.
    """
    step = before / after
    half = max(step, 1.0)
    middles = (np.arange(after) + 0.5) * step
    distances = np.abs(np.arange(before) + 0.5 - middles[:, None]) / half
    shares = np.clip(1 - distances, 0, None)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def fit_square(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], size_px: int
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A (H, W) image in its own depth, padded with black to a square and resampled to `size_px`."""
    height, width = pixels.shape
    if height == width == size_px:
        return pixels
    square = pad_square(pixels.astype(np.float32), black=0.0)
    top = np.iinfo(pixels.dtype).max
    resampled = np.rint(np.clip(resample(square, size_px), 0, top))
    if pixels.dtype == np.uint8:
        return resampled.astype(np.uint8)
    return resampled.astype(np.uint16)
