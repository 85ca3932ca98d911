"""JPEG of 8 bits, grey or of equal colours."""

import io
import struct

import numpy as np
from PIL import Image

from synthdp.data.formats.exif import exif_orientation
from synthdp.data.formats.limits import SEVERAL_FRAMES, TRUNCATED, refuse_size
from synthdp.data.formats.samples import Samples
from synthdp.errors import InputError

BEGINNING = b"\xff\xd8\xff"
_END = b"\xff\xd9"
#: Markers that begin a frame; 0xC4, 0xC8 and 0xCC are tables.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_START_OF_SCAN = 0xDA
_COMPONENTS = {1: "grey", 3: "colour"}


def read_jpeg(content: bytes) -> Samples:
    """The samples of a JPEG.

    Raises:
        InputError: when the file is damaged, or of a kind that is refused by name.
    """
    at, marker, depth, height, width, components = _frame(content)
    refuse_size(width, height)
    if depth != 8 or marker in _LOSSLESS:
        kind = "lossless JPEG" if marker in _LOSSLESS else "JPEG"
        raise InputError(f"is {kind} of {depth} bits, which is not read; export it as 16-bit PNG")
    if components not in _COMPONENTS:
        raise InputError(f"is JPEG of {components} channels (CMYK); export it in grey")
    # Within a scan no byte pair reads as the end; a preview in EXIF has one before the frame.
    if content.rfind(_END) < at:
        raise InputError(TRUNCATED)
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
        if getattr(image, "n_frames", 1) != 1:
            raise InputError(SEVERAL_FRAMES)
        pixels = np.asarray(image)
        orientation = exif_orientation(image)
    return Samples(pixels.reshape(height, width, -1), 255, orientation=orientation)


def _frame(content: bytes) -> tuple[int, int, int, int, int, int]:
    """Where the frame's header is; its marker, bits a sample, height, width and channels."""
    at = 2
    while at + 10 <= len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker in _FRAMES:
            depth, height, width, components = struct.unpack_from(">BHHB", content, at + 4)
            return at, marker, depth, height, width, components
        if marker == _START_OF_SCAN:
            break
        if marker in range(0xD0, 0xD8) or marker == 0x01:  # without a length
            at += 2
            continue
        at += 2 + int(struct.unpack_from(">H", content, at + 2)[0])
    raise InputError(TRUNCATED)
