"""What the header of a DICOM image says, of an allow-list; and which images are refused by it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from synthdp.data.dicom.elements import number, numbers, text, whole
from synthdp.data.dicom.file import only_input_errors, parse
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.people.ages import capped_age, years
from synthdp.data.people.splits import duplicate_groups
from synthdp.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_SIDE_PX = 16384
MAX_PIXELS = 64 * 2**20

_FOR_PROCESSING = (
    *("1.2.840.10008.5.1.4.1.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.2.1"),  # DX, MG
    *("1.2.840.10008.5.1.4.1.1.1.3.1", "1.2.840.10008.5.1.4.1.1.13.1.5"),  # dental, projections
)
_TOMOSYNTHESIS = (
    "1.2.840.10008.5.1.4.1.1.13.1.3",  # breast tomosynthesis
    *("1.2.840.10008.5.1.4.1.1.13.1.4", "1.2.840.10008.5.1.4.1.1.13.1.5"),  # its projections
)
#: DICOM PS3.16 CID 4014, in SNOMED CT and in the older SNOMED codes, and the short names of views.
_VIEW_CODES = {
    **dict.fromkeys(("399162004", "R-10242"), "CC"),
    **dict.fromkeys(("399368009", "R-10226"), "MLO"),
    **dict.fromkeys(("399260004", "R-10224"), "ML"),
    **dict.fromkeys(("399352003", "R-10228"), "LM"),
    **dict.fromkeys(("399099002", "R-10230"), "LMO"),
    **dict.fromkeys(("399196006", "R-10244"), "FB"),
    **dict.fromkeys(("399192008", "R-1024A"), "XCCL"),
    **dict.fromkeys(("399101009", "R-1024B"), "XCCM"),
    **dict.fromkeys(("441555000", "R-40AAA"), "ISO"),
    **dict.fromkeys(("399188001", "R-102D0"), "SIO"),
}
#: Words for views, as headers come out.
VIEWS = frozenset({*_VIEW_CODES.values(), "XCC", "PA", "AP", "LL", "RL", "LLD", "RLD", "LAT"})
_SIDES = {"L": "L", "LEFT": "L", "R": "R", "RIGHT": "R", "B": "B", "BOTH": "B"}

Said = Literal["yes", "no", "unsaid"]


@dataclass(frozen=True)
class DicomHeader:
    """The facts of one image, as the header has them; empty or None where it doesn't say.

    `view` and `laterality` are words of closed lists, `spacing_mm` is between rows and between
    columns, in the plane of the patient where it is known. `age` is in whole years, 90 at most.
    `position_mm` is where a slice's first pixel lies in the patient, and `directions` where its
    columns, then its rows, follow each other (the first and last three numbers), as DICOM has them.
    The ids are raw: they tell which images belong together, and are never written or printed.
    """

    modality: str
    height_px: int
    width_px: int
    laterality: str = ""
    view: str = ""
    spacing_mm: tuple[float, float] | None = None
    intent: Literal["presentation", "processing", ""] = ""
    burned_in: Said = "unsaid"
    recognizable: Said = "unsaid"
    age: str = ""
    sex: str = ""
    patient_id: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)
    series_uid: str = field(default="", repr=False)
    sop_uid: str = field(default="", repr=False)
    position_mm: tuple[float, ...] = ()
    directions: tuple[float, ...] = ()


def read_header(path: Path, reading: DicomReading | None = None) -> DicomHeader:
    """The facts of one image, its pixels unread.

    Args:
        path: of the file.
        reading: which images are taken; by its defaults when None.

    Raises:
        InputError: when the file is missing, damaged, or holds an image that is not taken. The
            message names neither the file nor anybody in it.
    """
    dataset = parse(path, pixels=False)
    with only_input_errors():
        return header_of(dataset, DicomReading() if reading is None else reading)


def header_of(dataset: "Dataset", reading: DicomReading) -> DicomHeader:
    """The facts in a parsed data set.

    Raises:
        InputError: when it holds no image, or one that is not taken.
    """
    _refuse_kind(dataset, reading)
    height, width = _size(dataset)
    header = DicomHeader(
        modality=text(dataset, "Modality").upper(),
        height_px=height,
        width_px=width,
        laterality=_laterality(dataset),
        view=_view(dataset),
        spacing_mm=_spacing_mm(dataset),
        intent=_intent(dataset),
        burned_in=_said(text(dataset, "BurnedInAnnotation")),
        recognizable=_said(text(dataset, "RecognizableVisualFeatures")),
        age=_age(text(dataset, "PatientAge")),
        sex=_sex(text(dataset, "PatientSex")),
        patient_id=text(dataset, "PatientID"),
        study_uid=text(dataset, "StudyInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        sop_uid=text(dataset, "SOPInstanceUID"),
        position_mm=numbers(dataset, "ImagePositionPatient"),
        directions=numbers(dataset, "ImageOrientationPatient"),
    )
    if header.intent == "processing" and reading.for_processing == "refuse":
        raise InputError(
            "holds raw data of the detector (for processing), not a picture to be looked at; take "
            "the image for presentation of the same exposure, or set `for_processing: take`"
        )
    _refuse_burned_in(header, reading)
    return header


def same_instance(headers: Sequence[DicomHeader]) -> list[tuple[int, ...]]:
    """The indices of images that bear one SOP instance UID, which is to be of one image alone."""
    named = [index for index, header in enumerate(headers) if header.sop_uid]
    groups = duplicate_groups([headers[index].sop_uid for index in named])
    return [tuple(named[index] for index in group) for group in groups]


def _refuse_kind(dataset: "Dataset", reading: DicomReading) -> None:
    frames = whole(dataset, "NumberOfFrames")
    image_type = text(dataset, "ImageType").upper().split("\\")
    flat = "GENERATED_2D" in image_type and frames in (None, 0, 1)
    if text(dataset, "SOPClassUID") in _TOMOSYNTHESIS and not flat:
        raise InputError(
            "holds a tomosynthesis, a stack of slices through one breast; 2D mammograms are read"
        )
    if frames is not None and frames > 1:
        raise InputError(f"holds {frames} frames (multi-frame) where one image is expected")
    modality = text(dataset, "Modality").upper()
    if modality not in reading.modalities:
        shown = modality if len(modality) <= 2 and modality.isalpha() else "another or none"
        raise InputError(
            f"the modality ({shown}) is none of {', '.join(reading.modalities)}; add it to "
            "`modalities` if such images belong here"
        )


def _size(dataset: "Dataset") -> tuple[int, int]:
    height, width = whole(dataset, "Rows"), whole(dataset, "Columns")
    if not height or not width or min(height, width) < 0:
        raise InputError("holds no image (no Rows and Columns: a report, a folder's index, a plan)")
    if max(height, width) > MAX_SIDE_PX or height * width > MAX_PIXELS:
        raise InputError(
            f"{width}x{height} px is more than this reader takes (side {MAX_SIDE_PX} px, "
            f"{MAX_PIXELS:,} pixels at most)"
        )
    return height, width


def _laterality(dataset: "Dataset") -> str:
    """The side by the image's own element, else by its series'.

    Raises:
        InputError: when both speak, and of two sides.
    """
    image, series = (
        _SIDES.get(text(dataset, name).upper(), "") for name in ("ImageLaterality", "Laterality")
    )
    if image and series and image != series:
        raise InputError(
            f"the header names two sides for one image (ImageLaterality {image}, Laterality "
            f"{series}); find out which is right, and correct the other in a copy of the file"
        )
    return image or series


def _view(dataset: "Dataset") -> str:
    """The view by ViewPosition, else by its code, else by what CBIS-DDSM has as orientation."""
    words = [text(dataset, "ViewPosition")]
    codes = dataset.get("ViewCodeSequence") or ()
    words += [_VIEW_CODES.get(text(code, "CodeValue"), "") for code in codes]
    words.append(text(dataset, "PatientOrientation"))
    return next((word.upper() for word in words if word.upper() in VIEWS), "")


def _spacing_mm(dataset: "Dataset") -> tuple[float, float] | None:
    """Between rows and columns: PixelSpacing, else the detector's over the magnification.

    A PixelSpacing equal to the detector's was not corrected for the magnification (PS3.3 10.7.1.1).
    """
    magnification = number(dataset, "EstimatedRadiographicMagnificationFactor")
    if magnification is None or not 1 <= magnification <= 10:
        magnification = 1.0
    uncorrected = numbers(dataset, "PixelSpacing") == numbers(dataset, "ImagerPixelSpacing")
    for name, over in (
        ("PixelSpacing", magnification if uncorrected else 1.0),
        ("ImagerPixelSpacing", magnification),
        ("NominalScannedPixelSpacing", 1.0),
    ):
        both = numbers(dataset, name)
        if len(both) == 2 and all(math.isfinite(side) and side > 0 for side in both):
            return both[0] / over, both[1] / over
    return None


def _intent(dataset: "Dataset") -> Literal["presentation", "processing", ""]:
    said = text(dataset, "PresentationIntentType").upper()
    if said == "FOR PROCESSING" or text(dataset, "SOPClassUID") in _FOR_PROCESSING:
        return "processing"
    return "presentation" if said == "FOR PRESENTATION" else ""


def _said(word: str) -> Said:
    answers: dict[str, Said] = {"YES": "yes", "NO": "no"}
    return answers.get(word.upper(), "unsaid")


def _age(said: str) -> str:
    """In whole years, capped; empty of what is not as DICOM has it."""
    number = years(said) if said[-1:].isalpha() else None
    return "" if number is None else capped_age(str(number))


def _sex(word: str) -> str:
    return word.upper() if word.upper() in ("F", "M", "O") else ""


def _refuse_burned_in(header: DicomHeader, reading: DicomReading) -> None:
    marks = {
        "BurnedInAnnotation": header.burned_in,
        "RecognizableVisualFeatures": header.recognizable,
    }
    for name, said in marks.items():
        if said == "yes" and reading.burned_in != "take":
            raise InputError(
                f"{name} is YES: writing or a face in the picture may tell who it is of; take it "
                "out of the pixels, or set `burned_in: take` after looking"
            )
    if header.burned_in == "unsaid" and reading.burned_in == "refuse_unless_no":
        raise InputError(
            "the header does not say that nothing is written into the picture "
            "(BurnedInAnnotation is not NO); look at it, then set `burned_in: refuse`"
        )
