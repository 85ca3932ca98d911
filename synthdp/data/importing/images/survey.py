"""What the pixels of an image say: its size, depth, range, digest, and how it looks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.data.decoding import decode_pixels, file_content
from synthdp.data.images import resample
from synthdp.data.importing.images.parallel import in_order
from synthdp.data.importing.images.thumbnails import THUMBNAIL_PX, Thumbnails
from synthdp.data.people.leftovers import png_leftover
from synthdp.errors import InputError
from synthdp.machine.progress import progress

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
#: Images that a worker reads before it hands back what it saw.
_AT_ONCE = 128
SIXTEEN_BITS = 16


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the pixels of one image say: side lengths, bits a pixel, darkest and brightest pixel.

    `digest` is the SHA-256 of its pixels, and may not leave the house.
    """

    height_px: int
    width_px: int
    bits: int
    darkest: int
    brightest: int
    digest: str

    @property
    def span(self) -> float:
        """The share of the range that the pixels could have which lies between their extremes."""
        return float((self.brightest - self.darkest) / (2**self.bits - 1))


@dataclass(frozen=True)
class Survey:
    """What was seen of N files: for each the facts, or the text of what is wrong with it.

    `leftovers` say of each what it holds beside a picture; None where it is nothing, or not known.
    `thumbnails` has a row for each one that could be read, in their order.
    """

    entries: Sequence[ImageFacts | str]
    leftovers: Sequence[str | None]
    thumbnails: Thumbnails


def thumbnail(pixels: Pixels) -> NDArray[np.float16]:
    """A (H, W) image as a (1024,) vector of mean 0 and length 1; zeros for a constant image.

    The product of two is the correlation of the images at 32 x 32 px.
    """
    flat = resample(pixels.astype(np.float32), THUMBNAIL_PX).ravel()
    flat = flat - flat.mean()
    length = float(np.linalg.norm(flat))
    if length <= 1e-3:
        return np.zeros(flat.shape, dtype=np.float16)
    # Half precision moves a correlation by some 1e-5, and takes half the room.
    return np.asarray(flat / np.float32(length), dtype=np.float16)


def image_facts(pixels: Pixels) -> ImageFacts:
    """The facts of a decoded (H, W) image."""
    return ImageFacts(
        height_px=pixels.shape[0],
        width_px=pixels.shape[1],
        bits=8 * pixels.dtype.itemsize,
        darkest=int(pixels.min()),
        brightest=int(pixels.max()),
        digest=sha256(repr((pixels.shape, pixels.dtype)).encode() + pixels.tobytes()).hexdigest(),
    )


def range_words(facts: Sequence[ImageFacts]) -> list[str]:
    """Of each depth a line: the grey levels of all images, and how much of its range one uses."""
    lines = []
    for bits in sorted({entry.bits for entry in facts}):
        entries = [entry for entry in facts if entry.bits == bits]
        low, high = min(e.darkest for e in entries), max(e.brightest for e in entries)
        spans = sorted(entry.span for entry in entries)
        lines.append(
            f"grey levels at {bits} bit: {low} to {high}; an image spans {_percent(spans[0])} to "
            f"{_percent(spans[-1])} of the range, half of them {_percent(spans[len(spans) // 2])} "
            "or more"
        )
        if bits == SIXTEEN_BITS and high < 2 ** (SIXTEEN_BITS - 1):
            lines.append(
                f"no 16-bit image goes beyond {high.bit_length()} bits; if they were taken at so "
                "many, import them with `bits` at it"
            )
    return lines


def _percent(share: float) -> str:
    return f"{math.floor(100 * share)} %"


def survey_images(paths: Sequence[Path], *, workers: int | None = None) -> Survey:
    """Read every image; for one that is unreadable or unsafe, the text of what is wrong.

    Args:
        paths: of the files.
        workers: processes that read at once; as many as there are cores when None.
    """
    entries: list[ImageFacts | str] = []
    leftovers: list[str | None] = []
    thumbnails = Thumbnails()
    parts = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    for seen, beside, looks in progress(
        in_order(_look, parts, workers=workers), what="reading images", total=len(parts)
    ):
        entries += seen
        leftovers += beside
        thumbnails.append(looks)
    return Survey(entries, leftovers, thumbnails)


def _look(
    paths: Sequence[Path],
) -> tuple[list[ImageFacts | str], list[str | None], NDArray[np.float16]]:
    seen: list[ImageFacts | str] = []
    beside: list[str | None] = []
    looks = []
    for path in paths:
        beside.append(None)
        try:
            content = file_content(path)
            beside[-1] = png_leftover(content)
            pixels = decode_pixels(path, content=content)
        except InputError as error:
            seen.append(str(error))
            continue
        seen.append(image_facts(pixels))
        looks.append(thumbnail(pixels))
    return seen, beside, np.array(looks, dtype=np.float16).reshape(-1, THUMBNAIL_PX**2)
