"""Import volumes as a data set: listed, labelled and split as flat images are, read otherwise."""

from dataclasses import replace
from pathlib import Path

from synthdp.data.dicom.header import DicomHeader
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.importing.dicom import read_headers, torn_person_problems
from synthdp.data.importing.folders.volumes import slices_in
from synthdp.data.importing.listing import Listing, list_patches
from synthdp.data.importing.patches import import_once
from synthdp.data.importing.patients.links import read_links
from synthdp.data.importing.settings.volumes import VolumesSettings


def run_volumes(settings: VolumesSettings) -> Path:
    """Import the volumes below `src` to the data set `out`; returns `out`.

    Nothing of a header is kept. Labels are those of names or rows, as for flat images, so that a
    class means the same in every split, whatever stands there and in which order.

    Guarantee: as `run_patches`.

    Raises:
        InputError: as `run_patches`; also when a volume is not of equal gaps, leans, is in colour,
            over time, not whole, or of several patients.
    """
    return import_once(settings, lambda: checked_by_headers(list_patches(settings), settings))


def checked_by_headers(listing: Listing, settings: VolumesSettings) -> Listing:
    """The listing, with the persons of which headers say that they are one."""
    if settings.header_ids != "compare" or settings.images_are_patients:
        return listing
    series = [patch.path for patch in listing.patches if patch.path.is_dir()]
    first = [next(iter(slices_in(folder)), folder) for folder in series]
    read = read_headers(first, settings.dicom or DicomReading())
    headers: dict[Path, DicomHeader] = {
        folder: header for folder, header in zip(series, read, strict=True) if header is not None
    }
    person_of = read_links(settings.links) if settings.links is not None else {}
    torn = torn_person_problems(listing, headers, person_of)
    return replace(listing, problems=(*listing.problems, *torn))
