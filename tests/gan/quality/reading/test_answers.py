from collections.abc import Callable
from pathlib import Path

import pytest

from gan.quality.reading.answers import read_readings
from gan.quality.reading.key import Key, read_key
from synthdp.errors import InputError

HEADER = "kit,reader,code,origin,confidence,rating,seconds"
Edit = Callable[[list[str]], list[str]]


@pytest.fixture(scope="session")
def key(kit: Path) -> Key:
    return read_key(kit)


def rows_of(key: Key, reader: str = "A") -> list[str]:
    return [f"{key.kit},{reader},{one.code},{one.kind},2,{1 + one.label},3.5" for one in key.images]


def saved(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_file_is_read_as_it_was_saved_and_as_spreadsheets_save_it_again(
    key: Key, tmp_path: Path
) -> None:
    path = saved(tmp_path / "a.csv", rows_of(key))
    (first,) = read_readings([path], key, allow_missing=False)
    assert first.reader == "A"
    for one in key.images:
        answer = first.answers[one.code]
        assert (answer.origin, answer.confidence, answer.rating) == (one.kind, 2, 1 + one.label)
        assert answer.surely_synthetic == (2 if one.kind == "synthetic" else -2)
    text = path.read_text().replace(",", ";").replace("3.5", "3,5").replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_readings([path], key, allow_missing=False) == [first]


def test_missing_answers_are_named_and_scored_by_a_setting_alone(key: Key, tmp_path: Path) -> None:
    rows = rows_of(key)
    first, second = (one.code for one in key.images[:2])
    rows[0] = f"{key.kit},A,{first},real,,,"
    path = saved(tmp_path / "a.csv", [rows[0], *rows[2:]])
    with pytest.raises(InputError) as caught:
        read_readings([path], key, allow_missing=False)
    assert "2 of 8 images are not answered in full" in str(caught.value)
    assert first in str(caught.value)
    assert second in str(caught.value)
    assert "allow_missing=true" in str(caught.value)
    (reading,) = read_readings([path], key, allow_missing=True)
    assert reading.answers[first].origin == "real"
    assert reading.answers[first].surely_synthetic is None
    assert second not in reading.answers


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: [*rows, rows[0]], "stand\\(s\\) twice"),
        (lambda rows: [rows[0].replace(rows[0].split(",")[2], "QQQQQQ"), *rows[1:]], "1 code"),
        (lambda rows: ["XXXXXX" + row[6:] for row in rows], "is of the page 'XXXXXX'"),
        (lambda rows: [rows[0].replace(",2,", ",4,", 1), *rows[1:]], "row 2: confidence is '4'"),
        (lambda rows: [rows[0][:-5] + "6,3.5", *rows[1:]], "row 2: rating is '6'.*1 to 5"),
        (lambda rows: [rows[0].replace(",2,", ",2.0,"), *rows[1:]], "confidence is '2.0'"),
        (lambda rows: [row.replace(",real,", ",fake,") for row in rows], "origin is 'fake'"),
        (lambda rows: [rows[0].replace(",A,", ",B,"), *rows[1:]], "more than one reader"),
        (lambda rows: [row.replace(",A,", ",,") for row in rows], "names no reader in some rows"),
        (lambda rows: [row.replace(",A,", ",@A,") for row in rows], "its reader is '@A'"),
        (lambda rows: [], "holds no rows"),
        (lambda rows: [rows[0] + ",more", *rows[1:]], "more or fewer cells"),
    ],
)
def test_what_a_page_would_not_save_is_refused(
    key: Key, tmp_path: Path, edit: Edit, message: str
) -> None:
    path = saved(tmp_path / "a.csv", edit(rows_of(key)))
    for allow_missing in (False, True):
        with pytest.raises(InputError, match=f"a.csv: .*{message}"):
            read_readings([path], key, allow_missing=allow_missing)


def test_other_files_are_refused_all_at_once(key: Key, tmp_path: Path) -> None:
    good, again = (saved(tmp_path / name, rows_of(key)) for name in ("a.csv", "b.csv"))
    other = tmp_path / "c.csv"
    other.write_text("image,score\n1,2\n")
    with pytest.raises(InputError) as caught:
        read_readings([good, again, other, tmp_path / "d.csv"], key, allow_missing=False)
    said = str(caught.value)
    assert "c.csv: has no column kit, reader, code" in said
    assert "d.csv: there is no such file" in said
    assert "reader A: has 2 files" in said


def test_a_kit_without_a_key_scores_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no private/key\.json"):
        read_key(tmp_path)
