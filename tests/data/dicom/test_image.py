"""What is seen of a DICOM image, whatever way it is stored in."""

from pathlib import Path

import numpy as np
import pytest
from dicom_files import a_ramp, write_mammogram

from synthdp.data.dicom import read_dicom


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.dcm"


def seen(pixels: np.ndarray) -> np.ndarray:
    """Stored values spread from the least to the greatest, as floats of 0 to 1."""
    low, high = float(pixels.min()), float(pixels.max())
    return (pixels.astype(float) - low) / (high - low)


def test_twelve_bits_fill_sixteen_and_the_facts_are_read(path: Path) -> None:
    image = read_dicom(write_mammogram(path))
    assert image.pixels.dtype == np.uint16
    np.testing.assert_allclose(image.pixels / 65535, seen(a_ramp()), atol=1e-5)
    assert (image.header.modality, image.header.view, image.header.laterality) == ("MG", "MLO", "L")
    assert image.header.patient_id == "P-1"
    assert "P-1" not in repr(image.header)
