"""What `data check` finds of people in a set, and what it leaves alone."""

import csv
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from synthdp.data import decoding
from synthdp.data.check import check_dataset
from synthdp.data.images import encode_png
from synthdp.data.importing.images.survey import survey_images
from synthdp.data.people.leftovers import png_leftover, table_leftovers

MakeSet = Callable[..., Path]


def rewrite(root: Path, change: Callable[[dict[str, str]], object]) -> None:
    """Change each row of a set's manifest."""
    with open(root / "manifest.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        change(row)
    with open(root / "manifest.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def as_png(**saved: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(stream, format="PNG", **saved)
    return stream.getvalue()


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk before its end."""
    png = encode_png(np.eye(8, dtype=np.uint8))
    chunk = len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    return png[:-12] + chunk + png[-12:]


def text_of(key: str, value: str, *, compressed: bool = False) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, value, zip=compressed)
    return info


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (as_png(pnginfo=text_of("Title", "Doe")), "holds text"),
        (as_png(pnginfo=text_of("Title", "Doe", compressed=True)), "holds text"),
        (with_chunk(b"iTXt", b"Title\0\0\0\0\0Doe"), "holds text"),
        (with_chunk(b"eXIf", b"II*\0"), "holds EXIF"),
        (with_chunk(b"tIME", b"\x07\xe8\x01\x02\x03\x04\x05"), "holds a time"),
        (with_chunk(b"dcMn", b"Doe^Jane"), "a chunk of another kind"),
        (as_png(icc_profile=b"made for Doe"), "a chunk of another kind"),
        (encode_png(np.eye(8, dtype=np.uint8)) + b"Doe^Jane", "8 byte(s) stand behind its end"),
        (b"II*\0" + bytes(64), "is not a PNG"),
    ],
)
def test_what_stands_beside_pixels(content: bytes, found: str) -> None:
    problem = png_leftover(content)
    assert problem is not None
    assert found in problem
    assert "Doe" not in problem


def test_a_check_reads_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[str]()

    def counting(path: Path, mode: str) -> IO[bytes]:
        opened.append(path.name)
        return open(path, mode)

    contents = [as_png(), as_png(pnginfo=text_of("Title", "Doe", compressed=False)), b"II*\0"]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    monkeypatch.setattr(decoding, "open", counting, raising=False)
    survey = survey_images(paths, workers=1)
    assert opened == ["0.png", "1.png", "2.png"]
    clean, text, other = survey.leftovers
    assert clean is None
    assert "holds text" in str(text)
    assert "is not a PNG" in str(other)
    assert [isinstance(entry, str) for entry in survey.entries] == [False, False, True]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_written_here_holds_pixels_alone(dtype: type) -> None:
    assert png_leftover(encode_png(np.eye(8, dtype=dtype))) is None
    assert png_leftover(as_png(dpi=(72, 72))) is None


def found_in(column: str, cell: str) -> list[str]:
    """What is found in a cell, in a row where all else is as it should be."""
    row = {"image": "images/000001.png", "patient_id": "patient-0a1b", "site": "A", column: cell}
    free = tuple(name for name in row if name not in ("image", "patient_id"))
    found = list(table_leftovers({2: row}, free))
    assert not any(len(cell) > 4 and cell in words for words, _ in found)
    return [words for words, _ in found]


@pytest.mark.parametrize(
    ("column", "cell", "form"),
    [
        ("patient_id", "19640312", "a date"),
        ("patient_id", "1964-03-12", "a date"),
        ("patient_id", "1_3_6_1_4_1_14519", "a UID"),
        ("patient_id", "Doe_Jane", "a person's name"),
        ("patient_id", "MÜLLER-ANNA", "a person's name"),
        ("site", "12.03.1964", "a date"),
        ("site", "12/31/99", "a date"),
        ("site", "seen on 2021-02-03", "a date"),
        ("site", "20210203T101112", "a date"),
        ("site", "1.3.6.1.4.1.14519.5.2", "a UID"),
        ("site", "Doe^Jane^^Dr", "a person's name"),
        ("site", "Doe, Jane", "a person's name"),
        ("site", "2819497684894126", "a number of a record"),
        ("site", "a lump that she felt when she came back from the sea", "free text"),
        ("image", "images/P_00009_left.png", "no counter"),
        ("image", "images/P_00009/1.png", "no counter"),
        ("image", "images/20210203.png", "no counter"),
        ("birth_date", "", "what is called a birth"),
        ("Accession-Number", "7", "what is called a accession"),
        ("age", "93", "an age above 90"),
        ("age", "093Y", "an age above 90"),
    ],
)
def test_what_may_tell_who_somebody_is(column: str, cell: str, form: str) -> None:
    assert any(form in words for words in found_in(column, cell or "-"))


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("patient_id", "patient-2f7c1a9be04d3344aa01bc9d"),
        ("patient_id", "P_00009"),
        ("patient_id", "1001"),
        ("image", "images/000123.png"),
        ("site", "Site A"),
        ("site", "IRREGULAR-ARCHITECTURAL_DISTORTION"),
        ("site", "0.78125"),
        ("site", "MLO"),
        ("breast_density", "3"),
        ("mass_margins", "CIRCUMSCRIBED-ILL_DEFINED"),
        ("age", "89"),
        ("age", "90"),
        ("age", "unknown"),
        ("age", ""),
    ],
)
def test_what_tells_nothing_of_anybody(column: str, cell: str) -> None:
    assert found_in(column, cell) == []


def test_check_names_rows_and_never_cells(make_set: MakeSet) -> None:
    root = make_set()
    (root / "images/000002.png").write_bytes(as_png(pnginfo=text_of("Patient", "Doe^Jane")))
    rewrite(root, lambda row: row.update(patient_id=f"{row['patient_id']}_19640312"))
    found = check_dataset(root).problems
    assert "row 3: image: holds text beside its pixels; import it again, or write it without" in (
        line.replace("rows 3:", "row 3:") for line in found
    )
    assert any("patient_id: looks like a date; import with `ids: hashed`" in line for line in found)
    assert not any(personal in line for line in found for personal in ("Doe", "1964"))


def test_made_up_people_need_no_hiding(make_set: MakeSet) -> None:
    root = make_set(kind="phantom")
    rewrite(root, lambda row: row.update(patient_id=f"{row['patient_id']}_19640312"))
    assert check_dataset(root).problems == ()


def test_files_beside_those_of_a_set(make_set: MakeSet) -> None:
    root = make_set()
    (root / "Doe^Jane.dcm").write_bytes(b"DICM")
    (root / "originals").mkdir()
    assert check_dataset(root).problems == (
        "2 file(s) or folder(s) stand beside the set's own and would leave with it; remove them",
    )
