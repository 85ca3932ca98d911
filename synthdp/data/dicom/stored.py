"""The stored pixels of a DICOM image: decoded by its transfer syntax, checked against lies."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dicom.codestream import holds_another_image, is_whole, stated_size
from synthdp.data.dicom.elements import text, whole
from synthdp.data.dicom.file import DEFLATED, OVERLAY_BITS
from synthdp.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import Decoder

_EXPLICIT_LITTLE, _EXPLICIT_BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_RLE = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
#: The decoder of each compressed syntax that is asked first, so that every machine asks the same.
_DECODERS = {
    _RLE: "pylibjpeg",
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    _JPEG_EXTENDED: "gdcm",  # extended, of 8 bits
    "1.2.840.10008.1.2.4.57": "gdcm",  # lossless
    "1.2.840.10008.1.2.4.70": "gdcm",  # lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "pyjpegls",  # JPEG-LS, near-lossless
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000, lossless
    "1.2.840.10008.1.2.4.91": "pylibjpeg",  # JPEG 2000
}
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
        decoded, as_stored = _decoded(dataset, size, allocated // 8)
        native = decoded.astype(decoded.dtype.newbyteorder("="), copy=False)
        words: NDArray[Any] = native.view(f"u{native.itemsize}")
        shift = high + 1 - stored if as_stored else 0
        occurring = _occurring(words)
        if not any(tag in dataset for tag in OVERLAY_BITS):
            _refuse_unused_bits(np.flatnonzero(occurring), stored, shift=shift, signed=signed)
        return StoredPixels(words, occurring, stored, shift, signed, monochrome=True)
    if photometric == "PALETTE COLOR" and samples in (None, 1):
        dataset.SamplesPerPixel = 1
        colours = _by_palette(dataset, _decoded(dataset, size, allocated // 8)[0])
    elif photometric in _COLOUR and samples == 3:
        colours = _decoded(dataset, size, 3 * allocated // 8)[0]
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


def _decoded(
    dataset: "Dataset", size: tuple[int, int], pixel_bytes: int
) -> tuple[NDArray[np.integer], bool]:
    """The decoded array, (H, W) or (H, W, 3), and whether its words are the stored ones by bit.

    Raises:
        InputError: when its decoder is not installed; when the data are not of this one image.
    """
    syntax, decoder = _decoder(dataset)
    data = dataset["PixelData"].value
    expected = size[0] * size[1] * pixel_bytes
    dataset.NumberOfFrames = 1  # more were refused
    dataset.PixelRepresentation = whole(dataset, "PixelRepresentation") or 0
    if decoder.is_native:
        if text(dataset, "PhotometricInterpretation").upper() == "YBR_FULL_422":
            expected = expected // 3 * 2
        _refuse_other_length(data, expected, size)
    else:
        _refuse_other_frame(data, size, syntax)
    plugin = _DECODERS.get(syntax, "")
    options: Any = {"correct_unused_bits": False, "view_only": True}  # they are looked at here
    array, _ = decoder.as_array(
        dataset,
        raw=False,  # YBR becomes RGB; grey stays
        index=0,
        decoding_plugin=plugin if plugin in decoder.available_plugins else "",
        **options,
    )
    return array, decoder.is_native or syntax == _RLE


def _decoder(dataset: "Dataset") -> tuple[str, "Decoder"]:
    """The transfer syntax of the pixels, and its decoder.

    Raises:
        InputError: when there is none, or it is not installed.
    """
    from pydicom.pixels import get_decoder  # noqa: PLC0415 (an extra)
    from pydicom.uid import UID  # noqa: PLC0415 (an extra)

    meta = getattr(dataset, "file_meta", None)
    syntax = text(meta, "TransferSyntaxUID") if meta is not None else ""
    if not syntax and dataset["PixelData"].is_undefined_length:
        raise InputError("its pixels are compressed, and no transfer syntax says how")
    if syntax in ("", DEFLATED):  # inflated by now
        little = dataset.original_encoding[1] is not False
        syntax = _EXPLICIT_LITTLE if little else _EXPLICIT_BIG
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    name = UID(syntax).name
    known = name if name != syntax else "an unknown or private one"
    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError:
        raise InputError(
            f"its transfer syntax ({known}) is not read; convert it to Explicit VR Little Endian"
        ) from None
    extended = syntax == _JPEG_EXTENDED and (whole(dataset, "BitsStored") or 8) > 8
    if extended and "pylibjpeg" not in decoder.available_plugins:
        raise InputError(
            "JPEG Extended of 12 bits has no decoder under a permissive licence; convert it to "
            "Explicit VR Little Endian (dcmdjpeg of DCMTK does), or install pylibjpeg-libjpeg, "
            "which is under the GPL"
        )
    if not decoder.is_available:
        raise InputError(
            f"no decoder of its transfer syntax ({known}) is installed: pip install "
            '"synthdp[dicom]", or convert it to Explicit VR Little Endian'
        )
    return syntax, decoder


def _refuse_other_length(data: bytes, expected: int, size: tuple[int, int]) -> None:
    """Refuse plain pixel data shorter than one image, or longer by what could be rows of one."""
    of = f"{size[1]}x{size[0]} px, as the header says, take {expected:,} bytes, and there are"
    if len(data) < expected:
        raise InputError(f"its pixel data are truncated: {of} {len(data):,}")
    beyond = data[expected:]
    if len(beyond) >= max(expected // size[0], 2) and (len(beyond) >= expected or any(beyond)):
        raise InputError(f"its pixel data are not of this one image: {of} {len(data):,}")


def _refuse_other_frame(data: bytes, size: tuple[int, int], syntax: str) -> None:
    """Refuse compressed pixel data that are of several images, of another size, or truncated."""
    from pydicom import encaps  # noqa: PLC0415 (an extra)

    offsets = encaps.parse_basic_offsets(data)
    fragments = list(encaps.generate_fragments(data))[1:]  # behind the table of offsets
    if not fragments:
        raise InputError("its compressed pixel data are empty")
    of_one = len(fragments) == 1 if syntax == _RLE else not holds_another_image(fragments[1:])
    if len(offsets) > 1 or not of_one:
        raise InputError("its pixel data hold several frames, where the header says one")
    if syntax == _RLE:
        return  # says nothing of its size, and is decoded to the header's or not at all
    frame = encaps.get_frame(data, 0, number_of_frames=1)
    if not is_whole(frame):
        raise InputError("its compressed pixel data are truncated")
    if (stated := stated_size(frame)) != size:
        shown = "no size" if stated is None else f"{stated[1]}x{stated[0]} px"
        raise InputError(
            f"its compressed pixel data say {shown}, where the header says {size[1]}x{size[0]} px"
        )


def _occurring(words: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
    """Which of the possible words occur, block by block: an index takes eight bytes a pixel."""
    occurs = np.zeros(2 ** (8 * words.itemsize), dtype=bool)
    flat = words.reshape(-1)
    for start in range(0, flat.size, BLOCK_PX):
        occurs[flat[start : start + BLOCK_PX]] = True
    return occurs


def _refuse_unused_bits(words: NDArray[np.int64], bits: int, *, shift: int, signed: bool) -> None:
    """Refuse words with something above their value that is neither an overlay nor its sign.

    Then BitsStored is too small, and masking would fold bright pixels into dark ones.
    """
    above = words >> (bits + shift)
    filled = (above == above.max()) & ((above & (above + 1)) == 0)  # with ones, as a sign is
    negative = (words >> (bits + shift - 1)) & 1 == 1
    allowed = (above == 0) | (filled & negative if signed else False)
    if not allowed.all():
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
