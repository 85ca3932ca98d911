"""The stored pixels of a DICOM image: words, and what the bits of a word mean."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dicom.elements import text, whole
from synthdp.data.dicom.file import OVERLAY_BITS
from synthdp.data.dicom.pixels.frame import decoded_frame
from synthdp.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
#: As many pixels as stay in a processor's cache while they are looked up.
BLOCK_PX = 2**18


@dataclass(frozen=True)
class StoredPixels:
    """Pixels as they are stored, (H, W) uint8 or uint16 words, and what a word means.

    `occurring` says for each of the 256 or 65,536 possible words whether a pixel has it. A value is
    `bits` bits of a word, `shift` above its lowest; `signed` in two's complement. `monochrome` says
    whether they are grey values that the header's tables apply to; those of a colour image whose
    channels are equal are seen as they are.
    """

    words: NDArray[np.uint8] | NDArray[np.uint16]
    occurring: NDArray[np.bool_]
    bits: int
    shift: int
    signed: bool
    monochrome: bool


def stored_pixels(dataset: "Dataset", size: tuple[int, int]) -> StoredPixels:
    """Decode the pixels of a parsed data set.

    Args:
        dataset: with its pixels.
        size: rows and columns, as the header has them and the reader takes them.

    Raises:
        InputError: when they are absent, of a kind that is not read, truncated, or other than the
            header says; when their decoder is not installed.
    """
    photometric = text(dataset, "PhotometricInterpretation").upper()
    if "PixelData" not in dataset:
        floats = any(name in dataset for name in ("FloatPixelData", "DoubleFloatPixelData"))
        raise InputError(
            "has pixels of floating point; 8 to 16 bits are read"
            if floats
            else "holds no pixels (no PixelData): only a header, a report or a plan"
        )
    allocated, stored, high = _bits(dataset)
    signed = whole(dataset, "PixelRepresentation") == 1
    samples = whole(dataset, "SamplesPerPixel")
    if photometric in _GREY and samples in (None, 1):
        dataset.SamplesPerPixel = 1
        decoded, as_stored = decoded_frame(dataset, size, allocated // 8)
        native = decoded.astype(decoded.dtype.newbyteorder("="), copy=False)
        words: NDArray[Any] = native.view(f"u{native.itemsize}")
        shift = high + 1 - stored if as_stored else 0
        occurring = _occurring(words)
        # at bit 0 of its own data, an overlay does not lie in the pixels
        if not any(tag in dataset and dataset[tag].value for tag in OVERLAY_BITS):
            _refuse_unused_bits(occurring, stored, shift=shift, signed=signed)
        return StoredPixels(words, occurring, stored, shift, signed, monochrome=True)
    if photometric == "PALETTE COLOR" and samples in (None, 1):
        dataset.SamplesPerPixel = 1
        colours = _by_palette(dataset, decoded_frame(dataset, size, allocated // 8)[0])
    elif photometric in _COLOUR and samples == 3:
        colours = decoded_frame(dataset, size, 3 * allocated // 8)[0]
    else:
        raise InputError(
            "its pixels are of a photometric interpretation that is not read; MONOCHROME1, "
            "MONOCHROME2, and PALETTE COLOR, RGB and YBR whose colours are grey are"
        )
    if (colours[..., :1] != colours).any():
        raise InputError("is a colour image; only those whose channels are all equal are grey")
    grey: NDArray[Any] = np.ascontiguousarray(colours[..., 0])
    return StoredPixels(
        grey, _occurring(grey), 8 * grey.itemsize, shift=0, signed=False, monochrome=False
    )


def _bits(dataset: "Dataset") -> tuple[int, int, int]:
    """Bits allocated, bits stored and high bit, the last two where absent as of a full word."""
    allocated = whole(dataset, "BitsAllocated")
    if allocated not in (8, 16):
        raise InputError(f"its pixels are of {allocated} bits each; words of 8 and 16 are read")
    stored = whole(dataset, "BitsStored")
    stored = allocated if stored is None else stored
    high = whole(dataset, "HighBit")
    high = stored - 1 if high is None else high
    if not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise InputError(
            f"the header contradicts itself: BitsAllocated {allocated}, BitsStored {stored}, "
            f"HighBit {high}"
        )
    dataset.BitsStored, dataset.HighBit = stored, high
    return allocated, stored, high


def _occurring(words: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
    """Which of the possible words occur, block by block: an index takes eight bytes a pixel."""
    occurs = np.zeros(2 ** (8 * words.itemsize), dtype=bool)
    flat = words.reshape(-1)
    for start in range(0, flat.size, BLOCK_PX):
        occurs[flat[start : start + BLOCK_PX]] = True
    return occurs


def _refuse_unused_bits(
    occurring: NDArray[np.bool_], bits: int, *, shift: int, signed: bool
) -> None:
    """Refuse words with something above their value that is neither an overlay nor its sign.

    Then BitsStored is too small, and masking would fold bright pixels into dark ones.
    """
    words = np.flatnonzero(occurring)
    above, all_ones = words >> (bits + shift), (len(occurring) - 1) >> (bits + shift)
    negative = (words >> (bits + shift - 1)) & 1 == 1
    extended = negative & (above == all_ones) if signed else False
    if not ((above == 0) | extended).all():
        raise InputError(
            f"its pixels use more than the {bits} bits that BitsStored says, and no overlay is "
            "declared in the rest; correct BitsStored and HighBit in a copy of the file"
        )


def _by_palette(dataset: "Dataset", indices: NDArray[np.integer]) -> NDArray[np.integer]:
    """(H, W, 3) colours of palette indices.

    Raises:
        InputError: when there is no palette.
    """
    if "RedPaletteColorLookupTableData" not in dataset:
        raise InputError("its pixels are of a palette that the file does not hold")
    from pydicom.pixels import apply_color_lut  # noqa: PLC0415 (an extra)

    colours: NDArray[np.integer] = apply_color_lut(indices, dataset)
    return colours
