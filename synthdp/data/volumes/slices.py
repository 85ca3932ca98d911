"""From a scan to the slices that a set keeps: windowed, straightened, resampled, stacked."""

import numpy as np
from numpy.typing import NDArray

from synthdp.data.volumes.form import VolumeForm
from synthdp.data.volumes.scan import Scan
from synthdp.data.volumes.straight import Grid, straightened
from synthdp.errors import InputError

Stack = NDArray[np.uint8]


def formed(scan: Scan, form: VolumeForm, size_px: int) -> Stack:
    """The slices of a volume as a set keeps them.

    Args:
        scan: as a reader gives it.
        form: what is made of it.
        size_px: S, the side of a slice.

    Returns:
        (D * S, S) uint8, the D slices one below the other, 0 black.

    Raises:
        InputError: as `straightened`; when a CT has no window, or a spacing is asked for that
            cannot be made, since the volume doesn't say its own.
    """
    grid = straightened(scan.with_values(_shown(scan, form)), form)
    slices = _resampled(grid, form, size_px)
    return np.rint(slices * 255).astype(np.uint8).reshape(-1, size_px)


def _shown(scan: Scan, form: VolumeForm) -> NDArray[np.float32]:
    """The values between black, 0, and white, 1; 0 where there is no picture."""
    window = form.window
    if window is None and scan.modality == "CT":
        raise InputError(
            "is a CT, and nothing says which Hounsfield units become black and white; set "
            "`volumes.window`, such as [-1000, 400] for a chest or [0, 80] for a brain"
        )
    if isinstance(window, tuple):
        low, high = window
    elif window is None and scan.top is not None:
        low, high = 0.0, scan.top
    else:
        seen = scan.values if scan.padding is None else scan.values[~scan.padding]
        if not seen.size:
            raise InputError("every voxel is padding, so there is nothing to be seen")
        low, high = float(seen.min()), float(seen.max())
    shown = scan.values - np.float32(low)
    shown /= np.float32((high - low) or 1.0)
    np.clip(shown, 0, 1, out=shown)
    if scan.inverted:
        np.subtract(1, shown, out=shown)
    if scan.padding is not None:
        shown[scan.padding] = 0
    return shown


def _resampled(grid: Grid, form: VolumeForm, size_px: int) -> NDArray[np.float32]:
    """The grid at `depth` x `size_px` x `size_px` voxels, (D, S, S) in [0, 1]."""
    depth, height, width = grid.values.shape
    if form.spacing_mm is None:
        _, row_mm, column_mm = grid.spacing_mm or (1.0, 1.0, 1.0)
        side_mm = max(height * row_mm, width * column_mm)  # of the square that a slice is padded to
        steps = (
            depth / form.depth,
            side_mm / size_px / row_mm,
            side_mm / size_px / column_mm,
        )
    elif grid.spacing_mm is None:
        raise InputError(
            "says nothing of the distance between its voxels, which volumes.spacing_mm asks for; "
            "say it by volumes.array_spacing_mm, or leave volumes.spacing_mm out"
        )
    else:
        first, second, third = (
            wanted / own for wanted, own in zip(form.spacing_mm, grid.spacing_mm, strict=True)
        )
        steps = first, second, third
    rows = _weights(height, steps[1], size_px)
    columns = _weights(width, steps[2], size_px)
    small = np.empty((depth, size_px, size_px), dtype=np.float32)
    for index, one in enumerate(grid.values):  # slice by slice, for memory
        small[index] = rows @ one @ columns.T
    resampled = np.tensordot(_weights(depth, steps[0], form.depth), small, axes=1)
    return np.clip(resampled, 0, 1)


def _weights(before: int, step: float, after: int) -> NDArray[np.float32]:
    """(after, before) float32: what each sample takes of those before, along one axis.

    As `synthdp.data.images.resampling_weights`, for samples that are `step` of those before apart
    and lie about the same middle; one whose middle lies beyond those before takes nothing.
    """
    middles = before / 2 + (np.arange(after) + 0.5 - after / 2) * step
    distances = np.abs(np.arange(before) + 0.5 - middles[:, None]) / max(step, 1.0)
    shares = np.clip(1 - distances, 0, None)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
    shares[(middles < 0) | (middles > before)] = 0
    return np.asarray(shares, dtype=np.float32)
