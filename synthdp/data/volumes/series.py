"""The DICOM files of one folder as one volume: a series of one patient, without a doubt."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from synthdp.data.dicom.header import DicomHeader, read_header, same_instance
from synthdp.data.dicom.image import read_slice
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.volumes.scan import MAX_SLICES, Scan, refuse_not_numbers, refuse_shape
from synthdp.errors import InputError

_ONE_EACH = "put each volume into a folder of its own, or name one folder for each in the table"
#: How far directions, and distances between pixels, of two slices of one volume may differ.
_ALIKE = 1e-3

#: What all slices of a volume must have in common, and what is said where they don't.
_SHARED: tuple[tuple[Callable[[DicomHeader], object], str], ...] = (
    (lambda header: header.patient_id, "of several patients (PatientID)"),
    (lambda header: header.study_uid, "of several studies"),
    (lambda header: header.series_uid, "of several series"),
    (lambda header: header.modality, "of several modalities"),
    (lambda header: (header.height_px, header.width_px), "of several sizes"),
)


def read_series(files: Sequence[Path], reading: DicomReading | None = None) -> Scan:
    """Read the slices of one volume, in any order.

    Headers are read and compared before any pixel is. Where slices lie is said by
    ImagePositionPatient and ImageOrientationPatient alone, never by names or instance numbers.

    Args:
        files: of the slices.
        reading: which images are taken; by its defaults when None.

    Raises:
        InputError: when one of them is damaged or not taken; when they are not of one volume of
            one patient, or do not say where they lie. The message names no file and no patient.
    """
    reading = DicomReading() if reading is None else reading
    if reading.window != "full":
        raise InputError(
            "dicom.window: the window of a volume is named by `window`, alike for all volumes; "
            "leave it out of `dicom`"
        )
    if not 2 <= len(files) <= MAX_SLICES:
        raise InputError(
            f"a series of {len(files)} slice(s), where 2 to {MAX_SLICES} are expected; bring the "
            "others, or import single slices by `synthdp data patches`"
        )
    headers = [_of_slice(number, path, reading) for number, path in enumerate(files, start=1)]
    _refuse_mixed(headers)
    first = headers[0]
    refuse_shape((len(files), first.height_px, first.width_px))
    values = np.empty((len(files), first.height_px, first.width_px), dtype=np.float32)
    padding = np.zeros(values.shape, dtype=bool)
    inverted = set()
    for index, path in enumerate(files):
        try:
            _, seen = read_slice(path, reading)
        except InputError as error:
            raise InputError(f"slice {index + 1} in the order of names: {error}") from error
        values[index], padding[index] = seen.values, seen.padding
        inverted.add(seen.inverted)
    if len(inverted) > 1:
        raise InputError("holds slices that are negatives beside others that are none; repair them")
    refuse_not_numbers(values)
    along_row, along_column = np.reshape(first.directions, (2, 3))
    assert first.spacing_mm is not None
    row_mm, column_mm = first.spacing_mm
    return Scan(
        values,
        positions=np.array([header.position_mm for header in headers]),
        row_step=along_column * row_mm,
        column_step=along_row * column_mm,
        padding=padding if padding.any() else None,
        inverted=inverted.pop(),
        modality=first.modality,
    )


def _of_slice(number: int, path: Path, reading: DicomReading) -> DicomHeader:
    try:
        header = read_header(path, reading)
    except InputError as error:
        raise InputError(f"slice {number} in the order of names: {error}") from error
    sizes = len(header.position_mm), len(header.directions)
    if sizes != (3, 6) or header.spacing_mm is None:
        raise InputError(
            f"slice {number} in the order of names does not say where it lies "
            "(ImagePositionPatient, ImageOrientationPatient, PixelSpacing); take a localizer or a "
            "report out of the folder"
        )
    return header


def _refuse_mixed(headers: Sequence[DicomHeader]) -> None:
    """Refuse slices that are not of one volume.

    Raises:
        InputError: saying in what they differ.
    """
    if copies := same_instance(headers):
        raise InputError(
            f"{sum(len(group) - 1 for group in copies)} of its slices are copies of another one "
            "(the same SOP instance); keep one of each"
        )
    for fact, words in _SHARED:
        if len({fact(header) for header in headers}) > 1:
            raise InputError(f"the folder holds slices {words}; {_ONE_EACH}")
    directions = np.array([header.directions for header in headers])
    spacings = np.array([header.spacing_mm for header in headers])
    for numbers, words in (
        (directions, "that face several ways, as with a localizer"),
        (spacings, "with several distances between pixels"),
    ):
        if float(np.ptp(numbers, axis=0).max()) > _ALIKE:
            raise InputError(f"the folder holds slices {words}; {_ONE_EACH}")
