"""What is taken from a header, which images are refused by it, and what never gets out of it."""

import logging
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import MG_FOR_PROCESSING, mammogram, save, write_mammogram
from pydicom import Dataset, uid
from pydicom.data import get_testdata_file

from synthdp.data.dicom.file import looks_like_dicom, parse
from synthdp.data.dicom.header import DicomHeader, read_header, same_instance
from synthdp.data.dicom.image import read_dicom
from synthdp.data.dicom.reading import DicomReading
from synthdp.errors import InputError

TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.dcm"


def header(path: Path, **others: Any) -> DicomHeader:
    return read_header(write_mammogram(path, **others))


def refusal(path: Path, reading: DicomReading | None = None, **others: Any) -> str:
    """Why a mammogram of such a header is refused, by its header alone and with its pixels."""
    write_mammogram(path, **others)
    words = set()
    for read in (read_header, read_dicom):
        with pytest.raises(InputError) as error:
            read(path, reading)
        words.add(str(error.value))
    assert len(words) == 1
    return words.pop()


def view_code(value: str) -> list[Dataset]:
    code = Dataset()
    code.CodeValue = value
    return [code]


def test_facts_by_the_header_alone_and_with_pixels(path: Path) -> None:
    write_mammogram(
        path, PatientAge="047Y", PatientSex="F", PresentationIntentType="FOR PRESENTATION"
    )
    found = read_header(path)
    assert found == read_dicom(path).header
    assert found == DicomHeader(
        modality="MG",
        height_px=16,
        width_px=12,
        laterality="L",
        view="MLO",
        intent="presentation",
        age="47",
        sex="F",
        patient_id="P-1",
        study_uid="2.25.11",
        series_uid="2.25.1",
        sop_uid="2.25.111",
    )


def test_ids_are_not_shown(path: Path) -> None:
    shown = repr(header(path, PatientID="SECRET"))
    assert not any(secret in shown for secret in ("SECRET", "2.25"))


@pytest.mark.parametrize(
    ("others", "view"),
    [
        ({"ViewPosition": "cc "}, "CC"),
        ({"ViewPosition": "", "ViewCodeSequence": view_code("399368009")}, "MLO"),
        ({"ViewPosition": None, "ViewCodeSequence": view_code("R-10242")}, "CC"),
        ({"ViewPosition": "", "PatientOrientation": "MLO"}, "MLO"),  # as CBIS-DDSM has it
        ({"ViewPosition": "", "PatientOrientation": ["A", "R"]}, ""),
        ({"ViewPosition": "DOE^JANE"}, ""),
    ],
)
def test_views(path: Path, others: dict[str, Any], view: str) -> None:
    assert header(path, **others).view == view


@pytest.mark.parametrize(
    ("image", "series", "side"),
    [
        ("L", None, "L"),
        ("", "R", "R"),
        (None, "r", "R"),
        ("R", "R", "R"),
        ("", "", ""),
        ("X", "", ""),
    ],
)
def test_sides(path: Path, image: str, series: str, side: str) -> None:
    assert header(path, ImageLaterality=image, Laterality=series).laterality == side


def test_two_sides_for_one_image(path: Path) -> None:
    assert "names two sides" in refusal(path, ImageLaterality="L", Laterality="R")


def groups(**measures: Any) -> Dataset:
    """What an image of an enhanced kind says of its frames."""
    item, of_frames = Dataset(), Dataset()
    item.update(measures)
    of_frames.PixelMeasuresSequence = [item]
    return of_frames


@pytest.mark.parametrize(
    ("others", "spacing"),
    [
        ({}, None),
        ({"PixelSpacing": ["0.07", "0.08"]}, (0.07, 0.08)),
        ({"PixelSpacing": "0.07"}, None),
        ({"PixelSpacing": ["0", "0"]}, None),
        ({"ImagerPixelSpacing": ["0.1", "0.1"]}, (0.1, 0.1)),
        (
            {
                "ImagerPixelSpacing": ["0.1", "0.1"],
                "EstimatedRadiographicMagnificationFactor": "2",
            },
            (0.05, 0.05),
        ),
        ({"NominalScannedPixelSpacing": ["0.05", "0.05"]}, (0.05, 0.05)),
        (  # equal to the detector's: not corrected (PS3.3 10.7.1.1)
            {
                "PixelSpacing": ["0.1", "0.1"],
                "ImagerPixelSpacing": ["0.1", "0.1"],
                "EstimatedRadiographicMagnificationFactor": "2",
            },
            (0.05, 0.05),
        ),
        (
            {
                "PixelSpacing": ["0.06", "0.06"],
                "ImagerPixelSpacing": ["0.1", "0.1"],
                "EstimatedRadiographicMagnificationFactor": "2",
            },
            (0.06, 0.06),
        ),
        ({"SharedFunctionalGroupsSequence": [groups(PixelSpacing=[0.09, 0.09])]}, (0.09, 0.09)),
    ],
)
def test_spacing(path: Path, others: dict[str, Any], spacing: tuple[float, float] | None) -> None:
    assert header(path, **others).spacing_mm == spacing


@pytest.mark.parametrize(
    ("said", "age"),
    [("072Y", "72"), ("090Y", "90"), ("103Y", "90"), ("018M", "1"), ("", ""), ("72", "")],
)
def test_ages(path: Path, said: str, age: str) -> None:
    assert header(path, PatientAge=said).age == age


# -- what is refused


def test_other_modalities(path: Path) -> None:
    assert "the modality (US) is none of MG, DX, CR, CT" in refusal(path, Modality="US")
    assert "another or none" in refusal(path, Modality="DOE^JANE")
    assert read_header(path, DicomReading(modalities=("DOE^JANE",))).height_px == 16


def test_secondary_capture_of_a_mammogram_is_one(path: Path) -> None:
    assert header(path, SOPClassUID=uid.SecondaryCaptureImageStorage).modality == "MG"


def test_tomosynthesis(path: Path) -> None:
    assert "tomosynthesis" in refusal(path, SOPClassUID=TOMOSYNTHESIS, NumberOfFrames=50)
    assert "tomosynthesis" in refusal(path, SOPClassUID=TOMOSYNTHESIS)
    flat = ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]
    assert header(path, SOPClassUID=TOMOSYNTHESIS, ImageType=flat).view == "MLO"


@pytest.mark.parametrize(
    "others",
    [{"PresentationIntentType": "FOR PROCESSING"}, {"SOPClassUID": MG_FOR_PROCESSING}],
)
def test_raw_data_of_a_detector(path: Path, others: dict[str, Any]) -> None:
    assert "for processing" in refusal(path, **others)
    assert read_header(path, DicomReading(for_processing="take")).intent == "processing"


@pytest.mark.parametrize("element", ["BurnedInAnnotation", "RecognizableVisualFeatures"])
def test_writing_and_faces(path: Path, element: str) -> None:
    assert f"{element} is YES" in refusal(path, **{element: "YES"})
    assert read_header(path, DicomReading(burned_in="take")).sop_uid


def test_a_header_that_does_not_say_whether_something_is_written(path: Path) -> None:
    strict = DicomReading(burned_in="refuse_unless_no")
    assert header(path).burned_in == "unsaid"
    assert "does not say" in refusal(path, strict)
    write_mammogram(path, BurnedInAnnotation="NO")
    assert read_header(path, strict).burned_in == "no"


def test_one_instance_uid_for_several_images(path: Path) -> None:
    one = header(path)
    uids = ("2.25.1", "", "2.25.2", "2.25.1", "")
    assert same_instance([replace(one, sop_uid=each) for each in uids]) == [(0, 3)]


# -- damaged and unusual files


def test_files_without_preamble_or_meta_information(path: Path) -> None:
    content = write_mammogram(path).read_bytes()
    whole = read_dicom(path)
    data_set = content[132 + 12 + int.from_bytes(content[140:144], "little") :]
    for form in (content[132:], data_set):
        path.write_bytes(form)
        assert looks_like_dicom(form[:132])
        found = read_dicom(path)
        assert found.header == whole.header
        np.testing.assert_array_equal(found.pixels, whole.pixels)


def test_what_looks_like_dicom(path: Path) -> None:
    assert looks_like_dicom(write_mammogram(path).read_bytes()[:132])
    others = (
        b"",
        b"\x08\x00",
        b"\x89PNG\r\n\x1a\n",
        b"II*\0" + bytes(128),
        b"\x93NUMPY",
        bytes(132),
    )
    assert not any(map(looks_like_dicom, others))


def test_elements_of_wrong_types(path: Path) -> None:
    dataset = mammogram()
    dataset.add_new("PatientAge", "UN", b"047Y")
    dataset.add_new("Modality", "UN", b"MG")
    dataset.add_new("ImageLaterality", "LO", "R")
    dataset.add_new("Rows", "UL", 16)
    dataset.add_new("PatientID", "LT", "P-1")
    found = read_header(save(dataset, path))
    assert (found.age, found.modality, found.laterality, found.height_px) == ("47", "MG", "R", 16)


def test_private_elements_and_unknown_characters(path: Path) -> None:
    dataset = mammogram(SpecificCharacterSet="ISO_IR 999", PatientID="Müller")
    block = dataset.private_block(0x0019, "DOE SYSTEMS", create=True)
    block.add_new(0x01, "OB", bytes(range(7)) * 3)
    dataset.add_new((0x0029, 0x1010), "UN", b"no creator")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(dataset, path)
    assert read_dicom(path).header.patient_id


@pytest.mark.parametrize("name", ["DICOMDIR", "rtplan.dcm", "reportsi.dcm", "badVR.dcm"])
def test_files_that_hold_no_picture(name: str) -> None:
    found = get_testdata_file("dicomdirtests/DICOMDIR" if name == "DICOMDIR" else name)
    with pytest.raises(InputError):
        read_dicom(Path(found), DicomReading(modalities=("", "RTPLAN", "SR")))


def test_nothing_of_a_file_gets_out(
    path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    content = write_mammogram(path, PatientID="SECRETSECRET").read_bytes()
    caplog.set_level(logging.DEBUG)
    for at in range(150, len(content), 3):
        path.write_bytes(content[:at] + b"\\\xff" + content[at + 2 :])
        with suppress(InputError):
            read_dicom(path)
    assert not caplog.records
    assert not recwarn.list


def test_only_allow_listed_elements_are_parsed(path: Path) -> None:
    dataset = mammogram(PatientName="Doe^Jane", StudyDate="20210203", PatientAddress="Here 1")
    dataset.add_new((0x0019, 0x0010), "LO", "DOE SYSTEMS")
    parsed = parse(save(dataset, path), pixels=True)
    kept = {str(element.keyword) for element in parsed}
    assert not kept & {"PatientName", "StudyDate", "PatientAddress"}
    assert not any(element.tag.is_private for element in parsed)
