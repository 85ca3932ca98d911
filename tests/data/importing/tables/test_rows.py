"""What rows of tables tell, however people write them, and what is refused."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from made_up_collections import noise
from pydantic import ValidationError

from synthdp.data.images import encode_png
from synthdp.data.importing.listing import Listing, list_patches
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.tables.cells import find_cell, find_column, number_text
from synthdp.errors import InputError


@pytest.fixture
def src(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    for name in ("a.png", "sub/b.png", "sub/c d.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(noise(len(name))))
    return folder


def listing(src: Path, rows: Sequence[Sequence[str]], **values: object) -> Listing:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    (src / "metadata.csv").write_text(stream.getvalue(), encoding="utf-8", newline="")
    return list_patches(ListingSettings.model_validate({"src": src, **values}))


def test_columns_are_found_by_name_spelling_and_synonym() -> None:
    columns = ("Patient ID", "file_name", "View", "view")
    assert find_column(["patient_id"], columns) == "Patient ID"
    assert find_column(["none", "FileName"], columns) == "file_name"
    assert find_column(["view"], columns) == "view", "the very name comes first"
    assert find_column(["VIEW"], columns) is None, "two columns may be meant"
    cell = find_cell("{Patient ID}/{name|file_name}.png", columns)
    assert cell is not None
    assert cell.text({"Patient ID": "7", "file_name": "x"}) == "7/x.png"
    assert cell.text({"Patient ID": "", "file_name": "x"}) == ""
    assert find_cell("{nobody}.png", columns) is None


@pytest.mark.parametrize(
    ("cell", "decimal", "number"),
    [
        ("12,5", "auto", "12.5"),
        ("12.5", "auto", "12.5"),
        ("-0,25", "auto", "-0.25"),
        (",5", "auto", ".5"),
        ("1234,5", "auto", "1234.5"),
        ("1,234", "comma", "1.234"),
        ("1.234,5", "comma", "1234.5"),
        ("1,234", "point", "1234"),
        ("1,234.5", "point", "1234.5"),
        ("12,5", "point", "12,5"),
        ("a,b", "auto", "a,b"),
        ("1,2,3", "auto", "1,2,3"),
    ],
)
def test_a_comma_is_for_decimals_where_it_can_be(cell: str, decimal: str, number: str) -> None:
    assert number_text(cell, decimal) == number  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", ["1,234", "-12,345", "1,234,567"])
def test_a_comma_that_may_be_for_thousands_is_asked_about(cell: str) -> None:
    with pytest.raises(ValueError, match="set decimal"):
        number_text(cell, "auto")


def test_files_are_called_as_windows_and_notebooks_call_them(src: Path) -> None:
    rows = [
        ["file", "patient_id", "malignant"],
        ["sub\\b.png", "1", "1"],
        [str(src.resolve() / "a.png"), "2", "0"],
        [" .\\sub\\c d.png ", "3", "0"],
    ]
    found = listing(src, rows)
    assert found.problems == ()
    assert [patch.path.relative_to(src).as_posix() for patch in found.patches] == [
        "sub/b.png",
        "a.png",
        "sub/c d.png",
    ]


def test_letters_composed_or_not_name_the_same_file(src: Path) -> None:
    (src / "e\u0301.png").write_bytes(encode_png(noise(1)))
    (src / "\u00fc.png").write_bytes(encode_png(noise(2)))
    rows = [
        ["file", "patient_id", "malignant"],
        ["\u00e9.png", "1", "1"],
        ["u\u0308.png", "2", "0"],
    ]
    found = listing(src, rows)
    assert found.problems == ()
    assert len({patch.path for patch in found.patches}) == 2


def test_all_that_leads_elsewhere_is_refused_by_row(src: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(encode_png(noise(3)))
    os.symlink(tmp_path / "secret.png", src / "link.png")
    os.symlink(tmp_path, src / "folder")
    names = [
        "../secret.png",
        "..\\other-secret.png",
        "link.png",
        "folder/secret.png",
        "/etc/passwd",
    ]
    names += ["C:\\data\\secret.png", "\\\\server\\secret.png", "sub/../../secret.png"]
    rows = [[name, str(index), "1"] for index, name in enumerate(names)]
    found = listing(src, [["file", "patient_id", "malignant"], *rows])
    assert len(found.problems) == len(names)
    for number, problem in enumerate(found.problems, start=2):
        assert problem.startswith(f"metadata.csv, row {number}: file: the path leads outside")
        assert "secret" not in problem
    by_pattern = listing(
        src, [["file", "patient_id", "malignant"], *rows], file_column="{file}*", leave_out=()
    )
    assert by_pattern.patches == ()
    assert len(by_pattern.problems) == len(names)
    assert "secret" not in str(by_pattern.problems)


def test_rows_that_disagree_about_one_image_are_refused(src: Path) -> None:
    rows = [
        ["file", "patient_id", "malignant", "laterality", "view"],
        ["a.png", "1", "1", "L", "CC"],
        ["sub/../a.png", "1", "1", "L", "CC"],
        ["a.png", "1", "1", "L", "CC"],
        ["a.png", "2", "0", "R", "cc"],
        ["none.png", "2", "0", "R", "cc"],
    ]
    found = listing(src, rows)
    assert list(found.problems) == [
        "metadata.csv, row 3: file: the path leads outside the folder",
        "metadata.csv, row 4: file: the same file as row 2",
        "metadata.csv, row 5: file: the same file as row 2",
        "metadata.csv, row 5: file: row 2 gives the same file to another patient",
        "metadata.csv, row 5: laterality: row 2 gives the same file another one; an image has one",
        "metadata.csv, row 6: file: the file is missing",
    ]


def test_words_for_nothing_and_rows_to_take_are_settings(src: Path) -> None:
    rows = [
        ["file", "patient_id", "malignant", "age", "kind"],
        ["a.png", "1", "-9", "-9.0", "mass"],
        ["sub/b.png", "2", "1", "61,5", "Mass "],
        ["sub/c d.png", "3", "1", "70", "calc"],
    ]
    found = listing(src, rows, unknown=[-9], only={"kind": ["mass"]})
    assert found.problems == ()
    assert [patch.attributes["age"] for patch in found.patches] == ["", "61.5"]
    assert str(found.patches[0].targets) == "(nan,)"
    assert found.left_out["rows that `only` leaves aside"] == 1


@pytest.mark.parametrize("gone", range(6))
def test_nobody_changes_how_another_row_is_read(src: Path, gone: int) -> None:
    """Each patient of a table in turn leaves, who alone has what might tell how it is written."""
    lines = [
        "Export 2020;;;;;",
        "file;patient_id;malignant;laterality;age;note",
        "a.png;M\u00fcller;1;L;61,5;x",  # alone not ASCII
        "sub/b.png;2;0;R;61.5;a,b,c,d,e,f,g",  # more commas than semicolons
        "sub/c d.png;3;;;;;;;",  # ends in delimiters
        "1.png;file;0;L;1,234;file\tpatient_id\tmalignant",  # its words are those of the header
        "2.png;5;1;L;\u201c;",
        '3.png;6;1;L;70;"two\nlines"',
    ]
    for name in ("1", "2", "3"):
        (src / f"{name}.png").write_bytes(encode_png(noise(int(name))))

    def told(rows: list[str]) -> list[tuple[object, ...]]:
        (src / "metadata.csv").write_bytes("\n".join([*lines[:2], *rows]).encode("cp1252"))
        found = list_patches(ListingSettings(src=src))
        assert found.problems == ()
        return [
            (patch.path.name, patch.patient, str(patch.targets), *patch.attributes.items())
            for patch in found.patches
        ]

    everyone = told(lines[2:])
    assert len(everyone) == 6
    others = [row for index, row in enumerate(lines[2:]) if index != gone]
    assert told(others) == [row for index, row in enumerate(everyone) if index != gone]


def test_a_column_that_is_asked_for_and_stands_twice_is_refused(src: Path) -> None:
    rows = [["file", "patient_id", "malignant", "note", "note"], ["a.png", "1", "1", "x", "y"]]
    assert listing(src, rows).problems == ()
    rows[0][3:] = ["malignant ", "file"]
    problems = listing(src, rows, target_columns={"malignant": "malignant"}).problems
    assert problems == (
        "metadata.csv, file_column: several columns are called 'file'; give them names of their "
        "own",
        "metadata.csv, target_columns: several columns are called 'malignant'; give them names of "
        "their own",
    )


@pytest.mark.parametrize(
    "values",
    [
        {"tables": ["../x.csv"]},
        {"tables": ["/x.csv"]},
        {"tables": [""]},
        {"tables": ["**x.csv"]},
        {"file_column": "{file}**"},
        {"encoding": "rot13"},
        {"header": ["a", "a"]},
        {"header": ["a", ""]},
        {"arrays": {}},
        {"films_per_patient": 1},
        {"delimiter": "#"},
    ],
)
def test_settings_of_tables_that_mean_nothing_are_refused(
    tmp_path: Path, values: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        ListingSettings.model_validate({"src": tmp_path, **values})


CELLS = st.sampled_from(
    (
        *("", "a.png", "sub/b.png", "..", "*", "[", "/", "\\", "{x}", "1", "0", "-1", "nan", "1,5"),
        *("L", "train", "test", "\u00e9", "malignant", "no", "1e9", "\ud7ff", "a" * 300, "x\ny"),
        *("'=1", "\0", '"', "\ufeff", "**/*"),
    )
)
COLUMNS = st.sampled_from(
    (
        *("file", "patient_id", "split", "malignant", "is_benign", "view", "xmin", "ymin", "xmax"),
        *("ymax", "", "File ", "x"),
    )
)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "file_column": st.sampled_from(["file", "{file}*", "{x}/{file}", "sub/{file}.png"]),
        "patient_pattern": st.sampled_from(["none", r"(\w)", r"(\d+)"]),
        "films_per_patient": st.just(2),
        "region": st.just({"left": "xmin", "top": "ymin", "right": "xmax", "bottom": "ymax"}),
        "labels": st.just({"malignant": ["1"], "benign": ["0", "no"]}),
        "unknown": st.just(["-1"]),
        "only": st.just({"view": ["L"]}),
        "split_words": st.just({"1": "test"}),
        "attributes": st.just(["view"]),
        "match_header": st.just({"laterality": "view"}),
        "short_rows": st.just("blank"),
        "leave_out": st.just(["missing_file", "no_region", "no_patient", "unknown_class"]),
    },
)


@bounds(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(COLUMNS, min_size=1, max_size=7),
    st.lists(st.lists(CELLS, max_size=7), max_size=6),
    SETTINGS,
)
@example(["file", "patient_id", "malignant"], [["a.png", "1", "1"]], {"file_column": "{file}*"})
def test_no_table_breaks_the_listing(
    tmp_path_factory: pytest.TempPathFactory,
    columns: list[str],
    rows: list[list[str]],
    values: dict[str, object],
) -> None:
    """Whatever stands in a table, there are images that are there, and problems without cells."""
    src = tmp_path_factory.getbasetemp() / "fuzzed"
    for name in ("a.png", "sub/b.png"):
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        (src / name).write_bytes(encode_png(noise(1)))
    try:
        found = listing(src, [columns, *rows], **values)
    except InputError:
        return
    assert found.patches or found.problems or found.left_out_rows
    for patch in found.patches:
        assert patch.path.resolve().is_relative_to(src.resolve())
        assert patch.path.is_file()
        assert patch.patient
        assert len(patch.targets) == 1
    assert "a" * 300 not in "".join(found.problems)


def test_no_age_above_ninety_is_carried_over(src: Path) -> None:
    rows = [
        ("file", "patient_id", "malignant", "Age"),
        ("a.png", "P1", "0", "93"),
        ("sub/b.png", "P2", "1", "089Y"),
    ]
    kept = [patch.attributes["age"] for patch in listing(src, rows).patches]
    assert kept == ["90", "89"]
