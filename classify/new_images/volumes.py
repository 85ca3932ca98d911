"""Volumes of a folder as a set would hold them, found and read as by an import."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classify.features.input_form import InputForm
from synthdp.data.dataset import raise_problems
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.images import to_float
from synthdp.data.importing.folders.folder import folder_contents
from synthdp.data.importing.folders.volumes import slices_in, source_volumes, volumes_of
from synthdp.data.importing.images.volumes import VolumeFiles, read_volume
from synthdp.errors import InputError
from synthdp.machine.progress import progress

#: Volumes from one place to before another, (n, D, S, S) float32 in [-1, 1].
Volumes = Callable[[int, int], NDArray[np.float32]]


@dataclass(frozen=True)
class NewVolume:
    """A volume to score: its name below the folder that was given, and its files."""

    name: str
    source: VolumeFiles


def find_volumes(folder: Path, follow_links_into: Sequence[Path] = ()) -> tuple[NewVolume, ...]:
    """The volumes of a folder in the order of their paths; of a series' own folder that one.

    Raises:
        InputError: when there is none, or slices of a series stand beside folders of others.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name one that holds the volumes")
    contents = folder_contents(folder, follow_links_into)
    files = source_volumes(contents)
    if files and files == list(slices_in(folder)):
        return (NewVolume(folder.resolve().name, VolumeFiles(folder, tuple(files))),)
    listed = volumes_of(contents, folder)
    raise_problems(f"{folder.name}: nothing was scored", listed.problems)
    if not listed.images:
        raise InputError(
            f"{folder}: holds no volume, so there is nothing to score; name a folder of NIfTI "
            "files, of .npy or .npz files, or of folders with the DICOM slices of one series each"
        )
    return tuple(
        NewVolume(
            path.relative_to(folder).as_posix(),
            VolumeFiles(path, slices_in(path) if path.is_dir() else (path,)),
        )
        for path in listed.images
    )


def read_volumes(
    volumes: Sequence[NewVolume],
    form: InputForm,
    scratch: Path,
    *,
    bits: int | None = None,
    reading: DicomReading | None = None,
) -> Volumes:
    """Read volumes once, into a file below `scratch`; gives them from one place to before another.

    Raises:
        InputError: with all that is wrong, by number and never by name.
    """
    assert form.volumes is not None
    assert form.depth is not None
    shape = (len(volumes), form.depth, form.size_px, form.size_px)
    kept = np.memmap(scratch / "volumes", np.uint8, mode="w+", shape=shape)
    problems = []
    for index, volume in enumerate(progress(volumes, what="reading volumes")):
        try:
            (stack,) = read_volume(
                volume.source, form=form.volumes, size_px=form.size_px, bits=bits, reading=reading
            )
        except InputError as error:
            problems.append(f"volume {index + 1}: {error}")
        else:
            kept[index] = stack.reshape(shape[1:])
    raise_problems("nothing was scored (volumes are counted in the order of their paths)", problems)

    def between(begin: int, end: int) -> NDArray[np.float32]:
        return to_float(np.asarray(kept[begin:end]))

    return between
