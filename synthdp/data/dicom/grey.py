"""From stored values to grey levels as they are to be seen: one table, one look-up a pixel.

The order is that of DICOM PS3.3 C.11 and PS3.4 N.2: modality table or rescale, then the table or
window of interest or the whole range, then polarity. All of it is a function of the stored value
alone, so that it is worked out once for each possible word, in float64, and then looked up.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dicom.elements import number, text, whole
from synthdp.data.dicom.pixels.stored import BLOCK_PX, StoredPixels
from synthdp.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

_WORD_BITS = 16


def grey_levels(
    dataset: "Dataset",
    stored: StoredPixels,
    *,
    window: Literal["full", "dicom"],
    polarity: Literal["agreed", "photometric", "presentation"],
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Pixels as they are to be seen, 0 darkest, over the full range of their type.

    Args:
        dataset: with the tables that apply.
        stored: the pixels of it.
        window: the range that is spread: of the image's own values, or the header's first.
        polarity: whom to believe on whether the image is a negative.

    Returns:
        (H, W) uint8 where values have 8 bits at most, else uint16. Padding is 0.

    Raises:
        InputError: when a table is damaged, or what the header says of polarity is contradictory.
    """
    levels = _values(stored)
    inverted = False
    padding = np.zeros(len(levels), dtype=bool)
    window_table: NDArray[np.float64] | None = None
    if stored.monochrome:
        inverted = _is_inverted(dataset, polarity)
        padding = _is_padding(dataset, levels, stored)
        levels = _modality_values(dataset, levels, signed=stored.signed)
        if window == "dicom":
            window_table = _of_interest(dataset, levels)
    if window_table is None:
        seen = stored.occurring & ~padding
        if not seen.any():
            raise InputError("every pixel is padding, so there is nothing to be seen")
        darkest, brightest = float(levels[seen].min()), float(levels[seen].max())
        window_table = (levels - darkest) / ((brightest - darkest) or 1.0)
    shown = np.clip(window_table, 0, 1)
    if inverted:
        shown = 1 - shown
    shown[padding] = 0
    dtype = np.uint8 if stored.bits <= 8 else np.uint16
    table = np.rint(shown * np.iinfo(dtype).max).astype(dtype)
    return _looked_up(stored.words, table)


@dataclass(frozen=True, eq=False)
class UnitValues:
    """Pixels in the unit of the modality (CT: Hounsfield units), (H, W) float32.

    `padding` says where there is no picture; `inverted` whether the greatest value is black.
    """

    values: NDArray[np.float32]
    padding: NDArray[np.bool_]
    inverted: bool


def unit_values(
    dataset: "Dataset",
    stored: StoredPixels,
    *,
    polarity: Literal["agreed", "photometric", "presentation"],
) -> UnitValues:
    """Pixels behind the modality's table or rescale alone, for whoever windows several at once.

    Raises:
        InputError: as `grey_levels`.
    """
    levels, inverted = _values(stored), False
    padding = np.zeros(len(levels), dtype=bool)
    if stored.monochrome:
        inverted = _is_inverted(dataset, polarity)
        padding = _is_padding(dataset, levels, stored)
        levels = _modality_values(dataset, levels, signed=stored.signed)
    return UnitValues(levels.astype(np.float32)[stored.words], padding[stored.words], inverted)


def _values(stored: StoredPixels) -> NDArray[np.float64]:
    """The stored value of every possible word."""
    words = np.arange(len(stored.occurring), dtype=np.int64)
    values = (words >> stored.shift) & (2**stored.bits - 1)
    if stored.signed:
        values = np.where(values >= 2 ** (stored.bits - 1), values - 2**stored.bits, values)
    as_float: NDArray[np.float64] = values.astype(np.float64)
    return as_float


def _looked_up(
    words: NDArray[np.unsignedinteger], table: NDArray[Any]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    looked_up = np.empty(words.shape, dtype=table.dtype)
    flat, target = words.reshape(-1), looked_up.reshape(-1)
    for start in range(0, flat.size, BLOCK_PX):
        stop = start + BLOCK_PX
        np.take(table, flat[start:stop], out=target[start:stop], mode="clip")
    return looked_up


def _is_inverted(
    dataset: "Dataset", polarity: Literal["agreed", "photometric", "presentation"]
) -> bool:
    """Whether the greatest value is black.

    An image of MONOCHROME1 has the shape INVERSE, one of MONOCHROME2 IDENTITY (PS3.3 C.8.11.3): it
    is one negative said twice, not two. Where they differ, viewers differ in whom they follow.
    """
    negative = text(dataset, "PhotometricInterpretation").upper() == "MONOCHROME1"
    shapes = {"INVERSE": True, "IDENTITY": False}
    shape = shapes.get(text(dataset, "PresentationLUTShape").upper())
    if shape is None or polarity == "photometric" or shape == negative:
        return negative
    if polarity == "presentation":
        return shape
    raise InputError(
        f"the header says both {'MONOCHROME1' if negative else 'MONOCHROME2'} and "
        f"{'INVERSE' if shape else 'IDENTITY'} as presentation LUT shape: look at such an image, "
        "then set `polarity: photometric` or `polarity: presentation`"
    )


def _is_padding(
    dataset: "Dataset", values: NDArray[np.float64], stored: StoredPixels
) -> NDArray[np.bool_]:
    """Which values are padding around the picture: one, or all from it to a limit."""
    bound = whole(dataset, "PixelPaddingValue")
    if bound is None:
        return np.zeros(len(values), dtype=bool)
    limit = whole(dataset, "PixelPaddingRangeLimit")
    ends = [_in_type(end, stored) for end in (bound, bound if limit is None else limit)]
    return (values >= min(ends)) & (values <= max(ends))


def _in_type(value: int, stored: StoredPixels) -> int:
    """A 16-bit number of the header in the type of the pixels, whichever it was written in."""
    if stored.signed and value >= 2**15:
        return value - 2**16
    return value + 2**16 if value < 0 and not stored.signed else value


def _modality_values(
    dataset: "Dataset", values: NDArray[np.float64], *, signed: bool
) -> NDArray[np.float64]:
    tables = dataset.get("ModalityLUTSequence") or ()
    if tables:
        return _by_table(tables[0], values, signed=signed)[0]
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    for name, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if value is None and text(dataset, name):
            raise InputError(f"{name} is no number; correct it in a copy of the file")
    if slope == 0:
        raise InputError("RescaleSlope is 0, which makes every pixel the same")
    return values * (1.0 if slope is None else slope) + (intercept or 0.0)


def _of_interest(dataset: "Dataset", values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The first VOI table or window over `values`, 0 to 1; None where there is none.

    The functions are those of PS3.3 C.11.2.1.2 and C.11.2.1.3. What a table maps first is signed
    where `values`, of all that could be stored, may be, whatever the stored ones are (C.11.2.1.1).
    """
    tables = dataset.get("VOILUTSequence") or ()
    if tables:
        looked_up, white = _by_table(tables[0], np.rint(values), signed=bool(values.min() < 0))
        return looked_up / white
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if center is None or width is None:
        if text(dataset, "WindowCenter") or text(dataset, "WindowWidth"):
            raise InputError("its window is no pair of numbers; set `window: full`")
        return None
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if width < 1 if function == "LINEAR" else width <= 0:
        raise InputError("WindowWidth is too small for a window; set `window: full`")
    if function == "LINEAR":
        if width == 1:
            return np.where(values > center - 0.5, np.float64(1), np.float64(0))
        return (values - (center - 0.5)) / (width - 1) + 0.5
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    if function == "SIGMOID":
        exponent = np.clip(-4 * (values - center) / width, -500, 500)
        sigmoid: NDArray[np.float64] = 1 / (1 + np.exp(exponent))
        return sigmoid
    raise InputError(
        "VOILUTFunction is none of LINEAR, LINEAR_EXACT and SIGMOID; set `window: full`"
    )


def _by_table(
    item: "Dataset", values: NDArray[np.float64], *, signed: bool
) -> tuple[NDArray[np.float64], np.float64]:
    """Values by a LUT of the header, its ends continued, and which of its values is white.

    Raises:
        InputError: when its descriptor and its entries don't fit.
    """
    count, first, bits = (int(value) for value in item["LUTDescriptor"].value)
    count = count % 2**16 or 2**16
    first = first % 2**16
    if signed and first >= 2**15:
        first -= 2**16
    raw = item["LUTData"].value
    if isinstance(raw, bytes):
        order = "<" if item.original_encoding[1] is not False else ">"
        raw = np.frombuffer(raw, dtype="u1" if len(raw) in (count, count + 1) else f"{order}u2")
    entries = np.atleast_1d(np.asarray(raw)).astype(np.float64)
    if not 1 <= bits <= 16 or len(entries) < count or entries.min() < 0:
        raise InputError("a look-up table of the header is truncated, or not what it says it is")
    entries = entries[:count]
    if entries.max() > 2**bits - 1:
        raise InputError(f"a look-up table of the header has entries beyond its {bits} bits")
    if bits == _WORD_BITS:  # some writers give the size of a word for the range of what is in it
        bits = max(int(entries.max()).bit_length(), 1)
    index = np.clip(values - first, 0, count - 1).astype(np.int64)
    return entries[index], np.float64(2**bits - 1)
