"""Nothing of a DICOM header comes out of an import: a search of every byte that it writes.

PNG is inflated too, names of files count, and so does what is printed.
"""

import csv
import logging
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import mammogram, save
from pydicom import DataElement, Dataset, dcmread

from synthdp.data import writer
from synthdp.data.check import check_dataset
from synthdp.data.importing.dicom import run_dicom
from synthdp.data.importing.settings.dicom import DicomSettings
from synthdp.errors import InputError

DATA = Path(os.environ.get("SYNTHDP_DATA", "../shared/data")) / "tcga-ct-slices"
#: What every file has, and what says nothing of anybody.
_OF_EVERYBODY = ("SOPClassUID", "MediaStorageSOPClassUID", "TransferSyntaxUID")
_PERSONAL = ("DA", "TM", "DT", "UI", "PN", "LO", "SH", "LT", "ST", "UT", "AS")
#: A shorter value may stand among a million bytes of pixels by chance.
SHORTEST_CHARS = 6


def elements(dataset: Dataset) -> Iterator[DataElement]:
    """All elements of a data set and of the sequences in it."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)
        else:
            yield element


def secrets(path: Path) -> set[bytes]:
    """What a file says of somebody: ids, names, dates, UIDs, texts, private values, its name."""
    dataset = dcmread(path)
    found = {path.stem.encode()}
    for element in (*elements(dataset.file_meta), *elements(dataset)):
        if element.keyword in _OF_EVERYBODY or element.tag == 0x7FE00010:
            continue
        if element.tag.is_private or element.VR in _PERSONAL:
            values = element.value if element.VM > 1 else [element.value]
            for value in values:
                as_bytes = value if isinstance(value, bytes) else str(value).encode()
                found.add(as_bytes.strip(b"\0 "))
    return found


def written(root: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, PNG with their pixels inflated, and their names."""
    found = {"names": b"\n".join(str(path.relative_to(root)).encode() for path in root.rglob("*"))}
    for path in filter(Path.is_file, root.rglob("*")):
        content = path.read_bytes()
        if path.suffix == ".png":
            content += inflated(content)
        found[path.name] = content
    return found


def inflated(png: bytes) -> bytes:
    """The lines of pixels in a PNG, as they were before they were compressed."""
    at, data = 8, b""
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return zlib.decompress(data)


def found_in(root: Path, printed: str, of: Sequence[Path]) -> list[tuple[str, bytes]]:
    """The secrets of files that stand in what was written or printed, and where."""
    wanted = {secret for path in of for secret in secrets(path) if len(secret) >= SHORTEST_CHARS}
    assert len(wanted) > len(of)
    files = {**written(root), "printed": printed.encode()}
    return [(name, one) for name, content in files.items() for one in wanted if one in content]


@pytest.fixture(autouse=True)
def _no_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed key and mark: the ids and digests of new ones hold a time of six digits by chance."""
    (tmp_path / "key").write_bytes(bytes(range(32)))
    monkeypatch.setattr(writer, "new_mark", lambda: "f" * 16)


def import_printed(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], out: Path, **values: Any
) -> tuple[Path, str]:
    caplog.set_level(logging.DEBUG)
    asked = {**values, "out": out, "key": out.parent / "key"}
    root = run_dicom(DicomSettings.model_validate(asked))
    shown = capsys.readouterr()
    return root, caplog.text + shown.out + shown.err


def write_table(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with open(path, "w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def an_export(folder: Path) -> list[dict[str, str]]:
    """A hospital's export: names, dates, addresses and private values in every header."""
    folder.mkdir()
    rng, rows = np.random.default_rng(0), list[dict[str, str]]()
    for index in range(8):
        name, patient = f"DOE_JANE_{index}_19640312.dcm", f"MRN-77{index // 2:04d}"
        dataset = mammogram(
            rng.integers(0, 4096, (64, 48)).astype(np.uint16),
            PatientName=f"Doe^Jane{index}",
            PatientID=patient,
            PatientBirthDate="19640312",
            PatientAge="057Y",
            PatientAddress="1 Some Street",
            StudyDate=f"202102{index + 1:02d}",
            StudyTime="101112.123",
            AccessionNumber=f"ACC99{index:04d}",
            InstitutionName="Hospital of Doe",
            OperatorsName="Roe^Richard",
            StudyDescription="Screening of Mrs Doe",
            SOPInstanceUID=f"1.2.840.99999.1.{index}",
            StudyInstanceUID=f"1.2.840.99999.2.{index}",
            SeriesInstanceUID=f"1.2.840.99999.3.{index}",
        )
        block = dataset.private_block(0x0019, "DOE SYSTEMS", create=True)
        block.add_new(0x01, "LO", f"private of patient {index}")
        save(dataset, folder / name)
        rows.append({"file": name, "patient_id": patient, "malignant": str(index % 2)})
    return rows


def test_of_written_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "table.csv", an_export(tmp_path / "export"))
    root, printed = import_printed(
        caplog,
        capsys,
        src=tmp_path / "export",
        metadata=table,
        out=tmp_path / "set",
        split="train",
        size_px=32,
    )
    assert found_in(root, printed, sorted((tmp_path / "export").iterdir())) == []
    assert check_dataset(root).problems == ()
    assert (root / "private/key").stat().st_mode & 0o777 == 0o600


def test_of_tables_that_are_called_by_patients(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where each patient's folder holds a table of its own: rows are then counted by table."""
    folder = tmp_path / "export"
    rows = an_export(folder)
    for row in rows:
        write_table(folder / f"lesions_{row['patient_id']}_{row['file'][9]}.csv", [row])
    values = {"tables": ("lesions_*.csv",), "split": "train", "size_px": 32, "src": folder}
    root, printed = import_printed(caplog, capsys, out=tmp_path / "set", **values)
    files = sorted(folder.glob("*.dcm"))
    assert len(files) == 8
    assert found_in(root, printed, files) == []
    (folder / rows[3]["file"]).unlink()
    with pytest.raises(InputError, match="row 2 of table 4: file: the file is missing") as refused:
        run_dicom(DicomSettings.model_validate({**values, "out": tmp_path / "none"}))
    assert "MRN" not in str(refused.value)


def test_of_the_only_table_that_a_pattern_finds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the others it is one patient's, who is told no more of than beside them."""
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "export"
    row = an_export(folder)[3]
    table = folder / f"lesions_{row['patient_id']}.csv"
    table.write_text(f"{';'.join(row)}\n{';'.join(row.values())}\n")
    write_table(folder / f"scanner_{row['patient_id']}.csv", [{"name": "none", "scanner": "A"}])

    def refusal(**changes: Any) -> str:
        values = {"src": folder, "tables": ("lesions_*.csv",), "out": tmp_path / "none", **changes}
        with pytest.raises(InputError) as refused:
            run_dicom(DicomSettings.model_validate({**values, "whole_images": True}))
        return str(refused.value)

    beside = refusal(joined={"scanner_*.csv": {"on": "file"}})
    assert "table 1, joined, scanner_*.csv: it has no column 'file'" in beside
    (folder / row["file"]).unlink()
    alone = refusal()
    assert "table 1, row 2: file: the file is missing" in alone
    assert "table 1: cut at each semicolon" in caplog.text
    assert "MRN" not in beside + alone + caplog.text


@pytest.mark.parametrize("sign", [",", ";"])
def test_of_a_table_whose_first_row_is_a_patients(tmp_path: Path, sign: str) -> None:
    rows = an_export(tmp_path / "export")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(sign.join(row.values()) for row in rows))
    values = {"src": tmp_path / "export", "metadata": table, "out": tmp_path / "set"}
    with pytest.raises(InputError, match="holds values; name the columns in `header`") as refused:
        run_dicom(DicomSettings.model_validate(values))
    assert "MRN" not in str(refused.value)
    assert "DOE" not in str(refused.value)


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    an_export(tmp_path / "export")
    files = sorted((tmp_path / "export").iterdir())
    root = tmp_path / "set"
    root.mkdir()
    (root / "1.txt").write_bytes(b"... 19640312 ...")
    found = {secret for _, secret in found_in(root, "of Roe^Richard", files)}
    assert found == {b"19640312", b"Roe^Richard"}


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/tcga-ct-slices")
def test_of_a_hundred_slices_of_an_archive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dates and private elements stand in all of them, and ages in their names."""
    with open(DATA / "metadata.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    by_uid = {str(dcmread(DATA / row["image"]).SOPInstanceUID): row for row in rows}
    assert len(by_uid) == 95  # five slices stand there twice
    root, printed = import_printed(
        caplog,
        capsys,
        src=DATA,
        metadata=write_table(tmp_path / "table.csv", list(by_uid.values())),
        file_column="image",
        targets=("contrast",),
        out=tmp_path / "set",
        val_fraction=0.2,
        size_px=32,  # the search of larger ones takes longer, and no more of a header is in them
    )
    assert found_in(root, printed, [DATA / row["image"] for row in rows]) == []
    texts = [path for path in root.rglob("*") if path.suffix in (".csv", ".json", ".jsonl")]
    ages = {row["age"] for row in rows}
    assert not [age for path in texts for age in ages if age in path.read_text()]
    with open(root / "manifest.csv", newline="") as stream:
        made = list(csv.DictReader(stream))
    assert {row["image"] for row in made} == {f"images/{n:06d}.png" for n in range(1, 96)}
    assert all(re.fullmatch(r"patient-[0-9a-f]{24}", row["patient_id"]) for row in made)
    empty = {"laterality", "view"}  # columns all the same: who fills one may not be told by it
    assert set(made[0]) == {"image", "patient_id", "split", "contrast", "sex", *empty}
    assert {row[name] for row in made for name in empty} == {""}
