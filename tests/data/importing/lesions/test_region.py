import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synthdp.data.importing.lesions.region import Region, guessed_columns, region_in
from synthdp.data.importing.settings.lesions import RegionColumns


def columns(**roles: object) -> RegionColumns:
    return RegionColumns.model_validate(roles)


CORNERS = columns(left="xmin", top="ymin", right="xmax", bottom="ymax")
CENTRE = columns(centre_x="x", centre_y="y", radius="r", y_up=True)


@pytest.mark.parametrize(
    ("names", "cells", "region"),
    [
        ("xmin ymin xmax ymax", "10 20 30 50", Region(10, 20, 30, 50)),
        ("x y w h", "10 20 20 30", Region(10, 20, 30, 50)),
        ("x y width height", "10 20 20 30", Region(10, 20, 30, 50)),
        ("cx cy w h", "20 35 20 30", Region(10, 20, 30, 50)),
        ("x y radius", "20 35 10", Region(10, 25, 30, 45)),
        ("lw_x_points lw_y_points", "10 30 20|20 25 50", Region(10, 20, 30, 50)),
        ("contour", "[[10, 20], [30.0, 25], [20, 5e1]]", Region(10, 20, 30, 50)),
        ("XMIN YMIN XMAX YMAX", "10,5 20 30,0 50", Region(10.5, 20, 30, 50)),
    ],
)
def test_the_usual_ways_to_say_where_a_lesion_lies_are_read(
    names: str, cells: str, region: Region
) -> None:
    header = names.split()
    parts = cells.split("|") if "|" in cells else [cells] if len(header) == 1 else cells.split()
    found = guessed_columns(["file", *header])
    assert found is not None
    assert region_in(dict(zip(header, parts, strict=True)), found) == region


def test_sizes_of_whole_images_are_not_taken_for_boxes() -> None:
    assert guessed_columns(["file", "width", "height"]) is None
    assert guessed_columns(["file", "x", "y"]) is None


def test_corners_are_believed_before_a_width_and_height_that_may_be_the_image_s() -> None:
    found = guessed_columns(["width", "height", "xmin", "ymin", "xmax", "ymax"])
    assert found is not None
    assert found.form == ("left", "top", "right", "bottom")


def test_a_mask_is_named_by_its_file() -> None:
    found = guessed_columns(["file", "mask"])
    assert found is not None
    assert region_in({"mask": "masks/1.png"}, found) == "masks/1.png"


@pytest.mark.parametrize("nothing", ["", "-1", " nan", "None"])
def test_blank_and_minus_one_are_no_region(nothing: str) -> None:
    assert region_in(dict.fromkeys(CORNERS.names, nothing), CORNERS) is None


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("1||3|4", "some are given"),
        ("1|2|x|4", "not numbers"),
        ("1|2|inf|4", "not numbers"),
        ("30|2|10|4", "turned over"),
        ("3|2|3|4", "empty"),
    ],
)
def test_what_is_no_box_is_said_without_its_values(cells: str, said: str) -> None:
    record = dict(zip(CORNERS.names, cells.split("|"), strict=True))
    with pytest.raises(ValueError, match=said) as error:
        region_in(record, CORNERS)
    assert "xmin, ymin, xmax, ymax" in str(error.value)


@pytest.mark.parametrize(
    ("names", "cells", "said"),
    [
        ("contour", '[{"x1": 10, "y1": 20}, {"x1": 30, "y1": 25}]', "nothing named"),
        (
            "contour",
            '{"all_points_x": [10, 30, 20], "all_points_y": [20, 25, 50]}',
            "nothing named",
        ),
        (
            "contour",
            '[{"y": 20, "x": 10}, {"y": 25, "x": 30}, {"y": 50, "x": 20}]',
            "nothing named",
        ),
        ("contour", "[[10, 20, 1], [30, 25, 1], [20, 50, 1], [9, 9, 1]]", "and no more"),
        ("lw_x_points lw_y_points", "10,5 30,2 20,1|20,5 25,1 50,2", "set decimal"),
    ],
)
def test_an_outline_that_could_be_read_elsewhere_is_refused(
    names: str, cells: str, said: str
) -> None:
    """Names with digits, y before x, a third number and decimal commas moved the box, unsaid."""
    found = guessed_columns(names.split())
    assert found is not None
    with pytest.raises(ValueError, match=said):
        region_in(dict(zip(found.names, cells.split("|"), strict=True)), found)


def test_outlines_of_the_usual_spellings_are_read() -> None:
    for cell in (
        "10,20 30,25 20,50",
        "10;20;30;25;20;50",
        "(10, 20), (30, 25), (20, 50)",
        "[[[10, 20], [30, 25], [20, 50]]]",
        "POLYGON ((10 20, 30 25, 20 50, 10 20))",
        "[10, 20, 30, 25, 20, 50]",
    ):
        assert region_in({"c": cell}, columns(contour="c")) == Region(10, 20, 30, 50), cell
    both = {"x": "10,5 30 20,25", "y": "20 25,5 50"}
    found = region_in(both, columns(contour_x="x", contour_y="y"), "comma")
    assert found == Region(10.5, 20, 30, 50)


@pytest.mark.parametrize(
    ("names", "cells"),
    [
        ("x_center y_center width height", "0.52|0.4|0.1|0.08"),  # as YOLO has them
        ("xmin ymin xmax ymax", "0.2|0.3|0.45|0.5"),
        ("x y radius", "0.5|0.5|0.05"),
        ("xmin ymin xmax ymax", "0|0|1|1.01"),
        ("contour", "0.1 0.2 0.4 0.2 0.3 0.6"),
    ],
)
def test_shares_of_the_image_are_no_pixels(names: str, cells: str) -> None:
    found = guessed_columns(names.split())
    assert found is not None
    with pytest.raises(ValueError, match="shares of the image"):
        region_in(dict(zip(found.names, cells.split("|"), strict=True)), found)


@pytest.mark.parametrize("points", ["1 2 3 4", "1 2 3", "5 5 5 6 5 7"])
def test_an_outline_surrounds_something(points: str) -> None:
    with pytest.raises(ValueError, match=r"x and a y each|surrounds nothing"):
        region_in({"c": points}, columns(contour="c"))


def test_a_centre_counted_from_the_bottom_is_turned_over() -> None:
    region = region_in({"x": "535", "y": "425", "r": "100"}, CENTRE)
    assert isinstance(region, Region)
    assert region.within(1024, 1024) == Region(435, 1024 - 525, 635, 1024 - 325)


def test_a_region_may_lean_over_the_edge_by_a_rounding_alone() -> None:
    assert Region(-1, 0, 41, 30.5).within(30, 40) == Region(0, 0, 40, 30)
    for outside in (Region(-2, 0, 5, 5), Region(0, 0, 42, 5), Region(900, 900, 950, 950)):
        with pytest.raises(ValueError, match="outside the image"):
            outside.within(30, 40)


@pytest.mark.parametrize(
    "roles", [{}, {"left": "x"}, {"mask": "m", "contour": "c"}, {"left": "a", "radius": "r"}]
)
def test_columns_are_of_one_whole_form(roles: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="one form"):
        columns(**roles)


@given(st.lists(st.text(max_size=12) | st.floats().map(str), min_size=4, max_size=4))
@example(["9" * 400, "1", "2", "3"])
@example(["\u0661", "\u0662", "\u0663", "\u0664"])
@example(["1e999", "0", "1", "1"])
@settings(derandomize=True, deadline=None, max_examples=200)
def test_cells_of_any_text_are_a_region_or_refused(cells: list[str]) -> None:
    for form in (CORNERS, columns(left="xmin", top="ymin", width="xmax", height="ymax")):
        region: Region | str | None = None
        problem = "xmin, ymin, xmax, ymax: "
        try:
            region = region_in(dict(zip(CORNERS.names, cells, strict=True)), form)
        except ValueError as error:
            problem = str(error)
        assert problem.startswith("xmin, ymin, xmax, ymax: ")
        if isinstance(region, Region):
            assert region.left < region.right
            assert region.top < region.bottom
