"""From slices that lie anywhere in the patient to a right-angled grid in a stated orientation."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthdp.data.volumes.form import PHYSICAL_AXES, VolumeForm, is_positive
from synthdp.data.volumes.scan import MAX_SLICES, Scan
from synthdp.errors import InputError

#: By what share of the middle gap two gaps may differ: what rounding in headers makes.
_EQUAL_GAPS = 0.02
#: How many pixels a stack may lean from its first slice to its last.
_UPRIGHT_PX = 1.0
#: Gaps below this are none: two slices at one place.
_SAME_PLACE_MM = 1e-3
#: The cosine of an angle that is still a right one.
_RIGHT_ANGLE = 1e-2


@dataclass(frozen=True, eq=False)
class Grid:
    """A right-angled volume: values (D, H, W) in [0, 1], and mm between voxels along each axis.

    spacing_mm is None where nobody knows it.
    """

    values: NDArray[np.float32]
    spacing_mm: tuple[float, float, float] | None


def straightened(scan: Scan, form: VolumeForm) -> Grid:
    """Bring a scan, whose values are in [0, 1] and 0 where there is nothing, to a grid.

    Slices are sorted by where they lie. Unequal gaps and a leaning stack are refused, or resampled
    where the form says so. Axes are then swapped and flipped into the form's orientation; where a
    stack lies askew in the patient, into the nearest one.

    Raises:
        InputError: when slices lie at one place, unequally far from each other, or lean; or rows
            and columns are not at right angles.
    """
    if scan.positions is None or scan.row_step is None or scan.column_step is None:
        return Grid(scan.values, form.array_spacing_mm)
    row_mm, column_mm = (float(np.linalg.norm(one)) for one in (scan.row_step, scan.column_step))
    if min(row_mm, column_mm) <= 0:
        raise InputError("says that its rows or columns lie at one place; correct its header")
    rows, columns = scan.row_step / row_mm, scan.column_step / column_mm
    if abs(float(rows @ columns)) > _RIGHT_ANGLE:
        raise InputError(
            "its rows and columns are not at right angles (sheared); resample it to a right-angled "
            "grid first"
        )
    normal = np.cross(rows, columns)
    if float(normal @ (scan.positions[-1] - scan.positions[0])) < 0:
        normal = -normal
    heights = scan.positions @ normal
    order = np.argsort(heights, kind="stable")
    heights, positions = heights[order], scan.positions[order]
    in_order = bool((order == np.arange(len(order))).all())
    values = scan.values if in_order else scan.values[order]
    _refuse_one_height(heights)
    drift = np.stack([(positions @ rows) / row_mm, (positions @ columns) / column_mm], axis=1)
    values = _upright(values, heights, drift, (row_mm, column_mm), form)
    values, slice_mm = _evenly(values, heights, form)
    grid = Grid(values, (slice_mm, row_mm, column_mm))
    if form.orientation == "stored":
        return grid
    return _oriented(grid, np.stack([normal, rows, columns]), form.orientation)


def _refuse_one_height(heights: NDArray[np.float64]) -> None:
    if len(heights) > 1 and float(np.diff(heights).min()) < _SAME_PLACE_MM:
        raise InputError(
            "two of its slices lie at one place: copies, several series, or one volume over time "
            "(4D); keep one slice of each place"
        )


def _upright(
    values: NDArray[np.float32],
    heights: NDArray[np.float64],
    drift: NDArray[np.float64],
    spacing_mm: tuple[float, float],
    form: VolumeForm,
) -> NDArray[np.float32]:
    """The slices moved in their own plane until they lie right above the middle one.

    Args:
        values: (D, H, W).
        heights: (D,) mm along the normal of the slices.
        drift: (D, 2), where each slice begins in its plane, in rows and columns.
        spacing_mm: between rows, and between columns.
        form: says what is done about a stack that leans.
    """
    off = drift - drift[len(drift) // 2]
    if float(np.ptp(drift, axis=0).max(initial=0)) <= _UPRIGHT_PX:
        return values
    if form.tilt == "refuse":
        aside = float(np.linalg.norm((drift[-1] - drift[0]) * np.asarray(spacing_mm)))
        angle = np.degrees(np.arctan2(aside, heights[-1] - heights[0]))
        raise InputError(
            f"its slices lean by {angle:.1f} degrees, as with a tilted gantry; set "
            "`volumes.tilt: resample` to move them until they lie right above each other"
        )
    from scipy.ndimage import shift  # noqa: PLC0415 (an import of upright volumes needs none)

    # what was at row y - off of a slice comes to row y of the grid; beyond the slice there is black
    moved = [shift(one, by, order=1, cval=0.0) for one, by in zip(values, off, strict=True)]
    return np.stack(moved)


def _evenly(
    values: NDArray[np.float32], heights: NDArray[np.float64], form: VolumeForm
) -> tuple[NDArray[np.float32], float]:
    """The slices at equal distances, and that distance in mm.

    Raises:
        InputError: when they are not, and the form refuses it.
    """
    if len(heights) == 1:
        return values, 1.0
    gaps = np.diff(heights)
    middle = float(np.median(gaps))
    if float(np.ptp(gaps)) <= _EQUAL_GAPS * middle:
        return values, float(heights[-1] - heights[0]) / len(gaps)
    if form.gaps == "refuse":
        shown = ", ".join(f"{gap:g}" for gap in np.unique(gaps.round(2))[:4])
        raise InputError(
            f"its slices are not equally far from each other (gaps of {shown} mm ...), as where "
            "one is missing; bring the missing ones, or set `volumes.gaps: resample` to make up "
            "equal ones"
        )
    extent = float(heights[-1] - heights[0])
    count = min(int(np.ceil(extent / gaps.min())), MAX_SLICES - 1)
    at = heights[0] + np.arange(count + 1) * (extent / count)
    above = np.clip(np.searchsorted(heights, at), 1, len(heights) - 1)
    share = ((at - heights[above - 1]) / gaps[above - 1]).clip(0, 1).astype(np.float32)
    between = np.empty((count + 1, *values.shape[1:]), dtype=np.float32)
    for index, (upper, part) in enumerate(zip(above, share, strict=True)):
        between[index] = (1 - part) * values[upper - 1] + part * values[upper]
    return between, extent / count


def _oriented(grid: Grid, directions: NDArray[np.float64], orientation: str) -> Grid:
    """The grid with its axes in a stated order, each growing to its letter.

    Args:
        grid: as the slices lie.
        directions: (3, 3), where its slices, rows and columns grow to, in mm of the patient (LPS).
        orientation: a letter for slices, rows and columns each.
    """
    along = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(directions[own, axis]) for own, axis in enumerate(axes)),
    )  # the patient's axis that each own axis lies along
    order = [along.index(PHYSICAL_AXES[letter]) for letter in orientation]
    values = grid.values.transpose(order)
    for axis, (own, letter) in enumerate(zip(order, orientation, strict=True)):
        grows = bool(directions[own, PHYSICAL_AXES[letter]] > 0)
        if grows != is_positive(letter):
            values = np.flip(values, axis)
    assert grid.spacing_mm is not None
    first, second, third = (grid.spacing_mm[own] for own in order)
    return Grid(values, (first, second, third))
