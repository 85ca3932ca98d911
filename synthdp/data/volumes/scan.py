"""A volume as its file has it: values, and where each slice lies in the patient."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthdp.errors import InputError

#: A chest CT of 1000 slices; its values alone are 1 GiB.
MAX_VOXELS = 2**28
MAX_SLICES = 4096
NOT_NUMBERS = (
    "holds values that are no finite numbers (NaN or infinite); replace them in a copy of the file"
)


@dataclass(frozen=True, eq=False)
class Scan:
    """A stack of slices, as it is stored.

    values: (D, H, W) float32, in the unit of the file (CT: Hounsfield units). positions: (D, 3),
    the middle of each slice's first pixel, in mm of the patient: to the left, to the back, to the
    head (LPS, as in DICOM). row_step, column_step: (3,) mm from one row, and one column, to the
    next. All three are None where the file says nothing of them. padding: (D, H, W), where there is
    no picture. inverted: whether the greatest value is black. top: the greatest value that there
    could be, where the type of the values says it, for a range from 0. modality: as DICOM has it.
    """

    values: NDArray[np.float32]
    positions: NDArray[np.float64] | None = None
    row_step: NDArray[np.float64] | None = None
    column_step: NDArray[np.float64] | None = None
    padding: NDArray[np.bool_] | None = None
    inverted: bool = False
    top: float | None = None
    modality: str = ""

    def with_values(self, values: NDArray[np.float32]) -> "Scan":
        """The same slices with other values, which need no padding any more."""
        return replace(self, values=values, padding=None)


def refuse_shape(shape: tuple[int, ...]) -> None:
    """Refuse what is no volume of one grey value a voxel, by its shape, before memory is taken.

    Raises:
        InputError: when it has other than three axes, an empty one, or is too large.
    """
    shown = "x".join(map(str, shape))
    if len(shape) != 3:
        what = "several volumes (4D, as over time)" if len(shape) > 3 else "no volume"
        if len(shape) == 4 and shape[-1] in (3, 4):
            what = "a volume in colour, or several volumes (4D)"
        raise InputError(
            f"an array of {shown} is {what}, where one grey volume of three axes is expected; save "
            "the one that is meant to a file of its own"
        )
    if min(shape) < 2:
        raise InputError(f"of {shown} voxels is a flat image or empty, where a volume is expected")
    if max(shape) > MAX_SLICES or int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        raise InputError(
            f"a volume of {shown} voxels is larger than is read (a side {MAX_SLICES}, "
            f"{MAX_VOXELS:,} voxels at most); cut or resample it first"
        )


def refuse_not_numbers(values: NDArray[np.float32]) -> None:
    """Refuse values that are not finite.

    Raises:
        InputError: when one is not.
    """
    if not all(bool(np.isfinite(one).all()) for one in values):  # slice by slice, for memory
        raise InputError(NOT_NUMBERS)
