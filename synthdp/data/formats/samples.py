"""Samples as a file stores them, what the file says of them, and the grey levels that they mean."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthdp.data.images import EIGHT_BIT_TOP, SIXTEEN_BIT_TOP
from synthdp.errors import InputError

GreyLevels = NDArray[np.uint8] | NDArray[np.uint16]

#: What each orientation of EXIF and TIFF (tag 274) asks for: transpose, then flip up and down, then
#: flip left and right. 0 is what cameras write that do not know.
_ORIENTATIONS = {
    0: (False, False, False),
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_DEEPEST = 16


@dataclass(frozen=True)
class Samples:
    """Samples of one image, as stored, and how the file says to read them.

    values: (H, W, C) integers, of C colours and, when `has_alpha`, as last channel the opacity.
    top: the greatest value a sample can have by the file's word; for signed samples the span of
    values, from `least` on. white_is_zero: whether the least value is white. orientation: as tag
    274. doubt: why the depth cannot be told from the file, where only `bits` could say it.
    """

    values: NDArray[np.integer]
    top: int
    least: int = 0
    has_alpha: bool = False
    white_is_zero: bool = False
    orientation: int = 1
    doubt: str | None = None


def one_channel(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """The (H, W) grey of colours (H, W, C) whose channels are equal.

    Raises:
        InputError: when they are not; no weighting of colours is guessed.
    """
    first = values[..., 0]
    for channel in range(1, values.shape[-1]):
        differ = values[..., channel] != first
        if differ.any():
            by = np.abs(values[..., channel].astype(np.int64) - first)[differ].max()
            raise InputError(
                f"is in colour: its channels differ in {int(differ.sum()):,} of {first.size:,} "
                f"pixels, by {by:,} at most; convert it to grey, and leave out what is drawn on it"
            )
    return first


def refuse_transparent(opaque: bool) -> None:
    """Refuse what is hidden by transparency, since nobody said what is to be seen there.

    Raises:
        InputError: when `opaque` is false.
    """
    if not opaque:
        raise InputError(
            "has transparent pixels, and what stands under them is not known to be meant; flatten "
            "the image onto black"
        )


def grey_levels(samples: Samples, bits: int | None = None) -> GreyLevels:
    """What samples mean, over the full range of 8 bits where they have up to 8, else of 16.

    Args:
        samples: of one image.
        bits: how many bits of each sample are used, where that is fewer than the file says.

    Returns:
        (H, W), black at 0, upright.

    Raises:
        InputError: when the samples are not of one grey image, or more than `bits` are used.
    """
    values, top, least = samples.values, samples.top, samples.least
    if samples.has_alpha:
        refuse_transparent(bool((values[..., -1] == top).all()))
        values = values[..., :-1]
    levels = one_channel(values)
    if bits is None and samples.doubt is not None:
        raise InputError(samples.doubt)
    if bits is not None and 2**bits - 1 < top:
        if levels.min() < 0:
            raise InputError(
                f"holds negative samples, which the {bits} bits that `bits` says have no place for;"
                " shift them, so that the least possible one is 0"
            )
        top, least = 2**bits - 1, 0
        if levels.max() > top:
            raise InputError(
                f"holds samples above the {bits} bits that `bits` says are used; set `bits` to the "
                "depth that the images were taken at"
            )
    if top >= 2**_DEEPEST:
        raise InputError(
            f"holds samples of {top.bit_length()} bits, and does not say how many are used; say it "
            f"by `bits` ({_DEEPEST} at most), or store the image in {_DEEPEST} bits"
        )
    if levels.min() < least or levels.max() > least + top:
        raise InputError("holds samples beyond the greatest that it says it has; it is damaged")
    # Those of a narrow range are refused as such by whoever uses them, whatever their sign.
    if least < 0 <= levels.min() and (int(levels.max()) - int(levels.min())) * 16 >= top:
        raise InputError(
            "holds signed samples of which none is negative, so that its black would become a "
            f"middle grey; say by `bits` how many are used ({top.bit_length() - 1} at most), or "
            "store it unsigned"
        )
    span = np.subtract(levels, least, dtype=np.int64) if least else levels
    if samples.white_is_zero or top not in (EIGHT_BIT_TOP, SIXTEEN_BIT_TOP):
        full = EIGHT_BIT_TOP if top <= EIGHT_BIT_TOP else SIXTEEN_BIT_TOP
        scaled = (np.arange(top + 1, dtype=np.int64) * full * 2 + top) // (2 * top)
        span = (scaled[::-1] if samples.white_is_zero else scaled)[span]
    shown = upright(span, samples.orientation)
    if top <= EIGHT_BIT_TOP:
        return shown.astype(np.uint8, copy=False)
    return shown.astype(np.uint16, copy=False)


def refuse_orientation(orientation: int) -> None:
    """Refuse an orientation tag that says no direction.

    Raises:
        InputError: when it has no meaning.
    """
    if orientation not in _ORIENTATIONS:
        raise InputError(
            f"its orientation tag says {orientation}, which has no meaning (1 to 8); save it "
            "upright, without the tag"
        )


def upright(levels: NDArray[np.integer], orientation: int) -> NDArray[np.integer]:
    """A (H, W) image as its orientation tag asks it to be shown.

    Raises:
        InputError: as `refuse_orientation`.
    """
    refuse_orientation(orientation)
    transpose, up_down, left_right = _ORIENTATIONS[orientation]
    levels = levels.T if transpose else levels
    levels = levels[::-1] if up_down else levels
    return np.ascontiguousarray(levels[:, ::-1] if left_right else levels)
