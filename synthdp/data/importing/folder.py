"""What stands in a folder: its images, and by kind what is not taken."""

import os
from collections import Counter
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from synthdp.files import folders_below, refuse_without_descriptors

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
#: Others are not named in messages, since the end of a name may hold part of an id.
OTHER_SUFFIXES = (".jpg", ".jpeg", ".bmp", ".pgm", ".dcm", ".npy", ".csv", ".txt", ".json")
LINKED_FOLDERS = "linked folders"
#: Files that would be images under another name: hidden ones, and those without a known suffix.
UNNAMED_IMAGES = "images that are hidden, or whose names do not end as an image's"
UNREAD_FILES = "other files that cannot be read"
#: How PNG, TIFF and JPEG begin; DICOM has its mark behind a preamble.
_IMAGES_BEGIN = (b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"\xff\xd8\xff")
_DICOM_AT, _BEGINNING = 128, 132


def files_below(src: Path) -> tuple[list[Path], dict[str, int], list[str]]:
    """Images below `src` in the order of their paths, counts of what else stands there, problems.

    A folder that may not be read is a problem: what it holds would be left out unseen.

    Raises:
        RunError: when the system has no file descriptor left, so that nobody knows what is there.
    """
    names, other, links = [], Counter[str](), 0
    folders, unread = folders_below(src)
    for folder, subfolders, files in folders:
        links += sum((folder / name).is_symlink() for name in subfolders)
        for name in files:
            suffix = Path(name).suffix.lower()
            if suffix in IMAGE_SUFFIXES and not name.startswith("."):
                names.append(folder / name)
            elif _leads_nowhere(folder / name):
                links += 1
            else:
                other[other_kind(folder / name)] += 1
    problems = []
    if unread:
        problems.append(
            f"{unread} folder(s) cannot be read, so what they hold would be left out; give the "
            "user that runs this the right to read them, or move them away"
        )
    return sorted(names), {**dict(sorted(other.items())), LINKED_FOLDERS: links}, problems


def other_kind(path: Path) -> str:
    """What a file that is not taken is counted as: by its suffix, else by how it begins.

    Raises:
        RunError: when no file descriptor is left.
    """
    suffix = path.suffix.lower()
    if suffix in OTHER_SUFFIXES:
        return f"{suffix} files"
    try:
        with open(path, "rb") if path.is_file() else BytesIO() as stream:
            begins = stream.read(_BEGINNING)
    except OSError as error:
        refuse_without_descriptors(error)
        return UNREAD_FILES
    is_dicom = begins[_DICOM_AT:] == b"DICM"
    return UNNAMED_IMAGES if is_dicom or begins.startswith(_IMAGES_BEGIN) else "other files"


def _leads_nowhere(path: Path) -> bool:
    """Whether a file may be a link to a folder that can't be reached, as on a disk not mounted.

    Links of hidden names are locks of editors.
    """
    named_as_folder = not path.name.startswith(".") and path.suffix.lower() not in OTHER_SUFFIXES
    return named_as_folder and path.is_symlink() and not os.path.exists(path)


def linked_folder_problems(left_out: Mapping[str, int]) -> list[str]:
    """What to say of folders that are links, where nothing else names the images."""
    if not left_out[LINKED_FOLDERS]:
        return []
    return [
        f"{left_out[LINKED_FOLDERS]} folder(s) are links, which are not followed or lead "
        "nowhere; put the folders themselves there"
    ]
