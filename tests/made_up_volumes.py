"""Volumes that tests write: a bright box in a corner that no flip leaves where it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dicom_files import mammogram, save
from numpy.typing import NDArray
from pydicom.dataset import Dataset

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


def a_volume(depth: int = 12, height: int = 10, width: int = 8) -> NDArray[np.int16]:
    """Values -1000, and 500 in a box of the first slices, rows and columns; (D, H, W)."""
    values = np.full((depth, height, width), -1000, dtype=np.int16)
    values[: depth // 3, : height // 2, : width // 2] = 500
    return values


def write_series(
    folder: Path,
    values: NDArray[np.int16] | None = None,
    *,
    heights_mm: Sequence[float] | None = None,
    lean_mm: float = 0.0,
    person: int = 1,
    **others: Any,
) -> list[Path]:
    """A CT series, a file a slice, rows 2 mm and columns 2 mm apart.

    `heights_mm` are where slices lie (4 mm apart by default), and each leans `lean_mm` further to
    the back than the one before. `others` are elements of every slice.
    """
    values = a_volume() if values is None else values
    folder.mkdir(parents=True, exist_ok=True)
    heights = [4.0 * index for index in range(len(values))] if heights_mm is None else heights_mm
    paths = []
    for index, (pixels, height) in enumerate(zip(values, heights, strict=True)):
        elements = {
            "SOPClassUID": CT_STORAGE,
            "SOPInstanceUID": f"2.25.{1 + person}000{index}",
            "StudyInstanceUID": f"2.25.{5000 + person}",
            "SeriesInstanceUID": f"2.25.{7000 + person}",
            "Modality": "CT",
            "PatientID": f"P-{person}",
            "PixelSpacing": [2.0, 2.0],
            "ImagePositionPatient": [0.0, lean_mm * index, height],
            "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            "PixelRepresentation": 0,
        } | others
        dataset: Dataset = mammogram((pixels + 1024).astype(np.uint16), **elements)
        paths.append(save(dataset, folder / f"slice{index:03d}.dcm"))
    return paths
