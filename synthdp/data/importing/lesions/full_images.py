"""Full images of which lesions are cut: each is read once, however many lesions it shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthdp.data.decoding import decode_pixels, refuse_narrow
from synthdp.data.dicom.file import looks_like_dicom
from synthdp.data.dicom.image import read_dicom
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.importing.lesions.crops import Pixels, crops, mask_region, squares_around
from synthdp.data.importing.lesions.region import Region
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.settings.lesions import CropSettings
from synthdp.errors import InputError
from synthdp.storage.files import refuse_without_descriptors

#: Full images in a file of prepared ones (`prepare`): each takes as long as hundreds of patches.
FULL_IMAGES_AT_ONCE = 8
_BEGINNING = 256


@dataclass(frozen=True)
class FullImage:
    """A file that holds a full image, and where its lesions lie: regions, or files of masks."""

    path: Path
    lesions: tuple[Region | Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The image's and those of its masks."""
        return (self.path, *(one for one in self.lesions if isinstance(one, Path)))


def full_images(patches: Sequence[Patch]) -> Iterator[tuple[FullImage, tuple[Patch, ...]]]:
    """The full images of listed lesions, in the order of the first of each, and their patches."""
    of_path: dict[Path, list[Patch]] = {}
    for patch in patches:
        of_path.setdefault(patch.path, []).append(patch)
    for path, together in of_path.items():
        lesions = tuple(patch.lesion for patch in together if patch.lesion is not None)
        yield FullImage(path, lesions), tuple(together)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content; not, where it can't be read."""
    try:
        with open(path, "rb") as stream:
            return looks_like_dicom(stream.read(_BEGINNING))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            refuse_without_descriptors(error)
        return False


def read_lesions(
    source: FullImage, *, crop: CropSettings, reading: DicomReading, bits: int | None, size_px: int
) -> list[Pixels | InputError]:
    """The crops of each lesion of a full image, (size_px, size_px) each: its own, then extra ones.

    Args:
        source: the file, and its lesions.
        crop: how they are cut.
        reading: which DICOM images are taken.
        bits: how many bits of a file of 16 are used, where it does not say.
        size_px: the side that crops are averaged to.

    Returns:
        For each lesion in turn `crop.crops` of them, or as often what is wrong with it.

    Raises:
        InputError: when the full image can't be read.
    """
    pixels, spacing_mm = full_pixels(source.path, reading, bits)
    made: list[Pixels | InputError] = []
    for lesion in source.lesions:
        try:
            region = lesion_region(lesion, pixels.shape, reading)
            squares = squares_around(region, crop, spacing_mm=spacing_mm)
            made += crops(pixels, squares, crop, size_px)
        except InputError as error:
            made += [error] * crop.crops
    return made


def full_pixels(path: Path, reading: DicomReading, bits: int | None) -> tuple[Pixels, float | None]:
    """A full (H, W) image, and the mm from pixel to pixel where the file says so.

    Raises:
        InputError: when it can't be read, or uses less than a sixteenth of its grey levels.
    """
    spacing_mm = None
    if is_dicom(path):
        image = read_dicom(path, reading)
        pixels: Pixels = image.pixels
        if image.header.spacing_mm is not None:
            spacing_mm = min(image.header.spacing_mm)  # so much is covered in both directions
    else:
        pixels = decode_pixels(path, bits=bits)
    refuse_narrow(pixels)
    return pixels, spacing_mm


def read_mask(path: Path, reading: DicomReading) -> Pixels:
    """A mask (H, W), over its whole range: its header's window could bring both values to one.

    Raises:
        InputError: as `decode_pixels`.
    """
    return decode_pixels(path, reading=reading.model_copy(update={"window": "full"}))


def lesion_region(lesion: Region | Path, shape: tuple[int, ...], reading: DicomReading) -> Region:
    """Where a lesion lies in a full image of (H, W) `shape`, by its region or its mask.

    Raises:
        InputError: when it lies outside, or the mask is empty, of another size, or none.
    """
    height, width = shape
    if isinstance(lesion, Region):
        try:
            return lesion.within(height, width)
        except ValueError as error:
            raise InputError(str(error)) from error
    try:
        mask = read_mask(lesion, reading)
    except InputError as error:
        raise InputError(f"the mask: {error}") from error
    if mask.shape != (height, width):
        raise InputError(
            f"the mask has {mask.shape[1]} x {mask.shape[0]} px where its image has {width} x "
            f"{height}; it is of another image, or was scaled: name the right one"
        )
    return mask_region(mask)
