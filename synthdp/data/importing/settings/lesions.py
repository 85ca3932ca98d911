"""How a table says where a lesion lies, and how the lesion is cut out."""

from typing import Literal

from pydantic import Field, model_validator

from synthdp.config.settings import Settings

#: Roles of columns that together make a region; the first form of which all are named is taken.
FORMS: tuple[tuple[str, ...], ...] = (
    ("left", "top", "right", "bottom"),
    ("left", "top", "width", "height"),
    ("centre_x", "centre_y", "width", "height"),
    ("centre_x", "centre_y", "radius"),
    ("contour_x", "contour_y"),
    ("contour",),
    ("mask",),
)
ROLES = frozenset(role for form in FORMS for role in form)


class RegionColumns(Settings):
    """Which columns of a table say where a lesion lies; one of the forms, each by its role.

    `left, top, right, bottom`, or `left, top, width, height`, or `centre_x, centre_y` with `width,
    height` or `radius`: numbers of pixels. `contour_x, contour_y`, or `contour`. `mask`.
    """

    left: str | None = None
    """Column of the box's left edge. Example: xmin"""

    top: str | None = None
    """Column of the box's top edge. Example: ymin"""

    right: str | None = None
    """Column of the box's right edge. Example: xmax"""

    bottom: str | None = None
    """Column of the box's bottom edge. Example: ymax"""

    width: str | None = None
    """Column of the box's width. Example: width"""

    height: str | None = None
    """Column of the box's height. Example: height"""

    centre_x: str | None = None
    """Column of the centre, across. Example: x"""

    centre_y: str | None = None
    """Column of the centre, down. Example: y"""

    radius: str | None = None
    """Column of the radius around the centre. Example: radius"""

    contour_x: str | None = None
    """Column of the points of an outline, across. Example: lw_x_points"""

    contour_y: str | None = None
    """Column of the points of an outline, down. Example: lw_y_points"""

    contour: str | None = None
    """Column of an outline in one cell, x and y by turns. Example: polygon"""

    mask: str | None = None
    """Column of the file of a picture of the image's own size that is bright where the lesion is.
    Example: mask_file
    """

    y_up: bool = False
    """y is counted from the bottom edge."""

    @model_validator(mode="after")
    def _is_one_form(self) -> "RegionColumns":
        named = {role for form in FORMS for role in form if getattr(self, role) is not None}
        if named not in [set(form) for form in FORMS]:
            forms = "; ".join(", ".join(form) for form in FORMS)
            raise ValueError(f"name the columns of one form, and all of it: {forms}")
        return self

    @property
    def form(self) -> tuple[str, ...]:
        """The roles whose columns are named."""
        return next(
            form
            for form in FORMS
            if {role for role in ROLES if getattr(self, role) is not None} == set(form)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of these columns, in the order of `form`."""
        return tuple(str(getattr(self, role)) for role in self.form)


class CropSettings(Settings):
    """How a lesion is cut out: a square around it, of a size that depends on the lesion, or the
    same for all.
    """

    margin: float = Field(default=0.0, ge=0, le=10)
    """Share of the longer side of the lesion's box that is added on each side."""

    margin_px: int = Field(default=60, ge=0, le=4096)
    """Pixels that are added on each side."""

    least_side_px: int = Field(default=128, ge=8, le=8192)
    """The square is at least so wide."""

    side_px: int | None = Field(default=None, ge=8, le=8192)
    """The square is so wide for every lesion, so that context is the same for all. Example: 512"""

    side_mm: float | None = Field(default=None, gt=0, le=1000)
    """The same in mm, which need the pixel spacing in the file. Example: 40"""

    edge: Literal["shift", "black", "mirror"] = "shift"
    """A square that reaches over the image's edge is moved inside (`shift`), or what lies beyond is
    `black`, or the image mirrored (`mirror`). A square that is larger than the image is black
    there, or mirrored.
    """

    levels: Literal["image_range", "full_range"] = "image_range"
    """`image_range` stretches the full image's darkest to brightest pixel over 8 bits; `full_range`
    keeps the levels and the depth that the file means.
    """

    extra_crops: int = Field(default=0, ge=0, le=64)
    """How many more crops, moved and scaled, are made of each lesion of train."""

    jitter: float = Field(default=0.1, gt=0, le=0.25)
    """How far these extra crops are moved and scaled, as a share of the side."""

    @property
    def crops(self) -> int:
        """How many crops are made of each lesion."""
        return 1 + self.extra_crops

    @model_validator(mode="after")
    def _one_side(self) -> "CropSettings":
        if self.side_px is not None and self.side_mm is not None:
            raise ValueError("side_px and side_mm both say how wide a crop is; keep one")
        return self
