"""Which volumes stand in a folder: files that are one, and folders whose DICOM files are one."""

import os
from collections.abc import Iterable
from pathlib import Path

from synthdp.data.decoding import DICOM, kind_of
from synthdp.data.importing.folders.folder import UNNAMED_IMAGES, FolderContents
from synthdp.data.volumes.arrays import SUFFIXES as ARRAY_SUFFIXES
from synthdp.data.volumes.nifti import is_nifti
from synthdp.storage.files import refuse_without_descriptors

FLAT = "flat images, among volumes"
_DICOM_SUFFIXES = (".dcm", ".dicom")
_BEGINNING = 132


def volumes_of(contents: FolderContents, src: Path) -> FolderContents:
    """The volumes among what stands in a folder, in the order of paths.

    NIfTI files and arrays are one each; all DICOM files of one folder are one together, under the
    folder's path.
    """
    volumes, problems = set[Path](), list(contents.problems)
    others = dict(contents.others)
    loose = 0
    for path in source_volumes(contents):
        others.pop(path, None)
        if is_nifti(path) or path.suffix.lower() in ARRAY_SUFFIXES:
            volumes.add(path)
        elif path.parent == src:
            loose += 1
        else:
            volumes.add(path.parent)
    others |= {
        path: FLAT
        for path in contents.images
        if path not in volumes and path.parent not in volumes and path.parent != src
    }
    if loose:
        problems.append(
            f"{loose} DICOM file(s) stand in `src` itself, where it can't be told which are one "
            "volume; put the slices of each volume into a folder of its own below it"
        )
    return FolderContents(tuple(sorted(volumes)), others, contents.skipped, tuple(problems))


def source_volumes(contents: FolderContents) -> list[Path]:
    """Every file that is a volume or a slice of one."""
    unnamed = [path for path, reason in contents.others.items() if reason == UNNAMED_IMAGES]
    nifti = [path for path in contents.others if is_nifti(path)]
    images = [path for path in (*contents.images, *unnamed) if _is_array_or_slice(path)]
    return sorted({*nifti, *images})


def _is_array_or_slice(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in (*ARRAY_SUFFIXES, *_DICOM_SUFFIXES) or _begins_as_dicom(path)


def _begins_as_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            return kind_of(stream.read(_BEGINNING)) == DICOM
    except OSError as error:
        refuse_without_descriptors(error)
        return False


def slices_in(folder: Path) -> tuple[Path, ...]:
    """The DICOM files of one folder, in the order of their names."""
    return tuple(
        path
        for path in sorted(_files(folder))
        if path.suffix.lower() in _DICOM_SUFFIXES or _begins_as_dicom(path)
    )


def _files(folder: Path) -> Iterable[Path]:
    try:
        with os.scandir(folder) as entries:
            return [
                folder / entry.name
                for entry in entries
                if entry.is_file() and not entry.name.startswith(".")
            ]
    except OSError as error:
        refuse_without_descriptors(error)
        return []
