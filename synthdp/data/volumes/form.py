"""The form that every volume of a set is brought to: what the settings of an import say of it."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Protocol

from pydantic import BeforeValidator, Field, model_validator

from synthdp.config.settings import Settings

#: The side of an image's file, whose slices stand one below the other (`formats.limits`).
MAX_STACK_PX = 8192
#: Where an index may grow to, by the axis of the patient: Left or Right, Posterior or Anterior,
#: Superior or Inferior. Coordinates (LPS) grow to the first of each.
_ENDS = ("LR", "PA", "SI")
PHYSICAL_AXES = {letter: axis for axis, ends in enumerate(_ENDS) for letter in ends}


def _three(value: Any) -> Any:
    return (value,) * 3 if isinstance(value, int | float) else value


Millimetres = Annotated[float, Field(gt=0, le=1000)]


class VolumeForm(Settings):
    """What every volume of a set becomes.

    Nothing of it is read from the volumes: `depth`, side, spacing and window are public.
    """

    depth: int = Field(default=32, ge=1, le=1024)
    """Slices of each volume in the set, each of `size_px` by `size_px` pixels."""

    spacing_mm: Annotated[
        tuple[Millimetres, Millimetres, Millimetres] | None, BeforeValidator(_three)
    ] = None
    """Distance between voxels of what is made, one number or one each for slices, rows and columns:
    a box of `depth` x `size_px` x `size_px` such voxels about the middle of the volume, which is
    cut, or black where it reaches beyond. When not set, the whole volume is fitted in: a slice
    padded to a square, and as many slices as there are made `depth`.
    Example: [3, 1.5, 1.5]
    """

    array_spacing_mm: Annotated[
        tuple[Millimetres, Millimetres, Millimetres] | None, BeforeValidator(_three)
    ] = None
    """Distance between the voxels of arrays (.npz, .npy), which say none themselves.
    Example: [1, 1, 1]
    """

    orientation: str = Field(default="SPL", pattern=r"^([LRPASI]{3}|stored)$")
    """Where slices, rows and columns grow to, by letters: Superior or Inferior, Posterior or
    Anterior, Left or Right. SPL are axial slices from the feet up, as radiologists look at them;
    ASL would be coronal ones. `stored` leaves the axes of files as they are. Arrays say nothing of
    directions, and stay as they are: slices, rows, columns.
    """

    window: tuple[float, float] | Literal["full"] | None = None
    """The values that become black and white, in the unit of the file: Hounsfield units of a CT,
    where it must be said. `full` spreads the lowest to the highest value of each volume; so does
    nothing, save for unsigned values of 8 bits (and of `bits`), which keep their own range.
    Example: [-1000, 400]
    """

    gaps: Literal["refuse", "resample"] = "refuse"
    """About slices that are not equally far from each other, as where one is missing: `resample`
    makes up equal ones between them.
    """

    tilt: Literal["refuse", "resample"] = "refuse"
    """About a stack that leans, as with a tilted gantry: `resample` moves its slices until they lie
    right above each other.
    """

    @model_validator(mode="after")
    def _orientation_names_three_axes(self) -> "VolumeForm":
        letters = self.orientation
        if letters != "stored" and len({PHYSICAL_AXES[letter] for letter in letters}) < 3:
            raise ValueError(
                "orientation: one letter each of S or I, P or A, L or R, in the order of slices, "
                "rows, columns; as SPL"
            )
        return self

    @model_validator(mode="after")
    def _window_has_a_width(self) -> "VolumeForm":
        if isinstance(self.window, tuple) and self.window[0] >= self.window[1]:
            raise ValueError("window: the value of black comes first, and is the lower one")
        return self


#: What of a form two sets of volumes must have in common, to be seen alike by a network. What is
#: done about gaps and tilt, and how far the voxels of arrays are apart, is of the files.
_SEEN = ("spacing_mm", "orientation", "window")


class FormedVolumes(Protocol):
    """What says how volumes were brought to their form, where they are volumes and it is known."""

    @property
    def size_px(self) -> int:
        """Side of a slice."""

    @property
    def depth(self) -> int | None:
        """Slices of a volume; None of flat images."""

    @property
    def volumes(self) -> VolumeForm | None:
        """How they were made of scans; None where they were drawn."""


def form_differences(other: FormedVolumes, known: FormedVolumes) -> Iterator[str]:
    """In which settings volumes are of another form than known ones, as `depth 24 and not 32`.

    Of volumes that were drawn size and depth alone are known; of flat images there is nothing.
    """
    if other.depth is None or known.depth is None:
        return
    pairs: list[tuple[str, Any, Any]] = [
        (name, getattr(other, name), getattr(known, name)) for name in ("size_px", "depth")
    ]
    if other.volumes is not None and known.volumes is not None:
        pairs += [
            (f"volumes.{name}", getattr(other.volumes, name), getattr(known.volumes, name))
            for name in _SEEN
        ]
    for name, value, wanted in pairs:
        if value != wanted:
            yield f"{name} {_words(value)} and not {_words(wanted)}"


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(f'{number:g}' for number in value)}]"
    return "none" if value is None else str(value)


def is_positive(letter: str) -> bool:
    """Whether an index that grows to there grows as coordinates of the patient do (LPS)."""
    return letter in "LPS"
