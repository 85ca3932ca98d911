"""What is seen of a DICOM image, whatever way it is stored in."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import a_ramp, mammogram, save, write_mammogram
from numpy.typing import NDArray
from PIL import Image
from pydicom import DataElement, Dataset, dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, get_frame

from synthdp.data.dicom.image import read_dicom
from synthdp.data.dicom.reading import DicomReading
from synthdp.errors import InputError

ANY_KIND = DicomReading(modalities=("MG", "CT", "MR", "CR", "NM", "OT"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.dcm"


def spread(values: NDArray[Any]) -> NDArray[np.float64]:
    """Values from the least to the greatest, as 0 to 1."""
    low, high = float(values.min()), float(values.max())
    return (values.astype(float) - low) / (high - low)


def seen(path: Path, **reading: Any) -> NDArray[np.float64]:
    """What is read, as 0 to 1."""
    pixels = read_dicom(path, DicomReading(**reading)).pixels
    return pixels / float(np.iinfo(pixels.dtype).max)


def assert_seen(path: Path, expected: NDArray[Any], **reading: Any) -> None:
    np.testing.assert_allclose(seen(path, **reading), expected, atol=1e-5)


def refusal(path: Path, **reading: Any) -> str:
    with pytest.raises(InputError) as error:
        read_dicom(path, DicomReading(**reading))
    assert str(path) not in str(error.value)
    return str(error.value)


def lut(count: int, first: int, bits: int, entries: list[int]) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [count, first, bits])
    item.add_new("LUTData", "US", entries)
    return [item]


# -- what is stored: bits, signs, byte order


def test_twelve_bits_fill_sixteen(path: Path) -> None:
    image = read_dicom(write_mammogram(path))
    assert image.pixels.dtype == np.uint16
    assert_seen(path, spread(a_ramp()))


def test_eight_bits_stay_eight(path: Path) -> None:
    pixels = a_ramp(top=200).astype(np.uint8)
    assert read_dicom(write_mammogram(path, pixels)).pixels.dtype == np.uint8
    np.testing.assert_allclose(seen(path), spread(pixels), atol=1 / 255)


def test_signed_values(path: Path) -> None:
    pixels = a_ramp().astype(np.int16) - 2048
    assert_seen(write_mammogram(path, pixels), spread(pixels))


def test_signed_values_whose_sign_is_not_extended(path: Path) -> None:
    pixels = a_ramp().astype(np.int16) - 2048
    assert_seen(write_mammogram(path, pixels & 0x0FFF, PixelRepresentation=1), spread(pixels))


def test_values_at_the_top_of_their_words(path: Path) -> None:
    assert_seen(write_mammogram(path, a_ramp() << 4, HighBit=15), spread(a_ramp()))


def test_low_bits_below_values_are_not_seen(path: Path) -> None:
    pixels = (a_ramp() << 3) | 0b101
    assert_seen(write_mammogram(path, pixels, HighBit=14), spread(a_ramp()))


def test_an_overlay_in_unused_bits_is_not_seen(path: Path) -> None:
    pixels = a_ramp()
    pixels[3:5] |= 0x8000
    dataset = mammogram(pixels)
    dataset.add_new((0x6000, 0x0102), "US", 15)
    save(dataset, path)
    assert_seen(path, spread(a_ramp()))


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_that_the_header_does_not_know_of_are_refused(path: Path, signed: int) -> None:
    write_mammogram(path, a_ramp(top=16000), PixelRepresentation=signed)
    assert "more than the 12 bits that BitsStored says" in refusal(path)
    dataset = mammogram(a_ramp(top=16000), PixelRepresentation=signed)
    dataset.add_new((0x6000, 0x0102), "US", 0)  # an overlay, but not in the pixels
    assert "more than the 12 bits that BitsStored says" in refusal(save(dataset, path))


def test_big_endian_words_and_bytes(path: Path) -> None:
    dataset = mammogram()
    dataset.PixelData = a_ramp().astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
    save(dataset, path)
    assert_seen(path, spread(a_ramp()))
    bytes_of_words = a_ramp(top=255).astype(np.uint8)
    dataset = mammogram(bytes_of_words)
    dataset.PixelData = bytes_of_words.view("<u2").byteswap().tobytes()  # as OW, swapped in pairs
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
    save(dataset, path)
    np.testing.assert_array_equal(read_dicom(path).pixels, bytes_of_words)


# -- how it is stored: transfer syntaxes


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian])
def test_plain_syntaxes(path: Path, syntax: uid.UID) -> None:
    dataset = mammogram()
    dataset.file_meta.TransferSyntaxUID = syntax
    save(dataset, path)
    assert_seen(path, spread(a_ramp()))


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless])
@pytest.mark.parametrize("pixels", [a_ramp(64, 48), a_ramp(64, 48, 255).astype(np.uint8)])
def test_lossless_syntaxes(path: Path, syntax: uid.UID, pixels: NDArray[Any]) -> None:
    dataset = mammogram(pixels)
    dataset.compress(syntax)
    save(dataset, path)
    np.testing.assert_allclose(seen(path), spread(pixels), atol=1e-5)


def test_jpeg_baseline(path: Path) -> None:
    pixels = a_ramp(64, 64, top=255).astype(np.uint8)
    save(as_baseline(mammogram(pixels), pixels), path)
    np.testing.assert_allclose(seen(path), spread(pixels), atol=0.03)


def as_baseline(dataset: Dataset, pixels: NDArray[np.uint8], frames: int = 1) -> Dataset:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    dataset.PixelData = encapsulate([stream.getvalue()] * frames, has_bot=frames == 1)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    return dataset


def test_fragments_of_one_frame_without_a_table_of_offsets(path: Path) -> None:
    dataset = mammogram(a_ramp(64, 48))
    dataset.compress(uid.JPEG2000Lossless)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame], fragments_per_frame=3, has_bot=False)
    save(dataset, path)
    assert_seen(path, spread(a_ramp(64, 48)))


SAME_PICTURE = [
    ("MR_small.dcm", name)
    for name in (
        *("MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"),
        *("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm"),
    )
]


@pytest.mark.parametrize(("plain", "other"), SAME_PICTURE)
def test_one_picture_in_all_syntaxes(plain: str, other: str) -> None:
    pictures = [
        read_dicom(Path(get_testdata_file(name)), ANY_KIND).pixels for name in (plain, other)
    ]
    np.testing.assert_array_equal(*pictures)


def test_jpeg_extended_of_twelve_bits_says_what_to_do() -> None:
    with pytest.raises(InputError, match="no decoder under a permissive licence"):
        read_dicom(Path(get_testdata_file("JPGExtended.dcm")), ANY_KIND)


def test_a_syntax_of_video_or_of_a_maker_is_refused(path: Path) -> None:
    dataset = mammogram()
    dataset.compress(uid.RLELossless)
    for syntax in (uid.MPEG4HP41, "1.2.3.4"):
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=True)
        assert "is not read; convert it" in refusal(path)


# -- how it is to be seen: tables, windows, polarity


def test_a_negative_is_turned_after_its_window(path: Path) -> None:
    window = {"WindowCenter": 1000, "WindowWidth": 500, "VOILUTFunction": "LINEAR_EXACT"}
    write_mammogram(path, PhotometricInterpretation="MONOCHROME1", **window)
    expected = 1 - np.clip((a_ramp() - 1000.0) / 500 + 0.5, 0, 1)
    assert_seen(path, expected, window="dicom")
    assert_seen(path, 1 - spread(a_ramp()))


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        ("", lambda x: (x - 999.5) / 499 + 0.5),
        ("LINEAR", lambda x: (x - 999.5) / 499 + 0.5),
        ("LINEAR_EXACT", lambda x: (x - 1000) / 500 + 0.5),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 1000) / 500))),
    ],
)
def test_windows(path: Path, function: str, shown: Callable[..., Any]) -> None:
    others = {"VOILUTFunction": function} if function else {}
    write_mammogram(path, WindowCenter=[1000, 50], WindowWidth=[500, 3], **others)
    assert_seen(path, np.clip(shown(a_ramp().astype(float)), 0, 1), window="dicom")


def test_a_window_is_over_rescaled_values(path: Path) -> None:
    rescale = {"RescaleSlope": "2", "RescaleIntercept": "-1024"}
    window = {"WindowCenter": 100, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"}
    write_mammogram(path, **rescale, **window)
    hounsfield = a_ramp() * 2.0 - 1024
    assert_seen(path, np.clip((hounsfield - 100) / 400 + 0.5, 0, 1), window="dicom")


@pytest.mark.parametrize("of", ["Shared", "PerFrame"])
def test_what_an_enhanced_image_says_of_its_one_frame_counts(path: Path, of: str) -> None:
    transformation, interest, groups = Dataset(), Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = "-1", "4095"
    interest.WindowCenter, interest.WindowWidth = "1000", "500"
    interest.VOILUTFunction = "LINEAR_EXACT"
    groups.PixelValueTransformationSequence = [transformation]
    groups.FrameVOILUTSequence = [interest]
    write_mammogram(path, NumberOfFrames=1, **{f"{of}FunctionalGroupsSequence": [groups]})
    assert_seen(path, 1 - spread(a_ramp()))
    expected = np.clip((4095.0 - a_ramp() - 1000) / 500 + 0.5, 0, 1)
    assert_seen(path, expected, window="dicom")


@pytest.mark.parametrize(
    "window", [{"WindowCenter": "1,5"}, {"WindowWidth": "500"}, {"WindowCenter": ["1000", "x"]}]
)
def test_half_a_window_is_not_the_whole_range(path: Path, window: dict[str, Any]) -> None:
    dataset = mammogram()
    for name, value in window.items():
        dataset[name] = DataElement(name, "LO", value)  # which holds what DS refuses
    save(dataset, path)
    assert "no pair of numbers" in refusal(path, window="dicom")
    assert_seen(path, spread(a_ramp()))


def test_a_falling_rescale_turns_the_image(path: Path) -> None:
    write_mammogram(path, RescaleSlope="-1", RescaleIntercept="4095")
    assert_seen(path, 1 - spread(a_ramp()))


def test_tables_in_their_order(path: Path) -> None:
    modality = lut(4096, 0, 8, [value // 16 for value in range(4096)])
    interest = lut(128, 64, 10, [8 * index for index in range(128)])
    write_mammogram(
        path,
        ModalityLUTSequence=modality,
        VOILUTSequence=interest,
        PhotometricInterpretation="MONOCHROME1",
        PresentationLUTShape="INVERSE",
        WindowCenter=5,
        WindowWidth=3,
    )
    after_modality = a_ramp() // 16
    expected = 1 - 8 * np.clip(after_modality.astype(int) - 64, 0, 127) / 1023
    assert_seen(path, expected, window="dicom")
    assert_seen(path, 1 - spread(after_modality))


def test_a_table_of_signed_values_in_words(path: Path) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS", [4096, -2048, 16])
    item.add_new("LUTData", "OW", np.arange(0, 65536, 16, dtype="<u2").tobytes())
    pixels = a_ramp().astype(np.int16) - 2048
    assert_seen(write_mammogram(path, pixels, ModalityLUTSequence=[item]), spread(a_ramp()))


@pytest.mark.parametrize(
    ("entries", "bits"), [([1, 2], 8), ([0] * 4095 + [256], 8), ([0] * 4096, 0)]
)
def test_damaged_tables_are_refused(path: Path, entries: list[int], bits: int) -> None:
    write_mammogram(path, ModalityLUTSequence=lut(4096, 0, bits, entries))
    assert "look-up table" in refusal(path)


@pytest.mark.parametrize(
    ("photometric", "shape", "by_photometric", "by_presentation"),
    [("MONOCHROME1", "IDENTITY", True, False), ("MONOCHROME2", "INVERSE", False, True)],
)
def test_a_header_of_two_minds_on_polarity(
    path: Path, photometric: str, shape: str, by_photometric: bool, by_presentation: bool
) -> None:
    write_mammogram(path, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    assert "`polarity: photometric`" in refusal(path)
    for polarity, negative in (("photometric", by_photometric), ("presentation", by_presentation)):
        expected = 1 - spread(a_ramp()) if negative else spread(a_ramp())
        assert_seen(path, expected, polarity=polarity)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_counts_for_no_range(path: Path, photometric: str) -> None:
    pixels = a_ramp() // 4 + 100
    pixels[:, :3], pixels[:, 3] = 4000, 4010
    padded = {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095}
    write_mammogram(path, pixels, PhotometricInterpretation=photometric, **padded)
    picture = spread(pixels[:, 4:])
    expected = 1 - picture if photometric == "MONOCHROME1" else picture
    assert_seen(path, np.hstack([np.zeros((16, 4)), expected]))


def test_signed_padding(path: Path) -> None:
    pixels = a_ramp(top=3000).astype(np.int16) - 1000
    pixels[:, 0] = -2000
    write_mammogram(path, pixels, PixelPaddingValue=-2000)
    assert_seen(path, np.hstack([np.zeros((16, 1)), spread(pixels[:, 1:])]))


def test_an_image_of_padding_alone(path: Path) -> None:
    pixels = np.full((4, 4), 7, np.uint16)
    assert "every pixel is padding" in refusal(write_mammogram(path, pixels, PixelPaddingValue=7))


@pytest.mark.parametrize("slope", ["0", "0.0"])
def test_a_rescale_to_nothing(path: Path, slope: str) -> None:
    assert "RescaleSlope is 0" in refusal(write_mammogram(path, RescaleSlope=slope))


# -- colour


def grey_as_colour() -> NDArray[np.uint8]:
    return np.repeat(a_ramp(top=255).astype(np.uint8)[..., None], 3, axis=2)


def test_colours_that_are_grey(path: Path) -> None:
    write_mammogram(path, grey_as_colour())
    np.testing.assert_array_equal(read_dicom(path).pixels, grey_as_colour()[..., 0])
    ybr = grey_as_colour()
    ybr[..., 1:] = 128
    write_mammogram(path, ybr, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_array_equal(read_dicom(path).pixels, grey_as_colour()[..., 0])


def test_colours_are_refused(path: Path) -> None:
    pixels = grey_as_colour()
    pixels[5, 5, 1] ^= 1
    assert "is a colour image" in refusal(write_mammogram(path, pixels))


@pytest.mark.parametrize("green", [255, 0])
def test_a_palette(path: Path, green: int) -> None:
    pixels = a_ramp(top=255).astype(np.uint8)
    dataset = mammogram(pixels, PhotometricInterpretation="PALETTE COLOR")
    for colour, top in (("Red", 255), ("Green", green), ("Blue", 255)):
        falling = np.linspace(top, 0, 256).round().astype("<u2")
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", (falling * 257).tobytes())
    save(dataset, path)
    if green == 255:
        np.testing.assert_allclose(seen(path), 1 - spread(pixels), atol=1e-2)
    else:
        assert "is a colour image" in refusal(path)


def test_a_palette_that_is_not_there(path: Path) -> None:
    write_mammogram(
        path, a_ramp(top=255).astype(np.uint8), PhotometricInterpretation="PALETTE COLOR"
    )
    assert "a palette that the file does not hold" in refusal(path)


# -- headers that lie, files that end


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"Rows": 17}, "truncated"),
        ({"Columns": 11}, "not of this one image"),
        ({"Rows": 15}, "not of this one image"),
        ({"Rows": 60000, "Columns": 60000}, "60000x60000 px is more than"),
        ({"Rows": 0}, "holds no image"),
        ({"NumberOfFrames": 2}, "holds 2 frames (multi-frame)"),
        ({"BitsAllocated": 32}, "of 32 bits each"),
        ({"BitsAllocated": 1}, "of 1 bits each"),
        ({"BitsStored": 17}, "contradicts itself"),
        ({"HighBit": 16}, "contradicts itself"),
        ({"HighBit": 3}, "contradicts itself"),
        ({"SamplesPerPixel": 3}, "photometric interpretation that is not read"),
        ({"PhotometricInterpretation": "HSV"}, "photometric interpretation that is not read"),
    ],
)
def test_headers_that_lie(path: Path, others: dict[str, Any], words: str) -> None:
    assert words in refusal(write_mammogram(path, **others))


@pytest.mark.parametrize("frames", ["", "0", "1"])
def test_a_number_of_frames_of_one_or_none(path: Path, frames: str) -> None:
    assert_seen(write_mammogram(path, NumberOfFrames=frames), spread(a_ramp()))


def test_more_frames_than_the_header_says(path: Path) -> None:
    twice = np.concatenate([a_ramp(), a_ramp()])
    dataset = mammogram(twice, Rows=16)
    save(dataset, path)
    assert "not of this one image" in refusal(path)
    pixels = a_ramp(top=255).astype(np.uint8)
    save(as_baseline(mammogram(pixels), pixels, frames=2), path)
    assert "several frames" in refusal(path)


def test_a_stream_of_another_size_than_the_header(path: Path) -> None:
    pixels = a_ramp(64, 64, top=255).astype(np.uint8)
    save(as_baseline(mammogram(pixels, Rows=32), pixels), path)
    assert "say 64x64 px, where the header says 64x32 px" in refusal(path)


@pytest.mark.parametrize(
    "syntax", [None, uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless]
)
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.9, 0.99])
def test_files_that_end_early(path: Path, syntax: uid.UID | None, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype(np.uint16)
    dataset = mammogram(noise)
    if syntax is not None:
        dataset.compress(syntax)
    save(dataset, path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    refusal(path)


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_a_piece_that_is_missing_from_the_middle(path: Path, syntax: uid.UID) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (48, 48)).astype(np.uint16)
    dataset = mammogram(noise)
    dataset.compress(syntax)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame[:900] + frame[1100:]])
    refusal(save(dataset, path))


def test_a_length_beyond_the_file_takes_no_memory(path: Path) -> None:
    content = write_mammogram(path).read_bytes()
    at = content.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    path.write_bytes(content[:at] + b"\xf0\xff\xff\xff" + content[at + 4 :])
    assert_seen(path, spread(a_ramp()))  # all of it is there
    path.write_bytes(content[:at] + b"\xf0\xff\xff\xff" + content[at + 4 : -2])
    assert "truncated" in refusal(path)


def test_deflated_content_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = mammogram(np.zeros((512, 512), np.uint16))
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    save(dataset, path)
    monkeypatch.setattr("synthdp.data.dicom.file.MAX_FILE_BYTES", 100_000)
    assert "deflated content is truncated, or larger than" in refusal(path)


def test_pixels_of_floating_point_and_none(path: Path) -> None:
    dataset = mammogram()
    del dataset.PixelData
    save(dataset, path)
    assert "holds no pixels" in refusal(path)
    dataset.FloatPixelData = a_ramp().astype(np.float32).tobytes()
    save(dataset, path)
    assert "floating point" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(200), b"\x89PNG\r\n\x1a\n" + bytes(99)])
def test_files_of_another_kind(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refusal(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.dcm") == "the file is missing"
    assert refusal(tmp_path) == "the file is missing"


def test_without_pydicom_the_extra_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mammogram(path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert 'pip install "synthdp[dicom]"' in refusal(path)


# -- files of others: pydicom-data, whose folder `data_store/data` an environment variable names

OTHERS = Path(os.environ.get("PYDICOM_DATA", "../pydicom-data/data_store/data"))
of_others = pytest.mark.skipif(not OTHERS.is_dir(), reason="needs the files of pydicom-data")


@of_others
@pytest.mark.parametrize("name", ["RG1", "RG3", "693", "MR2"])
def test_radiographs_and_slices_in_jpeg_2000(name: str) -> None:
    """The same picture, lossless: plain, as it was before, and compressed."""
    plain, packed = (
        read_dicom(OTHERS / f"{name}_{form}.dcm", ANY_KIND).pixels for form in ("UNCR", "J2KR")
    )
    np.testing.assert_array_equal(plain, packed)


@of_others
def test_a_negative_of_a_chest_is_seen_as_a_radiograph() -> None:
    """Air is dark in a radiograph: the lungs darker than the spine between them."""
    image = read_dicom(OTHERS / "RG1_UNCR.dcm", ANY_KIND)
    height, width = image.pixels.shape
    band = image.pixels[height // 3 : height // 2].mean(axis=0)
    lung, spine = band[width // 4 - 40 : width // 4 + 40], band[width // 2 - 40 : width // 2 + 40]
    assert image.header.view == "PA"
    assert lung.mean() < 0.9 * spine.mean()


@of_others
def test_a_modality_table_of_signed_values() -> None:
    """A table of 4096 entries from -2048 on, written for tests of tables: its values, spread."""
    dataset = dcmread(OTHERS / "mlut_18.dcm")
    stored = dataset.pixel_array.astype(int)
    table = np.asarray(dataset.ModalityLUTSequence[0].LUTData, dtype=float)
    assert_others(OTHERS / "mlut_18.dcm", spread(table[stored + 2048]))


@of_others
def test_a_table_of_interest() -> None:
    dataset = dcmread(OTHERS / "vlut_04.dcm")
    count, first, bits = dataset.VOILUTSequence[0].LUTDescriptor
    table = np.asarray(dataset.VOILUTSequence[0].LUTData, dtype=float)
    indices = np.clip(dataset.pixel_array.astype(int) - first, 0, count - 1)
    expected = table[indices] / (2**bits - 1)
    assert_others(OTHERS / "vlut_04.dcm", expected, window="dicom", within=1 / 255)


def assert_others(path: Path, expected: NDArray[Any], within: float = 1e-5, **reading: Any) -> None:
    found = seen(path, modalities=("OT", "CT", "MR", "CR", "US", "XA", ""), **reading)
    np.testing.assert_allclose(found, expected, atol=within)
