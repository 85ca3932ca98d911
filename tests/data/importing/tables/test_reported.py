"""Lists of words, dates and several readers become columns and rows; packed tables are unpacked."""

import gzip
from pathlib import Path

import pytest

from synthdp.data.importing.folders.folder import FilesBelow, files_fitting
from synthdp.data.importing.tables import sheets
from synthdp.data.importing.tables.reported import listed_words
from synthdp.data.importing.tables.sheets import read_sheet
from synthdp.data.people.ages import age_in_years, years_between


@pytest.mark.parametrize(
    ("text", "separator", "words"),
    [
        ("Effusion|Mass", "|", ["Effusion", "Mass"]),
        ("['normal']", ",", ["normal"]),
        ("['edema', ' pleural effusion', '', \"x\"]", ",", ["edema", "pleural effusion", "x"]),
        ("['']", ",", []),
        ("", "|", []),
        ("nan", "|", []),
    ],
)
def test_words_of_a_list(text: str, separator: str, words: list[str]) -> None:
    assert listed_words(text, separator) == words


@pytest.mark.parametrize(
    ("born", "taken", "years"),
    [
        ("1930.0", "20140915", 84),
        ("1930", "2014", 84),
        ("1930-05-11", "2014-09-15", 84),
        ("", "20140915", None),
        ("nan", "20140915", None),
        ("30", "20140915", None),
        ("1930.5", "20140915", None),
    ],
)
def test_years_between_two_dates(born: str, taken: str, years: int | None) -> None:
    assert years_between(born, taken) == years


@pytest.mark.parametrize(
    ("age", "least", "written"),
    [
        *(("045Y", 0, "45"), ("018M", 0, "1"), ("61.5", 0, "61.5"), ("95", 0, "90")),
        *(("0", 0, "0"), ("0", 1, ""), ("011M", 1, ""), ("-1", 0, ""), ("155", 0, "")),
        *(("120", 0, "90"), ("121Y", 0, ""), ("", 0, ""), ("old", 0, "old"), ("nan", 0, "nan")),
    ],
)
def test_ages_that_a_set_may_hold(age: str, least: int, written: str) -> None:
    assert age_in_years(age, least=least) == written


def test_a_packed_table_is_read_in_all_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n"))
    assert list(read_sheet(path).records.values()) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(b"a,b\n1,2\n")[:-6], "ends before gzip's end"),
        (b"\x1f\x8b" + bytes(40), "damaged where gzip packed it"),
        (gzip.compress(b"PK\x03\x04 a workbook"), "a workbook"),
        (gzip.compress(b"a,b\n" + b"1,2\n" * 3000), "larger than"),
    ],
    ids=["cut", "zeros", "workbook", "large"],  # packed bytes hold the time: names must not
)
def test_a_packed_table_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str
) -> None:
    monkeypatch.setattr(sheets, "MAX_TABLE_BYTES", 4096)
    path = tmp_path / "table.csv.gz"
    path.write_bytes(content)
    (problem,) = read_sheet(path).problems
    assert said in problem


@pytest.mark.parametrize(
    "pattern",
    [
        *("**/images/1.png", "*/images/1.png", "images_*/*/1.png", "images_001/images/1.png"),
        *("**/1.png", "*.png", "images_00[12]/images/1.png", "**/a[[]b].png", "none/1.png"),
    ],
)
def test_files_by_their_names_are_those_that_a_pattern_finds(tmp_path: Path, pattern: str) -> None:
    for name in (
        *("images_001/images/1.png", "images_002/images/1.png", "images/1.png", "1.png"),
        *("a/b/images/1.png", ".hidden/images/1.png", "__MACOSX/images/1.png", "x/a[b].png"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert FilesBelow(tmp_path).fitting(pattern) == files_fitting(tmp_path, pattern)
    (tmp_path / "linked").symlink_to(tmp_path / "images_001")
    assert FilesBelow(tmp_path).fitting(pattern) == files_fitting(tmp_path, pattern)
