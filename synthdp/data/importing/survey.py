"""What the pixels of many images say: sizes, depths, ranges, copies; one at a time in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.data.decoding import decode_pixels
from synthdp.data.images import resize_pixels
from synthdp.errors import InputError
from synthdp.progress import progress

THUMBNAIL_PX = 32


@dataclass(frozen=True)
class ImageFacts:
    """What the pixels of one image say: side lengths, bits a pixel, darkest and brightest pixel.

    `digest` is the SHA-256 of its pixels, `thumbnail` a vector of length 1 (see `thumbnail`);
    neither may leave the house.
    """

    height_px: int
    width_px: int
    bits: int
    darkest: int
    brightest: int
    digest: str
    thumbnail: NDArray[np.float32]

    @property
    def constant(self) -> bool:
        """Whether every pixel is the same."""
        return self.darkest == self.brightest


def thumbnail(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.float32]:
    """A (H, W) image as a (1024,) vector of mean 0 and length 1; zeros for a constant image.

    The product of two is the correlation of the images at 32 x 32 px.
    """
    flat = resize_pixels(pixels.astype(np.float32), THUMBNAIL_PX).ravel()
    flat = flat - flat.mean()
    length = float(np.linalg.norm(flat))
    return flat / np.float32(length) if length > 1e-3 else np.zeros_like(flat)


def read_image_facts(path: Path) -> ImageFacts:
    """Read one image.

    Raises:
        InputError: as `decode_pixels`.
    """
    pixels = decode_pixels(path)
    return ImageFacts(
        height_px=pixels.shape[0],
        width_px=pixels.shape[1],
        bits=8 * pixels.dtype.itemsize,
        darkest=int(pixels.min()),
        brightest=int(pixels.max()),
        digest=sha256(repr((pixels.shape, pixels.dtype)).encode() + pixels.tobytes()).hexdigest(),
        thumbnail=thumbnail(pixels),
    )


def survey_images(paths: Sequence[Path]) -> list[ImageFacts | str]:
    """Read every image; for one that is unreadable or unsafe, the text of what is wrong."""
    seen: list[ImageFacts | str] = []
    for path in progress(paths, what="reading images"):
        try:
            seen.append(read_image_facts(path))
        except InputError as error:
            seen.append(str(error))
    return seen
