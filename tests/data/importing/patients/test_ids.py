"""Who is one person: spellings of ids that are one, that are none, and that someone must judge."""

import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.patients.ids import alike_ids, id_problem, normalised_id
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.errors import InputError
from synthdp.storage.files import read_json

Pixels = NDArray[np.uint8]
Texture = Callable[..., Pixels]
MakeFolder = Callable[[Mapping[str, Pixels | bytes]], Path]
Import = Callable[..., Dataset]


@pytest.fixture
def imported(make_folder: MakeFolder, texture: Texture, tmp_path: Path) -> Import:
    """Imports a table of one image for each id, of both classes in turn."""

    def run(ids: list[str], *, links: str = "", **changes: object) -> Dataset:
        files: dict[str, Pixels | bytes] = {f"{i}.png": texture(i) for i in range(len(ids))}
        rows = [f'{i}.png,"{one}",{i % 2}\n' for i, one in enumerate(ids)]
        files["metadata.csv"] = ("file,patient_id,malignant\n" + "".join(rows)).encode()
        src = make_folder(files)
        (tmp_path / "key").write_bytes(bytes(32))
        values = {"src": src, "out": tmp_path / "set", "name": "t", "key": tmp_path / "key"}
        if links:
            (tmp_path / "links.csv").write_text("patient_id,person\n" + links)
            values["links"] = tmp_path / "links.csv"
        return open_dataset(run_patches(PatchesSettings.model_validate(values | changes)))

    return run


@pytest.mark.parametrize(
    "others",
    [
        ["Zoë", unicodedata.normalize("NFD", "Zoë")],
        ["7", " 7", "7\t", "\u00a07\u00a0", "\u200b7", "\ufeff7", "7\u200e", "7\u3000", "7\n"],
        ["한국", unicodedata.normalize("NFD", "한국")],
        ["пациент 1", "пациент 1 "],
    ],
)
def test_spellings_of_one_id_are_one_patient(imported: Import, others: list[str]) -> None:
    dataset = imported([*others, "else"])
    assert len({row.patient_id for row in dataset.rows}) == 2
    assert len({row.patient_id for row in dataset.rows[:-1]}) == 1


def test_they_are_one_in_names_too(make_folder: MakeFolder, texture: Texture) -> None:
    names = ("Zoë", unicodedata.normalize("NFD", "Zoë"), "Zoë ")
    src = make_folder({f"benign/{one}_{i}.png": texture(i) for i, one in enumerate(names)})
    values = {"src": src, "out": src.parent / "set", "name": "t", "patient_pattern": r"/(.*)_\d"}
    dataset = open_dataset(run_patches(PatchesSettings.model_validate(values)))
    assert len({row.patient_id for row in dataset.rows}) == 1


def test_links_and_splits_take_the_same_spelling(imported: Import) -> None:
    written, read = "Zoë", unicodedata.normalize("NFD", "Zoë")
    dataset = imported([read, "A", "B", "C"], links=f"{written} ,A\nA,A\n", val_fraction=0.5)
    assert [row.patient_id for row in dataset.rows] == ["A", "A", "B", "C"]


def test_the_split_of_a_clean_id_is_what_it_was(imported: Import) -> None:
    """Before ids were normalised, under the same key: cohorts and splits stay."""
    dataset = imported(["P1", "P2", "P3", "P4", "Ada L"], val_fraction=0.5)
    assert {row.patient_id: row.split for row in dataset.rows} == {
        **{"P1": "train", "P2": "val", "P3": "train", "P4": "train"},
        "patient-28b3248f78d0ed6efc6ad229": "train",
    }


@pytest.mark.parametrize(
    "word",
    [
        *("", "  ", "nan", "NaN", "N/A", "NA", "n.a.", "None", "none", "null", "NULL", "#N/A", "-"),
        *("--", "?", "unknown", "Unknown ", "<NA>", "NaT", "nil", "missing", "\\N", "\u2014"),
        *("not available", "Not Applicable", "#REF!", "ANONYMOUS", "anonymized", "undefined"),
        *('"', "''", "\u3003", "ditto", "idem"),
        *(
            "\u200b",
            "\u00a0",
            "\uff2e\uff21",
            "-1",
            "unbekannt",
            "неизвестно",
            "(null)",
            "#WERT!",
            ".",
        ),
    ],
)
def test_words_for_nothing_are_nobody(word: str) -> None:
    assert normalised_id(word) is None
    assert "no patient is given" in str(id_problem(word))


@pytest.mark.parametrize(
    "one", ["0", "1", "NA1", "nana", "Nanette", "x", "N", "A/1", "P-1", "nan-1", "None Smith"]
)
def test_ids_that_hold_such_a_word_are_ids(one: str) -> None:
    assert normalised_id(one) == one
    assert id_problem(one) is None


def test_words_for_nothing_are_refused_by_row_or_left_out(
    imported: Import, caplog: pytest.LogCaptureFixture
) -> None:
    ids = ["A", "nan", "B", "N/A", "C", ""]
    with pytest.raises(InputError) as error:
        imported(ids)
    for row in (3, 5, 7):
        assert f"metadata.csv, row {row}: patient_id: no patient is given" in str(error.value)
    with caplog.at_level("INFO"):
        dataset = imported(ids, leave_out=("no_patient",))
    assert [row.patient_id for row in dataset.rows] == ["A", "B", "C"]
    assert "left out: 3 row(s) without a patient (3, 5, 7)" in caplog.text
    note = read_json(dataset.private / "import.json")
    assert note["left_out_rows"] == {"no_patient": [3, 5, 7]}


def test_words_for_nothing_in_links_are_refused(imported: Import) -> None:
    with pytest.raises(InputError) as error:
        imported(["A", "B"], links="A,nan\nN/A,B\n")
    for row in (2, 3):
        assert f"row {row}: patient_id or person is empty, or a word for nothing" in str(
            error.value
        )


def test_numbers_that_a_spreadsheet_shortened_are_refused(imported: Import) -> None:
    """Several long numbers have become one."""
    with pytest.raises(InputError) as error:
        imported(["1.23457E+15", "12345678901234567", "1.23457e+15", "1E+15"])
    for row in (2, 4, 5):
        assert f"row {row}: patient_id: the id is a number that a spreadsheet" in str(error.value)
    assert "row 3" not in str(error.value)
    assert id_problem("1e345678") is None  # eight digits of a hash


@pytest.mark.parametrize("one", ["02-Jan", "2. Mrz", "Mar-05", "05-Okt", "########"])
def test_ids_that_a_spreadsheet_made_dates_of_are_refused(imported: Import, one: str) -> None:
    """1-2, 01/02 and 2-Jan have become one."""
    with pytest.raises(InputError, match="row 3: patient_id: the id is what a spreadsheet makes"):
        imported(["P1", one])


@pytest.mark.parametrize("one", ["Jan", "5-Janssen", "MAR5", "A-Mar-05", "1-2", "#7"])
def test_ids_that_hold_a_month_are_ids(one: str) -> None:
    assert id_problem(one) is None


@pytest.mark.parametrize(
    "ids",
    [
        ["1001", "1001.0"],
        ["1001", "01001"],
        ["1001", "1.001e3"],
        ["1001", "1001,0", "+1001"],
        ["\u0661\u0660\u0660\u0661", "1001"],
        ["\uff11\uff10\uff10\uff11", "1001"],
        ["12345678901234567890123", "12345678901234567890123.0"],
        ["0", "0.0", "-0"],
        ["P01", "p01"],
        ["P01", "\u042001"],
        ["MB7", "\u039c\u03927"],
        ["P01", "P1"],
        ["P 01", "P01"],
        ["P\u200b01", "P01"],
        ["P\u201301", "P-01"],
        ["Ⅳ", "IV"],
        ["STRASSE", "Straße"],
        ["'007", "007"],
        ['=""007""', "007"],
    ],
)
def test_ids_that_differ_as_spellings_do_are_a_finding(imported: Import, ids: list[str]) -> None:
    with pytest.raises(InputError) as error:
        imported(["else", *ids, "other"])
    rows = ", ".join(str(number) for number in range(3, 3 + len(ids)))
    assert f"metadata.csv, row {rows}: the ids" in str(error.value)
    assert "give each of them a row in `links`" in str(error.value)
    assert not any(len(one) > 2 and one in str(error.value).split("(as")[0] for one in ids)


@pytest.mark.parametrize(
    "ids",
    [
        ["1", "10", "100"],
        ["1 11", "11 1"],
        ["1-11", "11-1"],
        ["12345678901234567890123", "12345678901234567890124"],
        ["P1", "P2", "Q1"],
        ["-1.5", "1.5"],
        ["a0b", "ab"],
    ],
)
def test_ids_that_differ_otherwise_are_none(ids: list[str]) -> None:
    assert alike_ids({one: number for number, one in enumerate(ids)}) == []


def test_links_settle_who_is_meant(imported: Import) -> None:
    ids = ["1001", "1001.0", "1001", "A"]
    with pytest.raises(InputError, match="equal as numbers"):
        imported(ids, links="1001,1001\n")
    apart = imported(ids, links="1001,1001\n1001.0,another\n")
    assert len({row.patient_id for row in apart.rows}) == 3


def test_ids_of_site_and_number_are_declared_distinct_at_once(imported: Import) -> None:
    """1.1, 1.10 and 1.100 are three patients of one site; thousands need no row each."""
    ids = ["1.1", "1.10", "1.100", "01.1", "A1", "a1"]
    with pytest.raises(InputError, match="set alike_ids=distinct"):
        imported(ids)
    dataset = imported(ids, alike_ids="distinct")
    assert len({row.patient_id for row in dataset.rows}) == len(ids)


@pytest.mark.parametrize("links", ["P01,anna\nP2,anna\n", "p1,anna\np2,anna\n"])
def test_links_that_spell_an_id_otherwise_are_refused(imported: Import, links: str) -> None:
    with pytest.raises(InputError, match=r"links: [12] id\(s\) are spelled otherwise"):
        imported(["P1", "P2", "P3"], links=links)


def test_ids_of_links_without_images_are_counted(
    imported: Import, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        imported(["P1", "P2", "P3"], links="P1,anna\nP2,anna\nQ7,anna\n")
    assert "links: 1 of 3 ids are of no image here" in caplog.text


def test_links_make_them_one(imported: Import) -> None:
    one = imported(["1001", "1001.0", "A"], links="1001,1001\n1001.0,1001\n")
    assert len({row.patient_id for row in one.rows}) == 2


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text(max_size=12), st.text(alphabet=" \t\n\u00a0\u200b\ufeff", max_size=3))
@example("\u0344", " ")
@example("e\u0301", "")
@example("\u200bnan", "")
def test_normalising_twice_changes_nothing(text: str, blanks: str) -> None:
    one = normalised_id(blanks + text + blanks)
    assert one == normalised_id(text)
    assert one is None or normalised_id(one) == one
    if one is not None:
        assert alike_ids({one: 1, unicodedata.normalize("NFD", one): 2}) != [] or (
            unicodedata.is_normalized("NFD", one)
        )
