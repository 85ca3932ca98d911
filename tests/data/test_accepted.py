"""The table of what is accepted, in docs/images.md, says what the code does."""

import re
from pathlib import Path

import pytest
from image_zoo import Tiff, levels, tiff, zoo

from synthdp.data.decoding import KINDS, MAX_FILE_BYTES, decode_pixels
from synthdp.data.dicom import file as dicom_file
from synthdp.data.formats import tiff as tiff_format
from synthdp.data.formats.limits import MAX_PIXELS, MAX_SIDE_PX
from synthdp.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "images.md"


def row(name: str) -> str:
    """What the table says of a line."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", text, re.MULTILINE)
    assert len(found) == 1, name
    return str(found[0])


def numbers(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"\d+", text)}


def test_kinds_and_sizes() -> None:
    assert row("kind").removeprefix("told by content: ").split(";")[0].split(", ") == list(KINDS)
    dicom_mib = dicom_file.MAX_FILE_BYTES // 2**20
    assert numbers(row("size")) == {MAX_FILE_BYTES // 2**20, dicom_mib, MAX_SIDE_PX, MAX_PIXELS}


@pytest.mark.parametrize(
    ("line", "read", "named"),
    [
        ("TIFF 262 photometric", tiff_format.COLOURS, tiff_format.OTHER_PHOTOMETRIC),
        ("TIFF 339 sample format", tiff_format.FORMATS, tiff_format.OTHER_FORMATS),
        ("TIFF 259 compression", tiff_format.COMPRESSIONS, tiff_format.OTHER_COMPRESSIONS),
    ],
)
def test_numbers_of_tags(line: str, read: set[int], named: set[int]) -> None:
    said, refused = row(line).split("Refused by name:")
    said = re.sub(r"\(.*?\)", "", said)
    assert numbers(said) == set(read)
    assert numbers(refused) == set(named)


@pytest.mark.parametrize("bits", range(1, 65))
def test_depths_of_tiff(tmp_path: Path, bits: int) -> None:
    assert row("TIFF 258 bits").startswith("read: 1 to 16")
    assert "32 with `bits` alone" in row("TIFF 258 bits")
    (tmp_path / "x").write_bytes(tiff(levels(min(bits, 12)), Tiff(bits)))
    if bits <= 16:
        assert decode_pixels(tmp_path / "x").dtype.itemsize == (1 if bits <= 8 else 2)
        return
    with pytest.raises(InputError, match="bits"):
        decode_pixels(tmp_path / "x")
    if bits == 32:
        assert decode_pixels(tmp_path / "x", bits=12).dtype.itemsize == 2


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("TIFF 317 predictor", "tiff predict"),
        ("TIFF 281 greatest sample", "tiff 281"),
        ("TIFF layout", "tiff big"),
        ("PNG", "png sbit"),
        ("JPEG", "jpeg of 12 bits"),
        ("PGM", "pgm"),
        ("NPY, NPZ", "npy"),
        ("colours", "tiff coloured"),
        ("opacity (alpha, tRNS, tag 338)", "png key"),
        ("orientation (tag 274, EXIF in PNG and JPEG)", "jpeg turned"),
    ],
)
def test_a_line_has_files_in_the_zoo(line: str, names: str) -> None:
    assert row(line)
    assert any(specimen.name.startswith(names) for specimen in zoo())


def test_the_page_counts_the_zoo_as_it_is() -> None:
    tiffs = [specimen for specimen in zoo() if specimen.name.startswith("tiff")]
    meant = sum(specimen.meant is not None for specimen in tiffs)
    text = PAGE.read_text(encoding="utf-8").replace("\n", " ")
    counted = (
        f"{len(tiffs)} TIFF files ({meant} with a meaning, {len(tiffs) - meant} to be refused)"
    )
    assert counted in text
    assert f"counts as right: this reader {len(tiffs)};" in text  # as test_zoo holds it
