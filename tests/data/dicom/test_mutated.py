"""Damaged DICOM files end in a refusal or an image, never in another error, and within a bound."""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import gdcm
import numpy as np
import pytest
from dicom_files import a_ramp, mammogram, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate

from synthdp.data.dicom.header import read_header
from synthdp.data.dicom.image import read_dicom
from synthdp.data.dicom.reading import DicomReading
from synthdp.errors import InputError

TAKES = {"modalities": ("MG", "NM", "OT", "")}
READINGS = (DicomReading(**TAKES), DicomReading(**TAKES, window="dicom", burned_in="take"))


def with_tables(dataset: Dataset) -> Dataset:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [64, 0, 8])
    table.add_new("LUTData", "US", list(range(64)))
    dataset.ModalityLUTSequence = [table]
    dataset.VOILUTSequence = [table]
    dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = 0, 3
    dataset.PixelSpacing, dataset.PresentationLUTShape = ["0.1", "0.1"], "IDENTITY"
    return dataset


def in_syntax(syntax: uid.UID) -> Dataset:
    dataset = mammogram(a_ramp(40, 33), WindowCenter=1000, WindowWidth=300)
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def compressed(syntax: uid.UID) -> Dataset:
    dataset = mammogram(a_ramp(40, 33))
    dataset.compress(syntax)
    return dataset


def as_jpeg() -> Dataset:
    pixels, stream = a_ramp(40, 33, 255).astype(np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    dataset = mammogram(pixels, PixelData=encapsulate([stream.getvalue()]))
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    return dataset


def with_palette() -> Dataset:
    dataset = mammogram(a_ramp(top=255).astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        entries = (np.arange(256) * 257).astype("<u2").tobytes()
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", entries)
    return dataset


SOUND: dict[str, Callable[[], Dataset]] = {
    "explicit": lambda: in_syntax(uid.ExplicitVRLittleEndian),
    "implicit": lambda: in_syntax(uid.ImplicitVRLittleEndian),
    "deflated": lambda: in_syntax(uid.DeflatedExplicitVRLittleEndian),
    "tables": lambda: with_tables(mammogram()),
    "palette": with_palette,
    "rle": lambda: compressed(uid.RLELossless),
    "jpeg-ls": lambda: compressed(uid.JPEGLSLossless),
    "jpeg-2000": lambda: compressed(uid.JPEG2000Lossless),
    "jpeg": as_jpeg,
}


@cache
def sound(name: str) -> bytes:
    stream = io.BytesIO()
    SOUND[name]().save_as(stream, enforce_file_format=True)
    return stream.getvalue()


Change = tuple[str, int, int]
#: What is done, where (modulo the length), and with which number.
changes = st.lists(
    st.tuples(
        st.sampled_from(("set", "flip", "huge", "none", "cut", "repeat", "end")),
        st.integers(132, 20_000),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)


def changed(content: bytes, done: list[Change]) -> bytes:
    """Content with changes made to it, one after the other."""
    for what, place, number in done:
        at = place % max(len(content), 1)
        before, after = content[:at], content[at:]
        content = (
            before
            + {
                "set": bytes([number]) + after[1:],
                "flip": bytes([after[0] ^ 1 << number % 8]) + after[1:] if after else b"",
                "huge": b"\xff\xff\xff\x7f" + after[4:],
                "none": bytes(4) + after[4:],
                "cut": after[number:],
                "repeat": after[:number] + after,
                "end": b"",
            }[what]
        )
    return content


def read_either_way(path: Path) -> None:
    """Read a file that may be refused, and nothing else."""
    for reading in READINGS:
        try:
            header = read_header(path, reading)
            image = read_dicom(path, reading)
        except InputError:
            continue
        assert image.header == header
        assert image.pixels.shape == (header.height_px, header.width_px)
        assert image.pixels.dtype in (np.uint8, np.uint16)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(sorted(SOUND)), changes)
def test_damaged_files(tmp_path: Path, name: str, done: list[Change]) -> None:
    path = tmp_path / "damaged.dcm"
    path.write_bytes(changed(sound(name), done))
    read_either_way(path)


@pytest.mark.parametrize("name", sorted(SOUND))
def test_sound_files_are_read(tmp_path: Path, name: str) -> None:
    pixels = read_dicom(save(SOUND[name](), tmp_path / "sound.dcm")).pixels
    assert pixels.max() == np.iinfo(pixels.dtype).max


def test_a_segment_of_run_lengths_that_is_too_long(tmp_path: Path) -> None:
    """The decoder in Rust panics on it, which is no Exception in Python."""
    dataset = compressed(uid.RLELossless)
    at = dataset.PixelData.index(b"\x02\0\0\0\x40\0\0\0") + 64
    dataset.PixelData = dataset.PixelData[:at] + b"\x81\x55" * 12 + dataset.PixelData[at + 24 :]
    with pytest.raises(InputError):
        read_dicom(save(dataset, tmp_path / "one.dcm"))


@pytest.mark.parametrize("bits", [12, 8])
def test_jpeg_lossless_and_damage_that_ends_gdcm(tmp_path: Path, bits: int) -> None:
    pixels = a_ramp(64, 48, 2**bits - 1).astype(np.uint16 if bits == 12 else np.uint8)
    path = jpeg_lossless(save(mammogram(pixels), tmp_path / "plain.dcm"), tmp_path / "lossless.dcm")
    np.testing.assert_array_equal(
        read_dicom(path).pixels, read_dicom(tmp_path / "plain.dcm").pixels
    )
    content = path.read_bytes()
    scan = content.index(b"\xff\xda", content.index(b"\xff\xd8\xff"))
    refused = []
    for place in (scan - 20, scan + 3, scan + 30):
        path.write_bytes(content[:place] + b"\x13\x57" * 6 + content[place + 12 :])
        try:
            read_dicom(path)
        except InputError as error:
            refused.append(str(error))
    assert any("compressed pixel data" in words for words in refused)


def jpeg_lossless(plain: Path, path: Path) -> Path:
    """A file anew in JPEG lossless."""
    reader, change, writer = (
        gdcm.ImageReader(),
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageWriter(),
    )
    reader.SetFileName(str(plain))
    assert reader.Read()
    syntax = gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    change.SetTransferSyntax(syntax)
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path
