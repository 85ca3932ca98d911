"""Volumes of an import: each read once by the reader of its kind, and brought to the set's form."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from synthdp.data.dicom.reading import DicomReading
from synthdp.data.importing.folders.arrays import entry_of
from synthdp.data.importing.folders.volumes import slices_in
from synthdp.data.importing.images.prepare import PreparedImages, prepare
from synthdp.data.importing.images.survey import Pixels
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.volumes.arrays import read_array, scan_of
from synthdp.data.volumes.form import VolumeForm
from synthdp.data.volumes.nifti import is_nifti, read_nifti
from synthdp.data.volumes.series import read_series
from synthdp.data.volumes.slices import formed

#: Volumes in a file of prepared ones: what a kill costs at most, for each process.
VOLUMES_AT_ONCE = 4


@dataclass(frozen=True)
class VolumeFiles:
    """What one volume is read from: a file, an index of an array in it, or a folder's slices."""

    path: Path
    files: tuple[Path, ...]
    entry: tuple[str, int] | None = None


def read_volume(
    source: VolumeFiles,
    *,
    form: VolumeForm,
    size_px: int,
    bits: int | None = None,
    reading: DicomReading | None = None,
) -> list[Pixels]:
    """The one volume of a source, as a stack of slices (D * S, S).

    Raises:
        InputError: as the readers of each kind, and `formed`.
    """
    if source.entry is not None:
        scan = scan_of(entry_of(source.path, *source.entry), bits=bits)
    elif source.path.is_dir():
        scan = read_series(source.files, reading)
    elif is_nifti(source.path):
        scan = read_nifti(source.path, stored=form.orientation == "stored")
    else:
        scan = read_array(source.path, bits=bits)
    return [formed(scan, form, size_px)]


def prepare_volumes(
    patches: Sequence[Patch], settings: PatchesSettings, form: VolumeForm, staging: Path
) -> PreparedImages:
    """Read every volume once, and bring it to the form of the set; as `prepare`."""
    sources = [
        VolumeFiles(
            patch.path,
            slices_in(patch.path) if patch.path.is_dir() else (patch.path,),
            patch.entry,
        )
        for patch in patches
    ]
    read = partial(
        read_volume,
        form=form,
        size_px=settings.size_px,
        bits=settings.bits,
        reading=settings.dicom,
    )
    return prepare(
        sources,
        read,
        staging=staging,
        size_px=None,
        workers=settings.workers,
        at_once=VOLUMES_AT_ONCE,
    )
