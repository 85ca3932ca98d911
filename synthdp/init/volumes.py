"""Volumes among one's own images: which there are, and how they become a set."""

from collections.abc import Sequence
from pathlib import Path

from synthdp.data.dicom.header import read_header
from synthdp.data.importing.folders.folder import FolderContents, folder_contents
from synthdp.data.importing.folders.volumes import slices_in, source_volumes, volumes_of
from synthdp.data.volumes.arrays import SUFFIXES
from synthdp.data.volumes.nifti import is_nifti
from synthdp.errors import InputError, quoted
from synthdp.init.asking import Ask, needed

#: What a set of volumes begins with: slices, and their side.
DEPTH, SIZE_PX = 32, 64


def volumes_in(images: Path, *, asked: bool) -> list[Path] | None:
    """The volumes of a folder; None where its images are flat.

    NIfTI files and arrays are volumes; that DICOM files are slices of some, somebody must say.

    Raises:
        InputError: when volumes are `asked` for and there is none.
    """
    contents = folder_contents(images)
    if not asked and not _all_volumes(contents):
        return None
    volumes = list(volumes_of(contents, images).images)
    if not volumes:
        raise InputError(
            "--volumes: the folder holds none; name one with NIfTI files, .npy or .npz files, or a "
            "folder of DICOM slices for each"
        )
    return volumes


def _all_volumes(contents: FolderContents) -> bool:
    """Whether there are NIfTI files, and no flat image among them."""
    files = source_volumes(contents)
    others = [path for path in contents.images if path.suffix.lower() not in SUFFIXES]
    return bool(files) and not others and any(map(is_nifti, files))


def form_lines(volumes: Sequence[Path], window: str | None, ask: Ask | None) -> str:
    """The lines that say what volumes become.

    Raises:
        InputError: when they are of a CT and nobody says its window, or it is none.
    """
    question = (
        "Values that become black and white, such as -160,240 (Hounsfield units) for the abdomen "
        "or -1000,400 for the chest in CT, or full for the whole range of each volume"
    )
    default = "" if _is_ct(volumes[0]) else "full"
    text = needed(window, "--window", question, ask, default)
    shown = text if text == "full" else _limits(text)
    return (
        f"size_px: {SIZE_PX}\nvolumes:\n  depth: {DEPTH} # slices of each volume\n"
        f"  window: {shown} # values that become black and white\n"
        "  # spacing_mm: [5, 4, 4] # for a box of one size in millimetres; else volumes are fitted "
        "in whole\n"
    )


def _limits(text: str) -> str:
    try:
        low, high = (float(word) for word in text.strip("[]").split(","))
    except ValueError as error:
        raise InputError(
            f"--window: {quoted(text)}: two numbers, black first, as -160,240, or full"
        ) from error
    if not low < high:
        raise InputError(f"--window: {quoted(text)}: black comes first, and is the lower number")
    return f"[{low:g}, {high:g}]"


def _is_ct(volume: Path) -> bool:
    """Whether its first slice says so; one that can't be read says nothing here."""
    if not volume.is_dir():
        return False
    try:
        return read_header(slices_in(volume)[0]).modality == "CT"
    except (InputError, IndexError):
        return False
