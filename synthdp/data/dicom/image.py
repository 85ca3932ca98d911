"""One DICOM image: its facts and its grey levels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dicom.file import only_input_errors, parse
from synthdp.data.dicom.grey import UnitValues, grey_levels, unit_values
from synthdp.data.dicom.header import DicomHeader, header_of
from synthdp.data.dicom.pixels.stored import stored_pixels
from synthdp.data.dicom.reading import DicomReading


@dataclass(frozen=True)
class DicomImage:
    """(H, W) grey levels as they are to be seen, 0 black, over the full range of their type."""

    header: DicomHeader
    pixels: NDArray[np.uint8] | NDArray[np.uint16]


def read_dicom(path: Path, reading: DicomReading | None = None) -> DicomImage:
    """Read one image.

    Args:
        path: of the file.
        reading: which images are taken, and how grey levels are made; by its defaults when None.

    Raises:
        InputError: when the file is missing, damaged, or holds an image that is not taken. The
            message names neither the file nor anybody in it.
    """
    reading = DicomReading() if reading is None else reading
    dataset = parse(path, pixels=True)
    with only_input_errors():
        header = header_of(dataset, reading)
        stored = stored_pixels(dataset, (header.height_px, header.width_px))
        pixels = grey_levels(dataset, stored, window=reading.window, polarity=reading.polarity)
    return DicomImage(header, pixels)


def read_slice(path: Path, reading: DicomReading | None = None) -> tuple[DicomHeader, UnitValues]:
    """Read one slice of a volume: its header, and its values in the unit of the modality.

    Args:
        path: of the file.
        reading: which images are taken; by its defaults when None. Its `window` is not used.

    Raises:
        InputError: as `read_dicom`.
    """
    reading = DicomReading() if reading is None else reading
    dataset = parse(path, pixels=True)
    with only_input_errors():
        header = header_of(dataset, reading)
        stored = stored_pixels(dataset, (header.height_px, header.width_px))
        return header, unit_values(dataset, stored, polarity=reading.polarity)
