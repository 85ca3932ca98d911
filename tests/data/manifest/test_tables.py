import csv
import io
import re
from pathlib import Path

import pytest

from synthdp.data.manifest.tables import MAX_COLUMNS, csv_text, read_table

FORMULAS = [
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://x")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t1",
    " =1+1",
    "\N{FULLWIDTH EQUALS SIGN}1",
    "-A1",
    "-",
]
HARMLESS = ["", "-1", "+2.5", "-1e-05", "-inf", "1", "a=b", "images/=x.png", "'quoted'", "it's"]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("text", [*FORMULAS, "'=1", "''=1", "'\t"])
def test_a_formula_is_written_as_text_and_read_back_as_it_was(tmp_path: Path, text: str) -> None:
    table = csv_text(["image", text], [["a.png", text], [text, 1]])
    cells = [cell for row in csv.reader(io.StringIO(table, newline="")) for cell in row]
    assert cells.count(f"'{text}") == 3
    read = read_table(written(tmp_path, table))
    assert read.columns == ("image", text)
    assert [*read.records.values()] == [
        {"image": "a.png", text: text},
        {"image": text, text: "1"},
    ]


@pytest.mark.parametrize("cut", [";", "\t", "\n", ";\t", ";;", "; "])
@pytest.mark.parametrize("text", ["=1+1", "\t=1", "+A1", "-A1", "@SUM(A1)", " =1", "'=1", "''-"])
def test_no_formula_stands_where_a_spreadsheet_may_cut_a_line(
    tmp_path: Path, text: str, cut: str
) -> None:
    """Where the comma is for decimals, a table is cut at semicolons, quoted or not."""
    cell = f"a{cut}{text}{cut}{text}, b"
    table = csv_text(["a", "b"], [[cell, cell]])
    parts = [part.strip(' "') for part in re.split(r"[;\t\n,]", table)]
    assert not [part for part in parts if part.startswith(("=", "+", "-", "@"))]
    assert read_table(written(tmp_path, table)).records[2] == {"a": cell, "b": cell}


def test_a_carriage_return_begins_no_row(tmp_path: Path) -> None:
    read = read_table(written(tmp_path, csv_text(["a"], [["x\r=1"], ["\r=1"]])))
    assert [*read.records.values()] == [{"a": "x =1"}, {"a": " =1"}]


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_and_numbers_stay_as_they_are(tmp_path: Path, text: str) -> None:
    table = csv_text(["a", "b"], [[text, -1.5]])
    assert next(csv.reader(io.StringIO(table.split("\n", 1)[1], newline=""))) == [text, "-1.5"]
    assert read_table(written(tmp_path, table)).records[2] == {"a": text, "b": "-1.5"}


def test_a_table_from_before_is_read_as_it_stands(tmp_path: Path) -> None:
    assert read_table(written(tmp_path, "a\n=1\n")).records[2] == {"a": "=1"}


def test_a_wide_header_over_many_short_rows_takes_little(tmp_path: Path) -> None:
    header = ",".join(str(number) for number in range(MAX_COLUMNS))
    read = read_table(written(tmp_path, f"{header}\n" + "1,2\n" * 500_000))
    assert len(read.problems) == 51
    assert read.problems[-1] == "so many rows are torn that the rest was not read"
    more = read_table(written(tmp_path, f"{header},more\n"))
    assert more.problems == (f"more than {MAX_COLUMNS} columns",)


def test_rows_are_numbered_as_in_a_spreadsheet_where_lines_are_empty(tmp_path: Path) -> None:
    read = read_table(written(tmp_path, "a,b\n\n1,2\n\n\n3\n"))
    assert dict(read.records) == {3: {"a": "1", "b": "2"}}
    assert read.problems == ("row 6: has more or fewer cells than the header",)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ('"x,1\ny,2\nz,3\n', "row 3: a quote is not closed, or text stands behind a closing one"),
        ('"x"y,1\n', "row 3: a quote is not closed, or text stands behind a closing one"),
        (f"{'x' * 131_073},1\n", "row 3: a cell of more than 131,072 characters, or a quote that"),
        (f'"{"x" * 131_073}\n', "row 3: a cell of more than 131,072 characters, or a quote that"),
    ],
)
def test_an_open_quote_swallows_no_rows(tmp_path: Path, rows: str, problem: str) -> None:
    read = read_table(written(tmp_path, f"a,b\n0,0\n{rows}"))
    assert len(read.problems) == 1
    assert read.problems[0].startswith(problem)
