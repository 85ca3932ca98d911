"""DICOM files that people reported to other projects; the log is tests/data/reports.md.

What is right was written down from the standard (PS3.3 C.7.6.3, C.11.1, C.11.2, PS3.5 8.1 and A.4)
before this reader was asked.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import a_ramp, mammogram, of_person, save, write_mammogram
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate
from pydicom.uid import ImplicitVRLittleEndian

from synthdp.cli import main
from synthdp.data.dataset import open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.dicom.header import read_header
from synthdp.data.dicom.image import read_dicom
from synthdp.data.dicom.reading import DicomReading
from synthdp.errors import InputError

AS_SHOWN = DicomReading(window="dicom")
DEEP = a_ramp(top=65535)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.dcm"


def seen(path: Path, reading: DicomReading | None = None) -> NDArray[np.float64]:
    """What is read, as 0 to 1."""
    pixels = read_dicom(path, reading).pixels
    return pixels / float(np.iinfo(pixels.dtype).max)


def linear(values: NDArray[Any], center: float, width: float) -> NDArray[np.float64]:
    """The window function LINEAR of PS3.3 C.11.2.1.2.1, written out."""
    shown = ((values - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)
    shown[values <= center - 0.5 - (width - 1) / 2] = 0
    shown[values > center - 0.5 + (width - 1) / 2] = 1
    return np.asarray(shown, np.float64)


def table(count: int, first: int, bits: int, entries: list[int], kind: str = "US") -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", kind, [count, first, bits])
    item.add_new("LUTData", "US", entries)
    return [item]


def sixteen_bits(**others: Any) -> dict[str, Any]:
    return {"BitsStored": 16, "HighBit": 15, **others}


# -- what a stored value is to be seen as


def test_a_windowed_negative_keeps_its_sixteen_bits(path: Path) -> None:
    """ome/bioformats#3620"""
    others = sixteen_bits(
        PhotometricInterpretation="MONOCHROME1", WindowCenter="32768", WindowWidth="65536"
    )
    write_mammogram(path, DEEP, **others)
    np.testing.assert_allclose(seen(path, AS_SHOWN), 1 - linear(DEEP, 32768, 65536), atol=1e-5)
    np.testing.assert_allclose(seen(path), 1 - DEEP / 65535, atol=1e-5)
    assert len(np.unique(read_dicom(path, AS_SHOWN).pixels)) == DEEP.size  # nothing went by 8 bits


def test_a_negative_is_turned_behind_its_table(path: Path) -> None:
    """cornerstonejs/cornerstone3D#2215: before the table, an uneven one gives other pixels."""
    entries = [round(4095 * (at / 4095) ** 2) for at in range(4096)]
    write_mammogram(
        path, PhotometricInterpretation="MONOCHROME1", VOILUTSequence=table(4096, 0, 12, entries)
    )
    expected = 1 - np.asarray(entries)[a_ramp()] / 4095
    np.testing.assert_allclose(seen(path, AS_SHOWN), expected, atol=1e-5)


@pytest.mark.parametrize("reading", [None, AS_SHOWN])
def test_a_falling_rescale_of_eight_bits(path: Path, reading: DicomReading | None) -> None:
    """OHIF/Viewers#127"""
    pixels = a_ramp(top=255).astype(np.uint8)
    write_mammogram(path, pixels, Modality="CR", RescaleSlope="-10", RescaleIntercept="3000")
    np.testing.assert_allclose(seen(path, reading), 1 - pixels / 255, atol=1 / 255)


def test_a_negative_said_twice_is_one(path: Path) -> None:
    """rii-mango/Daikon#35"""
    write_mammogram(path, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    np.testing.assert_allclose(seen(path), 1 - a_ramp() / 4095, atol=1e-5)


#: In no key or digest by chance, as a number of a few digits would be.
LONG_NUMBER = "99117733551122446688"


def lesions(folder: Path, *rows: str) -> list[str]:
    """The words of an import of whole images, for a table with these rows."""
    (folder / "rows.csv").write_text("\n".join(["file,patient_id,malignant", *rows]) + "\n")
    options = ["--images", str(folder), "--table", str(folder / "rows.csv")]
    return ["data", "dicom", *options, "--out", str(folder.parent / "set"), "workers=1"]


def test_a_negative_without_any_table_is_a_positive_in_the_set(tmp_path: Path) -> None:
    """Project-MONAI/monai-deploy-app-sdk#282"""
    folder = tmp_path / "src"
    folder.mkdir()
    pixels = a_ramp(32, 32)
    write_mammogram(folder / "a.dcm", pixels, **of_person(1))
    turned = {"PhotometricInterpretation": "MONOCHROME1", **of_person(2)}
    write_mammogram(folder / "b.dcm", (4095 - pixels).astype(np.uint16), **turned)
    assert main([*lesions(folder, "a.dcm,1,0", "b.dcm,2,1"), "size_px=32"]) == 0
    dataset = open_dataset(tmp_path / "set")
    plain, negative = (decode_pixels(dataset.root / row.image) for row in dataset.rows)
    np.testing.assert_array_equal(plain, negative)
    assert plain[0, 0] < plain[-1, -1]


def test_the_table_says_whose_an_image_is(tmp_path: Path) -> None:
    """pehses/twixtools#24: zeros stand before the header's id and not before the table's."""
    folder = tmp_path / "src"
    folder.mkdir()
    for number in range(2):
        others = {**of_person(number), "PatientID": f"001462928{number}"}
        write_mammogram(folder / f"{number}.dcm", **others)
    rows = [f"{number}.dcm,1462928{number},{number}" for number in range(2)]
    assert main([*lesions(folder, *rows), "ids=kept"]) == 0
    dataset = open_dataset(tmp_path / "set")
    assert [row.patient_id for row in dataset.rows] == ["14629280", "14629281"]


@pytest.mark.parametrize("implicit", [False, True])
def test_entries_of_a_table_are_unsigned_where_pixels_are_not(path: Path, implicit: bool) -> None:
    """cornerstonejs/cornerstoneWADOImageLoader#259: the first mapped value alone has a sign."""
    pixels = np.arange(-100, 92, dtype=np.int16).reshape(16, 12)
    entries = [200 * at for at in range(192)]
    tables = table(192, -100, 16, entries, "SS")
    one = mammogram(pixels, **sixteen_bits(ModalityLUTSequence=tables, RescaleSlope=None))
    if implicit:  # nothing in the file says of which type descriptor and entries are
        one.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    save(one, path)
    mapped = np.asarray(entries)[pixels + 100]
    np.testing.assert_allclose(seen(path), mapped / mapped.max(), atol=1e-5)


@pytest.mark.parametrize("report", ["dcm4che/dcm4che#1578", "dgobbi/vtk-dicom#131"])
def test_a_window_is_the_one_of_the_standard(path: Path, report: str) -> None:
    """Over rescaled values, and from half a step below; one is narrow, where half a step shows."""
    pixels = a_ramp(top=2000)
    center, width = {"dcm4che/dcm4che#1578": (40, 400), "dgobbi/vtk-dicom#131": (40, 4)}[report]
    write_mammogram(
        path,
        pixels,
        Modality="CT",
        RescaleSlope="1",
        RescaleIntercept="-1024",
        WindowCenter=str(center),
        WindowWidth=str(width),
    )
    expected = linear(pixels.astype(float) - 1024, center, width)
    np.testing.assert_allclose(seen(path, AS_SHOWN), expected, atol=1e-5)


def test_a_rescale_by_fractions_before_a_table(path: Path) -> None:
    """pydicom/pydicom#1183"""
    pixels = a_ramp(top=1000)
    entries = list(range(0, 4 * 1024, 4))
    write_mammogram(
        path, pixels, RescaleSlope="1.00305", VOILUTSequence=table(1024, 0, 12, entries)
    )
    at = np.rint(pixels * 1.00305).astype(int).clip(0, 1023)
    np.testing.assert_allclose(seen(path, AS_SHOWN), np.asarray(entries)[at] / 4095, atol=1e-3)


@pytest.mark.parametrize("width", ["0", "-1000"])
def test_a_window_without_width(path: Path, width: str) -> None:
    """pydicom/pydicom#1073"""
    write_mammogram(path, WindowCenter="2000", WindowWidth=width)
    with pytest.raises(InputError, match=r"WindowWidth .*window: full"):
        read_dicom(path, AS_SHOWN)
    np.testing.assert_allclose(seen(path), a_ramp() / 4095, atol=1e-5)


@pytest.mark.parametrize(
    ("center", "width", "meant"),
    [
        pytest.param(
            "1906.5", "1000.5", (1906.5, 1000.5), id="DIAGNijmegen/rse-grand-challenge#1367"
        ),
        pytest.param(
            ["00400", "00900"],
            ["00400", "2"],
            (400, 400),
            id="DIAGNijmegen/rse-grand-challenge#1374",
        ),
        pytest.param(
            ["60", "60"], ["80", "80"], (60, 80), id="DIAGNijmegen/rse-grand-challenge#1376"
        ),
        pytest.param("20958.0000415", "4096", (20958.0000415, 4096), id="fo-dicom/fo-dicom#1296"),
        pytest.param("0.5", "1.0", (0.5, 1.0), id="horosproject/horos#58"),
    ],
)
def test_windows_of_fractions_and_of_several_views(
    path: Path, center: Any, width: Any, meant: tuple[float, float]
) -> None:
    """Several windows are as many views; the first is taken with the first."""
    pixels = np.arange(192, dtype=np.uint16).reshape(16, 12) * 120
    write_mammogram(path, pixels, **sixteen_bits(WindowCenter=center, WindowWidth=width))
    step = (pixels > 0).astype(float)  # of a width of 1, at the centre less a half
    expected = step if meant[1] == 1 else linear(pixels.astype(float), *meant)
    np.testing.assert_allclose(seen(path, AS_SHOWN), expected, atol=1e-4)


@pytest.mark.parametrize("keyword", ["WindowCenter", "RescaleIntercept", "RescaleSlope"])
def test_what_is_no_number_is_not_taken_for_one(path: Path, keyword: str) -> None:
    """fo-dicom/fo-dicom#1757: no made-up rescale, and no other range than the one asked for."""
    others = {"WindowCenter": "2000", "WindowWidth": "1000", "RescaleSlope": "1"}
    one = mammogram(**{**others, "RescaleIntercept": "-100", keyword: "1"})
    save(one, path)
    content = path.read_bytes()
    tag = {"WindowCenter": b"\x28\0\x50\x10", "RescaleIntercept": b"\x28\0\x52\x10"}
    at = content.rindex(tag.get(keyword, b"\x28\0\x53\x10")) + 8
    path.write_bytes(content[: at - 2] + b"\4\0" + b"NaN " + content[at + 2 :])
    wrong = "no pair of numbers" if keyword == "WindowCenter" else f"{keyword} is no number"
    with pytest.raises(InputError, match=wrong):
        read_dicom(path, AS_SHOWN)


def test_a_table_of_all_words(path: Path) -> None:
    """fo-dicom/fo-dicom#1062: 0 entries are 65,536, from the least of signed pixels."""
    pixels = (np.linspace(-32768, 32767, 192).round()).astype(np.int16).reshape(16, 12)
    entries = [at // 16 for at in range(65536)]
    tables = table(0, -32768, 12, entries, "SS")
    write_mammogram(path, pixels, **sixteen_bits(VOILUTSequence=tables))
    expected = ((pixels.astype(int) + 32768) // 16) / 4095
    np.testing.assert_allclose(seen(path, AS_SHOWN), expected, atol=1e-5)


def test_a_table_of_more_entries_than_a_signed_number_counts(path: Path) -> None:
    """pydicom/pydicom#942: its length is unsigned, though its first value is not."""
    pixels = (np.linspace(-2048, 60671 - 2048, 192)).astype(np.int16).reshape(16, 12)
    tables = table(62720, -2048, 16, list(range(62720)), "SS")
    write_mammogram(path, pixels, **sixteen_bits(VOILUTSequence=tables))
    expected = (pixels.astype(int) + 2048).clip(0) / 65535
    np.testing.assert_allclose(seen(path, AS_SHOWN), expected, atol=1e-5)


def test_the_first_value_of_a_table_is_signed_as_what_goes_in(path: Path) -> None:
    """dcm4che/dcm4che#1521: above 32,767 for unsigned pixels, below 0 behind a rescale of CT."""
    pixels = (np.arange(192, dtype=np.uint16) + 40000).reshape(16, 12)
    tables = table(192, 40000, 8, list(range(0, 192)))
    write_mammogram(path, pixels, **sixteen_bits(VOILUTSequence=tables))
    np.testing.assert_allclose(seen(path, AS_SHOWN), (pixels - 40000) / 255, atol=1e-5)
    pixels = (np.arange(192, dtype=np.uint16) + 24).reshape(16, 12)  # -1000 to -809
    others = {"Modality": "CT", "RescaleSlope": "1", "RescaleIntercept": "-1024"}
    tables = table(192, -1000, 8, list(range(0, 192)), "SS")
    write_mammogram(path, pixels, VOILUTSequence=tables, **others)
    np.testing.assert_allclose(seen(path, AS_SHOWN), (pixels - 24) / 255, atol=1e-5)


def test_a_table_that_gives_the_size_of_its_words_for_their_range(path: Path) -> None:
    """Enet4/dicom-rs#825: entries of 12 bits, said to have 16 (CR of Agfa); white is 4095."""
    entries = list(range(4096))
    write_mammogram(path, VOILUTSequence=table(4096, 0, 16, entries))
    np.testing.assert_allclose(seen(path, AS_SHOWN), a_ramp() / 4095, atol=1e-5)


def test_a_modality_table_of_twelve_bits(path: Path) -> None:
    """pydicom/pydicom#2326"""
    entries = [4095 - at for at in range(4096)]
    write_mammogram(path, ModalityLUTSequence=table(4096, 0, 12, entries), RescaleSlope=None)
    np.testing.assert_allclose(seen(path), 1 - a_ramp() / 4095, atol=1e-5)


# -- how many bytes there are


def cut_at_the_pixels(path: Path, dataset: Dataset, value: bytes) -> Path:
    """A file whose last element, the pixel data, has these bytes, an odd number of them too."""
    dataset.PixelData = b"\0" * 2
    dataset["PixelData"].VR = "OB"
    save(dataset, path)
    content = path.read_bytes()
    start = content.rindex(b"\xe0\x7f\x10\x00OB\0\0")
    path.write_bytes(content[: start + 8] + len(value).to_bytes(4, "little") + value)
    return path


ODD = np.arange(15, dtype=np.uint8).reshape(3, 5) * 18


@pytest.mark.parametrize(
    "beyond",
    [
        pytest.param(b"\0", id="pydicom/pydicom#599"),
        pytest.param(b"", id="pydicom/pydicom#866"),
        pytest.param(b"\0\0\0", id="pydicom/pydicom#796"),
        pytest.param(b"\0" * 9, id="pydicom/pydicom#801"),
    ],
)
def test_an_odd_number_of_pixels_with_and_without_padding(path: Path, beyond: bytes) -> None:
    cut_at_the_pixels(path, mammogram(ODD), ODD.tobytes() + beyond)
    np.testing.assert_allclose(seen(path), ODD / 252, atol=1 / 255)


@pytest.mark.parametrize("missing", [1, 5, 14])
def test_fewer_bytes_than_pixels(path: Path, missing: int) -> None:
    """pydicom/pydicom#1188"""
    cut_at_the_pixels(path, mammogram(ODD), ODD.tobytes()[:-missing])
    with pytest.raises(InputError, match="pixel data are truncated"):
        read_dicom(path)


LARGE = a_ramp(64, 64)


def compressed(pixels: NDArray[Any], syntax: uid.UID = uid.JPEG2000Lossless) -> Dataset:
    one = mammogram(pixels)
    one.compress(syntax)
    one["PixelData"].VR = "OB"
    return one


def without_delimiter(content: bytes) -> bytes:
    assert content.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    return content[:-8]


@pytest.mark.parametrize(
    "beyond",
    [
        pytest.param(b"", id="pydicom/pydicom#1799"),
        pytest.param(bytes(16), id="DCMTK/dcmtk#118"),
    ],
)
@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.RLELossless])
def test_compressed_pixels_whose_end_is_not_said(
    path: Path, beyond: bytes, syntax: uid.UID
) -> None:
    content = save(compressed(LARGE, syntax), path).read_bytes()
    assert content.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    path.write_bytes(content[:-8] + beyond)
    with pytest.raises(InputError, match="the file ends before its elements do"):
        read_dicom(path)


def test_a_picture_in_which_the_bytes_of_the_delimiter_occur(path: Path) -> None:
    """pydicom/pydicom#1140: lengths of items decide where the data end, not what is in them."""
    pixels = np.full((16, 12), 7, np.uint8)
    pixels[3, 2:10] = list(b"\xfe\xff\xdd\xe0\1\2\3\4")
    one = compressed(pixels, uid.RLELossless)
    assert b"\xfe\xff\xdd\xe0\1\2\3\4" in one.PixelData
    save(one, path)
    np.testing.assert_allclose(seen(path), (pixels - 1) / 254, atol=1 / 255)


def test_a_small_picture_of_the_picture_in_its_header(path: Path) -> None:
    """pydicom/pydicom#2324: compressed icons in items of a stated length; the image is its own."""
    pixels, icon = LARGE, a_ramp(4, 4, 250).astype(np.uint8)
    one = compressed(pixels)
    small = Dataset()
    for name in ("SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation"):
        setattr(small, name, getattr(one, name))
    small.Rows, small.Columns, small.BitsAllocated, small.BitsStored, small.HighBit = 4, 4, 8, 8, 7
    small.PixelData = encapsulate([icon.tobytes()])
    small["PixelData"].VR, small["PixelData"].is_undefined_length = "OB", True
    one.IconImageSequence = [small]
    save(one, path)
    np.testing.assert_allclose(seen(path), pixels / 4095, atol=1e-5)


SIGNED = (np.arange(64 * 64) % 4096 - 2048).astype(np.int16).reshape(64, 64)


@pytest.mark.parametrize(
    ("syntax", "bits"),
    [
        pytest.param(uid.JPEG2000Lossless, 16, id="fo-dicom/fo-dicom#738"),
        pytest.param(uid.JPEG2000Lossless, 13, id="pydicom/pydicom#693"),
        pytest.param(uid.JPEGLSLossless, 13, id="pydicom/pydicom#2009"),
        pytest.param(uid.JPEGLSLossless, 12, id="pydicom/pydicom#2009 at 12"),
    ],
)
def test_signed_pixels_keep_their_sign_in_a_compression(
    path: Path, syntax: uid.UID, bits: int
) -> None:
    one = mammogram(SIGNED, BitsStored=bits, HighBit=bits - 1)
    one.compress(syntax)
    save(one, path)
    np.testing.assert_allclose(seen(path), (SIGNED.astype(float) + 2048) / 4095, atol=1e-5)


@pytest.mark.parametrize("bits", [13, 16])
def test_signed_pixels_that_were_compressed_as_unsigned_ones(path: Path, bits: int) -> None:
    """pydicom/pydicom#1149: the codestream says unsigned, the header signed; the header knows."""
    words = (SIGNED.view(np.uint16) & (2**bits - 1)).astype(np.uint16)
    one = mammogram(words, BitsStored=bits, HighBit=bits - 1)
    one.compress(uid.JPEG2000Lossless)
    one.PixelRepresentation = 1
    save(one, path)
    np.testing.assert_allclose(seen(path), (SIGNED.astype(float) + 2048) / 4095, atol=1e-5)


@pytest.mark.parametrize("said", [12, 16])
def test_twelve_bits_stay_twelve_whatever_the_header_allows(path: Path, said: int) -> None:
    """pydicom/pydicom#2073: neither shifted down to 8 bits nor up to 16."""
    one = compressed(LARGE)  # of 12 bits, and so in the codestream
    one.BitsStored, one.HighBit = said, said - 1
    one.WindowCenter, one.WindowWidth = "2048", "4096"
    save(one, path)
    np.testing.assert_allclose(seen(path, AS_SHOWN), linear(LARGE, 2048, 4096), atol=1e-4)


# -- what headers lack


def test_files_that_lack_what_decides_are_each_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """vinbigdata-medical/vindr-cxr#3"""
    folder = tmp_path / "src"
    folder.mkdir()
    for number in range(2):
        write_mammogram(folder / f"{number}.dcm", **of_person(number))
    no_syntax = compressed(LARGE)
    no_syntax.PatientID, no_syntax.SOPInstanceUID = "P-7", "2.25.7"
    del no_syntax.file_meta.TransferSyntaxUID
    no_syntax.save_as(folder / "2.dcm", implicit_vr=False, little_endian=True)
    no_pixels = mammogram(**of_person(8))
    del no_pixels.PixelData
    save(no_pixels, folder / "3.dcm")
    arguments = lesions(folder, *(f"{number}.dcm,P{number},{number % 2}" for number in range(4)))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "row 4: " in error
    assert "no transfer syntax says how" in error
    assert "row 5: holds no pixels (no PixelData)" in error
    assert main([*arguments, "leave_out=[unreadable]"]) == 0
    assert len(open_dataset(tmp_path / "set").rows) == 2


def test_a_detector_of_fifteen_bits(path: Path) -> None:
    """pydicom/pydicom#798: the spacing at the detector, fifteen bits of sixteen, a whole window."""
    pixels = a_ramp(top=32767)
    write_mammogram(
        path,
        pixels,
        Modality="DX",
        BitsStored=15,
        HighBit=14,
        ImagerPixelSpacing=["0.139", "0.139"],
        WindowCenter="16383",
        WindowWidth="32767",
    )
    assert read_header(path).spacing_mm == (0.139, 0.139)
    np.testing.assert_allclose(seen(path), pixels / 32767, atol=1e-5)
    np.testing.assert_allclose(seen(path, AS_SHOWN), linear(pixels, 16383, 32767), atol=1e-5)


def test_an_orientation_that_is_none_stops_nothing(path: Path) -> None:
    """nroduit/Weasis#376"""
    write_mammogram(path, Modality="DX", PatientOrientation=["?", "?"], ViewPosition="")
    assert read_header(path).view == ""
    np.testing.assert_allclose(seen(path), a_ramp() / 4095, atol=1e-5)


def test_a_view_that_is_not_said_is_unknown(tmp_path: Path) -> None:
    """MIT-LCP/mimic-cxr#15"""
    folder = tmp_path / "src"
    folder.mkdir()
    for number, view in enumerate(("PA", "")):
        others = {**of_person(number), "ViewPosition": view}
        write_mammogram(folder / f"{number}.dcm", Modality="DX", **others)
    assert main(lesions(folder, "0.dcm,P0,0", "1.dcm,P1,1")) == 0
    rows = open_dataset(tmp_path / "set").rows
    assert [row.attributes["view"] for row in rows] == ["PA", ""]


# -- what headers hold of people


def test_nothing_that_people_are_called_by_comes_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """KitwareMedical/dicom-anonymizer#10, dcunited001/mri-scans#3"""
    folder = tmp_path / "src"
    folder.mkdir()
    secrets = {
        **{"PatientName": "Doe^Jane", "PatientAddress": "1 Elm Street", "StudyDate": "20190203"},
        **{"ReferringPhysicianName": "House^Gregory", "InstitutionName": "St Elsewhere"},
        **{"OperatorsName": "Nurse^Night", "AccessionNumber": "ACC778", "StudyID": "STUDY55"},
        **{"PatientBirthDate": "19500607", "ImageComments": "told her son Bob"},
    }
    for number in range(4):
        uid = f"2.25.1{number}{LONG_NUMBER}"
        one = mammogram(**{**of_person(number), "SOPInstanceUID": uid}, **secrets)
        one.PatientID = f"MRN{number}42"
        block = one.private_block(0x0019, "ACME MED", create=True)
        block.add_new(0x10, "LO", "private Jane")
        item = Dataset()
        item.PatientName, item.OtherPatientIDs = "Maiden^Jane", "OTHER-1"
        one.add_new(0x00101002, "SQ", [item])
        save(one, folder / f"jane_{number}.dcm")
    rows = [f"jane_{number}.dcm,MRN{number}42,{number % 2}" for number in range(4)]
    assert main(lesions(folder, *rows)) == 0
    shown = capsys.readouterr()
    made = [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() + path.name.encode() for path in made)
    content += (shown.out + shown.err).encode()
    words = [*secrets.values(), "Doe^", "Jane", "jane_", "MRN0", "Maiden", "OTHER-1", "ACME"]
    words.append(LONG_NUMBER)
    assert not [word for word in words if word.encode() in content]


def test_headers_that_say_nothing_of_burned_in_text_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """pydicom/pydicom#375: no header proves that there is none, so that somebody has to look."""
    folder = tmp_path / "src"
    folder.mkdir()
    for number, said in enumerate((None, None, "NO", "NO")):
        others = {} if said is None else {"BurnedInAnnotation": said}
        write_mammogram(folder / f"{number}.dcm", **of_person(number), **others)
    arguments = lesions(folder, *(f"{number}.dcm,P{number},{number % 2}" for number in range(4)))
    assert main([*arguments, "dicom.burned_in=refuse_unless_no"]) == 2
    error = capsys.readouterr().err
    assert "row 2: the header does not say" in error
    assert "row 3: the header does not say" in error
    assert "row 4" not in error
    with caplog.at_level("INFO"):
        assert main(arguments) == 0
    assert "2 DICOM images do not say whether anything is written into the picture" in caplog.text
