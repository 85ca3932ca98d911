"""The one frame of a DICOM image, decoded by its transfer syntax, checked against lies."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dicom.elements import text, whole
from synthdp.data.dicom.file import DEFLATED
from synthdp.data.dicom.pixels.codestream import holds_another_image, is_whole, stated_size
from synthdp.data.dicom.pixels.isolated import decode_lossless
from synthdp.data.dicom.pixels.messages import unheard
from synthdp.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import Decoder

_EXPLICIT_LITTLE, _EXPLICIT_BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_RLE = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
#: The decoder of each compressed syntax that is asked first, so that every machine asks the same.
_DECODERS = {
    _RLE: "pylibjpeg",
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    _JPEG_EXTENDED: "pillow",  # of 8 bits
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "pyjpegls",  # JPEG-LS, near-lossless
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000, lossless
    "1.2.840.10008.1.2.4.91": "pylibjpeg",  # JPEG 2000
}


def decoded_frame(
    dataset: "Dataset", size: tuple[int, int], pixel_bytes: int
) -> tuple[NDArray[np.integer], bool]:
    """The decoded array, (H, W) or (H, W, 3), and whether its words are the stored ones by bit.

    Args:
        dataset: with its pixels, and what describes them.
        size: rows and columns.
        pixel_bytes: that a pixel takes, of all its samples.

    Raises:
        InputError: when its decoder is not installed; when the data are not of this one image.
    """
    syntax = _transfer_syntax(dataset)
    data = dataset["PixelData"].value
    dataset.NumberOfFrames = 1  # more were refused
    dataset.PixelRepresentation = whole(dataset, "PixelRepresentation") or 0
    if syntax in _LOSSLESS:
        return _decoded_apart(dataset, data, size, syntax), False
    decoder, plugin = _decoder(dataset, syntax)
    if decoder.is_native:
        expected = size[0] * size[1] * pixel_bytes
        if text(dataset, "PhotometricInterpretation").upper() == "YBR_FULL_422":
            expected = expected // 3 * 2
        _refuse_other_length(data, expected, size)
    else:
        _the_frame(data, size, syntax)
    options: Any = {"correct_unused_bits": False, "view_only": True}  # they are looked at here
    with unheard():
        array, _ = decoder.as_array(
            dataset,
            raw=False,  # YBR becomes RGB; grey stays
            index=0,
            decoding_plugin=plugin,
            **options,
        )
    return array, decoder.is_native or syntax == _RLE


def _transfer_syntax(dataset: "Dataset") -> str:
    """How the pixels are stored, also where the file does not say, but can be told.

    Raises:
        InputError: when it can't.
    """
    from pydicom.uid import UID  # noqa: PLC0415 (an extra)

    meta = getattr(dataset, "file_meta", None)
    syntax = text(meta, "TransferSyntaxUID") if meta is not None else ""
    if not syntax and dataset["PixelData"].is_undefined_length:
        raise InputError("its pixels are compressed, and no transfer syntax says how")
    if syntax in ("", DEFLATED):  # inflated by now
        little = dataset.original_encoding[1] is not False
        syntax = _EXPLICIT_LITTLE if little else _EXPLICIT_BIG
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return syntax


def _decoder(dataset: "Dataset", syntax: str) -> tuple["Decoder", str]:
    """The decoder of a transfer syntax, and by which plugin; "" where it needs none.

    Raises:
        InputError: when there is none, or it is not installed.
    """
    from pydicom.pixels import get_decoder  # noqa: PLC0415 (an extra)
    from pydicom.uid import UID  # noqa: PLC0415 (an extra)

    name = UID(syntax).name
    known = name if name != syntax else "an unknown or private one"
    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError:
        raise InputError(
            f"its transfer syntax ({known}) is not read; convert it to Explicit VR Little Endian"
        ) from None
    if decoder.is_native:
        return decoder, ""
    plugins = [one for one in decoder.available_plugins if one != "gdcm"]  # it may end the process
    if syntax == _JPEG_EXTENDED and (whole(dataset, "BitsStored") or 8) > 8:
        plugins = [one for one in plugins if one != "pillow"]
        if not plugins:
            raise InputError(
                "JPEG Extended of 12 bits has no decoder under a permissive licence; convert it to "
                "Explicit VR Little Endian (dcmdjpeg of DCMTK does), or install "
                "pylibjpeg-libjpeg, which is under the GPL"
            )
    if not plugins:
        raise InputError(
            f"no decoder of its transfer syntax ({known}) is installed: pip install "
            '"synthdp[dicom]", or convert it to Explicit VR Little Endian'
        )
    preferred = _DECODERS.get(syntax, "")
    return decoder, preferred if preferred in plugins else plugins[0]


def _decoded_apart(
    dataset: "Dataset", data: bytes, size: tuple[int, int], syntax: str
) -> NDArray[np.integer]:
    """The frame of a JPEG lossless image, (H, W).

    Raises:
        InputError: as `decode_lossless`; when it is in colour.
    """
    if whole(dataset, "SamplesPerPixel") != 1:
        raise InputError("is a colour image in JPEG lossless, which is not read")
    return decode_lossless(
        _the_frame(data, size, syntax),
        size,
        bits_allocated=whole(dataset, "BitsAllocated") or 16,
        bits_stored=whole(dataset, "BitsStored") or 16,
        signed=dataset.PixelRepresentation == 1,
        syntax=syntax,
    )


def _refuse_other_length(data: bytes, expected: int, size: tuple[int, int]) -> None:
    """Refuse plain pixel data shorter than one image, or longer by what could be rows of one."""
    of = f"{size[1]}x{size[0]} px, as the header says, take {expected:,} bytes, and there are"
    if len(data) < expected:
        raise InputError(f"its pixel data are truncated: {of} {len(data):,}")
    beyond = data[expected:]
    if len(beyond) >= max(expected // size[0], 2) and (len(beyond) >= expected or any(beyond)):
        raise InputError(f"its pixel data are not of this one image: {of} {len(data):,}")


def _the_frame(data: bytes, size: tuple[int, int], syntax: str) -> bytes:
    """The compressed frame.

    Raises:
        InputError: when the data are of several images, of another size, or truncated.
    """
    from pydicom import encaps  # noqa: PLC0415 (an extra)

    offsets = encaps.parse_basic_offsets(data)
    fragments = list(encaps.generate_fragments(data))[1:]  # behind the table of offsets
    if not fragments:
        raise InputError("its compressed pixel data are empty")
    of_one = len(fragments) == 1 if syntax == _RLE else not holds_another_image(fragments[1:])
    if len(offsets) > 1 or not of_one:
        raise InputError("its pixel data hold several frames, where the header says one")
    frame = encaps.get_frame(data, 0, number_of_frames=1)
    if syntax == _RLE:  # says nothing of its size, and is decoded to the header's or not at all
        return frame
    if not is_whole(frame):
        raise InputError("its compressed pixel data are truncated")
    stated = stated_size(frame)
    if stated is None:
        raise InputError("its compressed pixel data are damaged; copy the file again")
    if stated != size:
        raise InputError(
            f"its compressed pixel data say {stated[1]}x{stated[0]} px, where the header says "
            f"{size[1]}x{size[0]} px"
        )
    return frame
