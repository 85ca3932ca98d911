from pathlib import Path

import pytest

from synthdp.config.settings import Settings, validate_settings
from synthdp.data.columns import Where, columns_of, rows_where, where_words
from synthdp.data.dataset import Dataset, Row
from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError


class Chosen(Settings):
    where: Where


CELLS = [{"site": "A", "view": "CC"}, {"site": "B", "view": "CC"}, {"site": "A", "view": "MLO"}]


def clinic(cells: list[dict[str, str]]) -> Dataset:
    info = DatasetInfo(name="clinic", kind="real", size_px=32)
    rows = [Row(f"images/{i}.png", f"secret{i}", "train", (0,), c) for i, c in enumerate(cells)]
    return Dataset(Path("clinic"), info, tuple(rows))


def read(where: object) -> dict[str, tuple[str, ...]]:
    return validate_settings(Chosen, {"where": where}, where="settings").where


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"site": "A"}, [0, 2]),
        ({"site": ["B", "A"]}, [0, 1, 2]),
        ({"site": "A", "view": "MLO"}, [2]),
        (None, [0, 1, 2]),
    ],
)
def test_rows_stay_that_have_a_wanted_value_in_every_column(where: object, kept: list[int]) -> None:
    data = clinic(CELLS)
    found = rows_where(data, data.rows, where if where is None else read(where))
    assert [data.rows.index(row) for row in found] == kept


def test_whether_a_row_stays_depends_on_that_row_alone() -> None:
    where = read({"site": "A"})
    whole = clinic(CELLS)
    kept = {row.patient_id for row in rows_where(whole, whole.rows, where)}
    for left_out in range(1, 3):
        neighbour = [row for index, row in enumerate(whole.rows) if index != left_out]
        found = {row.patient_id for row in rows_where(whole, neighbour, where)}
        assert found == kept - {f"secret{left_out}"}


def test_an_empty_cell_is_unknown() -> None:
    data = clinic([*CELLS, {"site": " ", "view": "CC"}])
    assert rows_where(data, data.rows, read({"site": "unknown"})) == data.rows[3:]
    assert columns_of(data) == ["site", "view"]


def test_one_choice_has_one_spelling() -> None:
    assert read({"view": "CC", "site": ["B", "A", "B"]}) == read(
        {"site": ["A", "B"], "view": ["CC"]}
    )
    assert list(read({"view": "CC", "site": "A"})) == ["site", "view"]
    assert read({"density": [3, 1]}) == {"density": ("1", "3")}
    assert where_words(read({"site": ["B", "A"], "view": "CC"})) == "site A or B, view CC"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({}, "where"),
        ({"site": []}, "site"),
        ({"site": ""}, "site"),
        ({"site": "a/b"}, "site"),
        ({"site": " A"}, "site"),
        ("A", "where"),
        ({"site": {"A": 1}}, "site"),
    ],
)
def test_a_choice_that_says_nothing_is_refused(where: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(where)


def test_a_column_that_is_not_there_and_a_value_that_no_row_has_are_refused() -> None:
    data = clinic(CELLS)
    with pytest.raises(InputError, match=r"clinic: has no column age; .*: site, view"):
        rows_where(data, data.rows, read({"age": "50"}))
    with pytest.raises(InputError, match="no image of the split has site C") as caught:
        rows_where(data, data.rows, read({"site": "C"}))
    assert "secret" not in str(caught.value)
