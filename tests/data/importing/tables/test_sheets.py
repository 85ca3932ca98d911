"""Tables as hospitals, spreadsheets and programs write them."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synthdp.data.importing.tables.sheets import Sheet, SheetForm, is_encoding, read_sheet, trimmed

WANTED = (("file", "image"), ("patient_id",))
PLAIN = {"file": "a.png", "patient_id": "1", "note": "x"}


def read(tmp_path: Path, content: bytes | str, **form: object) -> Sheet:
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_sheet(path, SheetForm(**form), wanted=WANTED)  # type: ignore[arg-type]


def problem(tmp_path: Path, content: bytes | str, **form: object) -> str:
    sheet = read(tmp_path, content, **form)
    assert len(sheet.problems) == 1
    return sheet.problems[0]


TABLE = "file,patient_id,note\na.png,1,x\n"


@pytest.mark.parametrize(
    ("content", "row", "said"),
    [
        (TABLE, 2, ""),
        (TABLE.replace(",", ";"), 2, "cut at each semicolon"),
        (TABLE.replace(",", "\t"), 2, "cut at each tab"),
        (TABLE.replace(",", "|"), 2, "cut at each pipe"),
        (TABLE.replace("\n", "\r\n"), 2, ""),
        (TABLE.replace("\n", "\r"), 2, ""),
        (TABLE.encode("utf-8-sig"), 2, ""),
        (TABLE.encode("utf-16"), 2, "encoding UTF-16"),
        (b"\xfe\xff" + TABLE.encode("utf-16-be"), 2, "encoding UTF-16"),
        (TABLE.encode("utf-32"), 2, "encoding UTF-32"),
        (f"sep=;\n{TABLE.replace(',', ';')}", 2, "cut at each semicolon"),
        (f"Export of a PACS;2020\n\n{TABLE}", 4, "header in row 3"),
        (TABLE.replace("\n", ",\n"), 2, ""),
        (TABLE.replace("x\n", "x,,,\n"), 2, ""),
        (TABLE.replace("note\n", "note,,\n").replace("x\n", "x,,\n"), 2, ""),
        (TABLE.replace("\na", "\n,,\n\n ,\t,\n\u00a0,,\na"), 6, ""),
        ("file ,\ufeffpatient_id, note\n a.png\t,1 , x\u00a0\n", 2, ""),
        ('"file","patient_id","note"\n"a.png","1","x"\n', 2, ""),
        ("'=file,patient_id,note\na.png,1,x\n".replace("'=", ""), 2, ""),
    ],
)
def test_a_table_is_read_as_it_was_meant(
    tmp_path: Path, content: bytes | str, row: int, said: str
) -> None:
    sheet = read(tmp_path, content)
    assert sheet.problems == ()
    assert dict(sheet.records) == {row: PLAIN}
    assert sheet.said == said


def test_a_first_column_without_a_name_is_an_index(tmp_path: Path) -> None:
    sheet = read(tmp_path, ",file,patient_id\n0,a.png,1\n")
    assert sheet.columns == ("column 1", "file", "patient_id")
    assert sheet.records[2]["file"] == "a.png"


def test_quoted_line_ends_and_delimiters_are_text(tmp_path: Path) -> None:
    sheet = read(tmp_path, 'file,patient_id\n"a\r\nb",",;"\n"c ""d""",2\n')
    assert sheet.records == {
        2: {"file": "a\r\nb", "patient_id": ",;"},
        3: {"file": 'c "d"', "patient_id": "2"},
    }


def test_the_header_decides_where_rows_are_cut(tmp_path: Path) -> None:
    """Decimal commas stand in every row of a table that is cut at semicolons."""
    sheet = read(tmp_path, "file;patient_id;x;y\na.png;1;1,5;2,5\n")
    assert sheet.records[2] == {"file": "a.png", "patient_id": "1", "x": "1,5", "y": "2,5"}


def test_windows_1252_is_found_and_said(tmp_path: Path) -> None:
    sheet = read(tmp_path, "file,patient_id\na.png,M\xfcller \x80\n".encode("latin-1"))
    assert sheet.records[2]["patient_id"] == "Müller \u20ac"
    assert sheet.said == "encoding Windows-1252"
    sheet = read(
        tmp_path, "file,patient_id\na.png,岡田\n".encode("shift_jis"), encoding="shift_jis"
    )
    assert sheet.records[2]["patient_id"] == "岡田"
    assert sheet.said == "encoding SHIFT_JIS"


def test_blanks_cut_and_a_header_is_given(tmp_path: Path) -> None:
    sheet = read(
        tmp_path,
        "m1 G  CIRC B 5 4 1\nm2 D NORM\n\n",
        delimiter="whitespace",
        header=("file", "tissue", "kind", "severity", "x", "y", "radius"),
    )
    assert [*sheet.records[1].values()] == ["m1", "G", "CIRC", "B", "5", "4", "1"]
    assert [*sheet.records[2].values()] == ["m2", "D", "NORM", "", "", "", ""]


def test_cells_that_a_spreadsheet_left_out_are_empty_where_that_is_said(tmp_path: Path) -> None:
    table = "file,patient_id,note\na.png,1\n"
    assert "row 2: has 2 cells, fewer than the 3 columns" in problem(tmp_path, table)
    assert read(tmp_path, table, short_rows="blank").records[2]["note"] == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04rest of an .xlsx", "save the sheet as CSV (UTF-8)"),
        (b"\xd0\xcf\x11\xe0rest of an .xls", "save the sheet as CSV (UTF-8)"),
        (b"\x1f\x8brest", "damaged where gzip packed it"),
        (b"BZhrest", "unpack it first"),
        (b"PAR1rest", "export it as CSV (UTF-8)"),
        (b"\n<!DOCTYPE html><html>Log in</html>", "a web page, not a table"),
        (TABLE.encode("utf-16-le"), "set encoding=utf-16-le or utf-16-be"),
        (b"file,patient_id\na.png,\x81\n", "row 2: not readable as Windows-1252; nor as UTF-8"),
        (TABLE.encode("utf-16")[:-1], "row 2: not readable as utf-16"),
        (b"file,patient_id\na,b\0c\n", "row 2: holds a NUL character"),
        (b"file,patient_id\n", "holds no rows"),
        (b"", "holds no rows"),
        (b"\n\n\n", "holds no rows"),
        (b"file,patient_id\na.png,1,2\nb.png,1,2\n", "every row has one cell more than the header"),
        (b"file,patient_id\na.png,1\na,1,2\n", "row 3: has 3 cells, more than the 2 columns"),
        (b'file,patient_id\na.png,1\n"a,1\nb,2\n', "row 3: a quote is not closed"),
        (b"file,patient_id\n" + b"x" * 131_073 + b",1\n", "row 2: a cell of more than 131,072"),
    ],
)
def test_what_cannot_be_read_as_meant_is_refused_with_the_mend(
    tmp_path: Path, content: bytes, said: str
) -> None:
    assert said in problem(tmp_path, content)


def test_mixed_encodings_are_refused_by_row(tmp_path: Path) -> None:
    rows = [b"file,patient_id", "a,Jos\u00e9".encode(), b'"b\nb",Jos\xe9', b"c,Ann"]
    said = problem(tmp_path, b"\n".join([*rows, "d,\u00e9".encode("latin-1")]))
    assert "row(s) 3, 5: not UTF-8, while other rows are" in said
    assert "Jos" not in said
    assert "row(s) 3: not UTF-8" in problem(tmp_path, b"\n".join([rows[0], rows[1], b'"x\xe9,1']))


def test_rows_above_the_header_are_not_dropped_unseen(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Export of us,,\n\n0.png,A,1\nfile,patient,label\n1.png,B,0\n")
    sheet = read_sheet(path, wanted=(("file",), ("patient",)))
    assert sheet.problems == (
        "row 3: stands above the header (row 4) and is as full; take it away, or put it below "
        "where it is of an image",
    )


def test_two_columns_of_one_name_are_told(tmp_path: Path) -> None:
    sheet = read(tmp_path, "file,note,file ,note\na.png,1,b.png,2\n")
    assert sheet.repeated == {"file", "note"}
    assert sheet.records[2] == {"file": "a.png", "note": "1"}


def test_a_table_that_is_missing_or_too_long_is_said(tmp_path: Path) -> None:
    assert read_sheet(tmp_path / "none.csv").problems == ("missing; correct the path",)
    many = "file,patient_id\n" + "1\n" * 500
    assert read(tmp_path, many).problems[-1].startswith("so many rows are torn")
    wide = ",".join(map(str, range(1001)))
    assert read(tmp_path, f"{wide}\n").problems == ("more than 1000 columns",)


def test_names_of_encodings_are_known() -> None:
    assert is_encoding("latin-1")
    assert not is_encoding("rot13")
    assert not is_encoding("no such")
    assert not is_encoding("")


CELLS = st.text(st.characters(codec="utf-8"), max_size=6)
TEXTS = st.one_of(
    st.binary(max_size=200),
    st.text(st.sampled_from("a,;\t|\n\r\"' \0\ufeffé1=-"), max_size=60).map(str.encode),
    st.lists(
        st.sampled_from([b"file", b"patient_id", b",", b"\n", b'"', b"\xe9", b"\xc3\xa9"])
    ).map(b"".join),
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(TEXTS, st.sampled_from(["auto", "semicolon", "whitespace"]))
@example(b"\xff\xfe\x00", "auto")
@example(b"sep=", "auto")
@example(b'"', "auto")
@example(b"\xef\xbb\xbf", "auto")
def test_no_bytes_break_the_reader(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, delimiter: str
) -> None:
    """Whatever stands in a file is a table or a problem, and every record has every column."""
    sheet = read(tmp_path_factory.getbasetemp(), content, delimiter=delimiter)
    assert sheet.records or sheet.problems
    for record in sheet.records.values():
        assert set(record) == set(sheet.columns)
        assert any(record.values())
        assert all(cell == trimmed(cell) for cell in record.values())


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_program_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    sign: str,
    encoding: str,
    end: str,
) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=sign, lineterminator=end)
    writer.writerows([("file", "patient_id"), *rows])
    sheet = read(tmp_path_factory.getbasetemp(), stream.getvalue().encode(encoding))
    torn = [(a, b) for a, b in rows if "\0" in a + b]
    kept = [(trimmed(a), trimmed(b)) for a, b in rows if (a, b) not in torn]
    assert [(r["file"], r["patient_id"]) for r in sheet.records.values()] == [
        row for row in kept if any(row)
    ]
