"""A DICOM file as a set of allow-listed elements; bounded, quiet, whatever stands in it.

pydicom does the parsing. It is an extra, so it is imported when the first file is read.
"""

import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthdp.errors import InputError, RunError
from synthdp.storage.files import refuse_without_descriptors

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_FILE_BYTES = 512 * 2**20
DEFLATED = "1.2.840.10008.1.2.1.99"
_META_GROUP = 2
_UNREADABLE = "not a readable DICOM file (damaged, truncated, or of another kind)"
_WITHOUT_END = (
    "the file ends before its elements do: copied in part, or written without the mark at the end "
    "of compressed pixels; copy it again, or rewrite it (`dcmconv +Ep +rd` of DCMTK does)"
)

#: What is read of people, of the examination, and of how the picture is to be seen. Nothing else
#: is parsed: no name, date, address, comment, private element.
_FACTS = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "Modality", "ImageType"),
    *("PresentationIntentType", "PatientID", "PatientAge", "PatientSex"),
    *("StudyInstanceUID", "SeriesInstanceUID"),
    *("ViewPosition", "ViewCodeSequence", "PatientOrientation", "ImageLaterality", "Laterality"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient"),  # where a slice lies, of volumes
    *("EstimatedRadiographicMagnificationFactor", "NumberOfFrames", "Rows", "Columns"),
    *("BurnedInAnnotation", "RecognizableVisualFeatures"),
)
_GREY = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape"),
    *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
)
#: Where images of the enhanced kinds have what others have on their first level (PS3.3 C.7.6.16):
#: of all frames or of each, by the sequence that holds it.
_OF_FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_IN_GROUPS = {
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
}
_DATA = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
#: Where an overlay lies in unused bits of the pixels: (60xx,0102) of the sixteen overlay groups.
OVERLAY_BITS = tuple((0x6000 + 2 * group) << 16 | 0x0102 for group in range(16))


def looks_like_dicom(beginning: bytes) -> bool:
    """Whether a file's first 132 bytes or more are those of DICOM, also of one without preamble.

    Without it, a file begins with the first elements of a data set: group 2 or 8, a small element
    number, and a length or the two letters of a type.
    """
    if beginning[128:132] == b"DICM":
        return True
    if beginning[:2] not in (b"\x02\x00", b"\x08\x00") or len(beginning) < 8:
        return False
    explicit = beginning[4:6].isalpha() and beginning[4:6].isupper()
    short = int.from_bytes(beginning[4:8], "little") <= 64
    return beginning[3] == 0 and (explicit or short)


@contextmanager
def only_input_errors() -> Iterator[None]:
    """Let a file that is not there, not readable or damaged in any way end in an InputError.

    No message or warning of pydicom gets out of the block: they quote what stands in the file.

    Raises:
        InputError: for whatever the block raises, save what the machine lacks (RunError).
    """
    log = logging.getLogger("pydicom")
    was = log.disabled
    try:
        log.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InputError, RunError):
        raise
    except OSError as error:
        refuse_without_descriptors(error)
        if error.errno is None:
            raise InputError(_UNREADABLE) from None
        raise InputError(
            "the file cannot be read; give the user that runs this the right to"
        ) from None
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException:  # whatever a damaged file leads parsers and decoders into: those in Rust
        raise InputError(_UNREADABLE) from None  # panic, which is no Exception
    finally:
        log.disabled = was


def parse(path: Path, *, pixels: bool) -> "Dataset":
    """The allow-listed elements of a file, with those of its pixels or without.

    Args:
        path: of the file.
        pixels: whether to read how they are to be seen, and them.

    Raises:
        InputError: when pydicom is not installed, or the file is missing, too large or damaged.
    """
    try:
        from pydicom import dcmread  # noqa: PLC0415 (an extra)
    except Exception as error:  # also what a broken decoder among those that it looks for raises
        raise InputError(
            "DICOM is read with pydicom, which is not installed, or cannot be loaded: "
            'pip install "synthdp[dicom]"'
        ) from error
    with only_input_errors():
        if not path.is_file():
            raise InputError("the file is missing")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputError(f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB")
        tags: list[Any] = [
            *_FACTS,
            *_OF_FRAMES,
            *((*_GREY, *_DATA, *OVERLAY_BITS) if pixels else ()),
        ]
        with open(path, "rb") as stream:
            source = _inflated(_Bounded(stream, size))
            dataset = dcmread(
                source,
                force=True,
                specific_tags=tags,
                stop_before_pixels=not pixels,
            )
        if len(dataset) == 0:  # what pydicom makes of a file in which something has no end
            raise InputError(_WITHOUT_END)
        _lift(dataset)
        return dataset


def _lift(dataset: "Dataset") -> None:
    """Put what the groups of the first frame say of grey levels and spacing on the first level."""
    for of_frames in _OF_FRAMES:
        groups = dataset.get(of_frames) or ()
        for sequence, names in _IN_GROUPS.items():
            items = (groups[0].get(sequence) or ()) if groups else ()
            for name in names:
                if items and name in items[0] and name not in dataset:
                    dataset[name] = items[0][name]
        if of_frames in dataset:
            del dataset[of_frames]


class _Bounded:
    """A file that never sets aside more memory than it has bytes, whatever length is asked for."""

    def __init__(self, stream: io.BufferedReader, size: int) -> None:
        self._stream, self._size = stream, size

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._size - self._stream.tell(), 0)
        return self._stream.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _inflated(source: _Bounded) -> _Bounded | io.BytesIO:
    """The file from its start, or its data set inflated where it is deflated, bounded either way.

    Raises:
        InputError: when it would be larger.
    """
    from pydicom.filereader import read_dataset, read_preamble  # noqa: PLC0415 (an extra)

    read_preamble(source, force=True)  # type: ignore[arg-type]
    meta = read_dataset(
        source,  # type: ignore[arg-type]
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag.group != _META_GROUP,
    )
    if meta.get("TransferSyntaxUID") != DEFLATED:
        source.seek(0)
        return source
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(source.read(), MAX_FILE_BYTES)
    if not inflater.eof:
        raise InputError(
            f"its deflated content is truncated, or larger than {MAX_FILE_BYTES // 2**20} MiB"
        )
    return io.BytesIO(content)
