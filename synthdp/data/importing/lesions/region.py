"""Where a lesion lies in an image, in whichever of the usual ways a table says it."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from synthdp.data.importing.settings.lesions import FORMS, RegionColumns
from synthdp.data.importing.tables.cells import Decimal, number_text

#: How far beyond its image a box may reach, in px: what rounding and 1-based counting make.
SLACK_PX = 1.0
#: No lesion ends so near to the corner; what does is given in shares of the image's sides.
_LEAST_FAR_END_PX = 2.0
_BLANK = {"", "-1", "-1.0", "nan", "none", "null", "n/a", "na"}
#: What may stand between the numbers of an outline.
_BETWEEN_NUMBERS = frozenset("[](){},;| \t\r\n")
_COMMA_WITHIN, _BLANK_BETWEEN = re.compile(r"(?<=\d),(?=\d)"), re.compile(r"\d[\s;|]+[-+.\d]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Region:
    """The box around a lesion in pixels of its full image, `right` and `bottom` not included.

    x runs to the right from the left edge, y downwards from the top edge; where `y_up`, y is
    counted upwards from the bottom edge (as mini-MIAS does), and `within` turns it over.
    """

    left: float
    top: float
    right: float
    bottom: float
    y_up: bool = False

    def within(self, height_px: int, width_px: int) -> "Region":
        """The region in an image of this size, with y downwards, cut to the image.

        Raises:
            ValueError: when it reaches more than `SLACK_PX` beyond the image.
        """
        top, bottom = self.top, self.bottom
        if self.y_up:
            top, bottom = height_px - self.bottom, height_px - self.top
        beyond = max(-self.left, -top, self.right - width_px, bottom - height_px)
        if beyond > SLACK_PX:
            raise ValueError(
                f"the region reaches outside the image (of {width_px} x {height_px} px); correct "
                "it, or name the columns and the unit that it is given in"
            )
        return replace(
            self,
            left=max(self.left, 0.0),
            top=max(top, 0.0),
            right=min(self.right, float(width_px)),
            bottom=min(bottom, float(height_px)),
            y_up=False,
        )


#: What public tables call these columns, in lower case. A width and a height alone may be the
#: image's own, so that they count only beside a corner or a centre.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "left": ("xmin", "x_min", "x1", "left", "bbox_x1", "x", "bbox_x"),
    "top": ("ymin", "y_min", "y1", "top", "bbox_y1", "y", "bbox_y"),
    "right": ("xmax", "x_max", "x2", "right", "bbox_x2"),
    "bottom": ("ymax", "y_max", "y2", "bottom", "bbox_y2"),
    "width": ("w", "width", "bbox_w", "bbox_width", "box_width"),
    "height": ("h", "height", "bbox_h", "bbox_height", "box_height"),
    "centre_x": ("centre_x", "center_x", "cx", "x_centre", "x_center", "x"),
    "centre_y": ("centre_y", "center_y", "cy", "y_centre", "y_center", "y"),
    "radius": ("radius", "r"),
    "contour_x": ("contour_x", "lw_x_points", "x_points"),
    "contour_y": ("contour_y", "lw_y_points", "y_points"),
    "contour": ("contour", "polygon", "points"),
    "mask": ("mask", "mask_file", "mask_path", "roi_mask", "roi_mask_file_path"),
}

#: Of these, names that other things have too; and names of places that are in no form here.
_OF_OTHER_THINGS = {
    *("left", "right", "top", "bottom", "w", "h", "width", "height", "r", "points"),
}
_IN_NO_FORM = {
    *("bbox", "bboxes", "box", "boxes", "bounding_box", "bounding_boxes", "coordinates", "coords"),
    *("box_coordinates", "bbox_coordinates", "segmentation", "rle", "centroid"),
}
_ACROSS = {"x", "xmin", "xmax", "left", "links", "gauche", "izquierda", "cx"}
_DOWN = {"y", "ymin", "ymax", "top", "oben", "haut", "arriba", "cy"}
_WORDS = re.compile(r"[^\W\d_]+")


def guessed_columns(columns: Sequence[str]) -> RegionColumns | None:
    """The columns of a table that say where a lesion lies, by usual names; None without such."""
    by_name = {_plain(name): name for name in reversed(columns)}
    for form in FORMS:
        names = {
            role: next((by_name[word] for word in _SYNONYMS[role] if word in by_name), None)
            for role in form
        }
        if None not in names.values() and len(set(names.values())) == len(form):
            return RegionColumns.model_validate(names)
    return None


def half_a_region(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns called as those of lesions are, of a table whose columns make no known form.

    A pair counts too whose names hold a word for across and one for down, as `x links` and `y oben`
    do, and `left or right breast` does not.
    """
    synonyms = {word for words in _SYNONYMS.values() for word in words} - _OF_OTHER_THINGS
    words = {name: set(_WORDS.findall(_plain(name))) for name in columns}
    words = {name: some for name, some in words.items() if not some >= {"left", "right"}}
    across, down = ({name for name in words if words[name] & some} for some in (_ACROSS, _DOWN))
    apart = across ^ down if across - down and down - across else set[str]()
    return tuple(
        name for name in columns if _plain(name) in synonyms | _IN_NO_FORM or name in apart
    )


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def region_in(
    record: Mapping[str, str], columns: RegionColumns, decimal: Decimal = "auto"
) -> Region | str | None:
    """What a row says of its lesion: a region, the name of a mask's file, or None for nothing.

    `decimal` is what a comma in a number of pixels is.

    Raises:
        ValueError: when it is no region; the text names columns, and no value.
    """
    cells = [record[name].strip() for name in columns.names]
    blank = [cell.lower() in _BLANK for cell in cells]
    if all(blank):
        return None
    named = ", ".join(columns.names)
    if any(blank):
        raise ValueError(f"{named}: some are given and others are not; give all or none")
    if columns.form == ("mask",):
        return cells[0]
    if "contour" in columns.form[0]:
        return _around_points(_points(cells, named, decimal), columns.y_up, named)
    values = dict(zip(columns.form, (_number(cell, named, decimal) for cell in cells), strict=True))
    return _boxed(values, columns.y_up, named)


def _number(cell: str, named: str, decimal: Decimal) -> float:
    text = number_text(cell, decimal)
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError(f"{named}: not numbers of pixels")
    return float(text)


def _boxed(values: Mapping[str, float], y_up: bool, named: str) -> Region:
    if "radius" in values:
        half_width = half_height = values["radius"]
    else:
        half_width, half_height = values.get("width", 0.0) / 2, values.get("height", 0.0) / 2
    if "centre_x" in values:
        x, y = values["centre_x"], values["centre_y"]
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
    else:
        x, y = values["left"], values["top"]
        right = values.get("right", x + 2 * half_width)
        bottom = values.get("bottom", y + 2 * half_height)
        box = (x, min(y, bottom), right, max(y, bottom)) if y_up else (x, y, right, bottom)
    region = Region(*box, y_up=y_up)
    if region.right <= region.left or region.bottom <= region.top:
        raise ValueError(f"{named}: the box is empty, or turned over")
    return _in_pixels(region, named)


def _in_pixels(region: Region, named: str) -> Region:
    """The region, refused where it lies within a corner's few pixels, as shares of a side would.

    Raises:
        ValueError: when it does.
    """
    if max(region.right, region.bottom) < _LEAST_FAR_END_PX:
        raise ValueError(
            f"{named}: not numbers of pixels, by their size, but shares of the image's width and "
            "height; multiply them by these"
        )
    return region


def _points(cells: Sequence[str], named: str, decimal: Decimal) -> list[tuple[float, float]]:
    numbers = [_numbers(cell, named, decimal, of_points=len(cells) == 1) for cell in cells]
    xs, ys = numbers if len(numbers) == 2 else (numbers[0][::2], numbers[0][1::2])
    if len(xs) != len(ys) or len(xs) < 3:
        raise ValueError(f"{named}: an outline needs three points or more, with an x and a y each")
    return list(zip(xs, ys, strict=True))


def _numbers(cell: str, named: str, decimal: Decimal, *, of_points: bool) -> list[float]:
    """The numbers of an outline's cell: of its points, x and y by turns, or of one direction.

    Raises:
        ValueError: when other things stand among them, points have other than two, or a comma may
            be for decimals: each would move the outline.
    """
    if decimal == "comma":
        cell = _COMMA_WITHIN.sub(".", cell)
    elif (
        decimal == "auto"
        and not of_points
        and _BLANK_BETWEEN.search(cell)
        and _COMMA_WITHIN.search(cell)
    ):
        raise ValueError(f"{named}: a comma may be for decimals or between numbers; set decimal")
    between = _NUMBER.sub(" ", cell.upper().replace("POLYGON", ""))
    if set(between) - _BETWEEN_NUMBERS:
        raise ValueError(
            f"{named}: an outline is of numbers, x and y by turns, with nothing named among them"
        )
    of_each = [len(_NUMBER.findall(point)) for point in re.split(r"[][()]+", cell)]
    if of_points and any(count % 2 for count in of_each):
        raise ValueError(f"{named}: an outline's points need an x and a y each, and no more")
    return [float(word) for word in _NUMBER.findall(cell)]


def _around_points(points: Iterable[tuple[float, float]], y_up: bool, named: str) -> Region:
    xs, ys = zip(*points, strict=True)
    region = Region(min(xs), min(ys), max(xs), max(ys), y_up=y_up)
    if region.right <= region.left or region.bottom <= region.top:
        raise ValueError(f"{named}: the outline surrounds nothing")
    return _in_pixels(region, named)
