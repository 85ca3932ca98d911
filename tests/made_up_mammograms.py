"""Made-up mammograms: DICOM files, and CBIS-DDSM's tables and folders as TCIA serves them."""

from dataclasses import dataclass, field
from pathlib import Path

import dicom_files
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
SIDES = {"L": "LEFT", "R": "RIGHT"}
COLUMNS = {
    "mass": (
        "patient_id,breast_density,left or right breast,image view,abnormality id,"
        "abnormality type,mass shape,mass margins,assessment,pathology,subtlety,"
        "image file path,cropped image file path,ROI mask file path"
    ),
    "calc": (
        "patient_id,breast density,left or right breast,image view,abnormality id,"
        "abnormality type,calc type,calc distribution,assessment,pathology,subtlety,"
        "image file path,cropped image file path,ROI mask file path"
    ),
}


def uid(text: str) -> str:
    """A UID of its own for each text."""
    return "1.2.826.0.1." + str(int.from_bytes(text.encode(), "big") % 10**38 + 10**38)


def breast(seed: int, height_px: int = 240, width_px: int = 160, bits: int = 16) -> Pixels:
    """A smooth half disc with texture on black."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height_px, :width_px]
    inside = ((y - height_px / 2) / height_px) ** 2 + (x / width_px) ** 2 < 0.24
    waves = sum(
        np.sin(x / rng.uniform(5, 40) + rng.uniform(0, 6)) * np.cos(y / rng.uniform(5, 40))
        for _ in range(4)
    )
    grey = np.where(inside, 0.5 + 0.08 * waves + rng.uniform(-0.1, 0.1, x.shape), 0.0)
    top = 2**bits - 1
    kind = np.uint8 if bits == 8 else np.uint16
    pixels: Pixels = (np.clip(grey, 0, 1) * top).astype(kind)
    return pixels


def mammogram(pixels: Pixels, name: str, **tags: object) -> Dataset:
    """A Secondary Capture of modality MG, as the files of CBIS-DDSM are; `name` makes its UIDs."""
    bits = 8 * pixels.dtype.itemsize
    of_all = {
        "SOPClassUID": SecondaryCaptureImageStorage,
        "SOPInstanceUID": uid(name),
        "SeriesInstanceUID": uid(f"{name} series"),
        "StudyInstanceUID": uid(f"{name} study"),
        "PatientID": f"id-{name}",
        "PatientName": f"Name^{name}",
        "StudyDate": "20160807",
        "BitsStored": bits,
        "HighBit": bits - 1,
    }
    one = dicom_files.mammogram(pixels, **of_all)
    del one.ImageLaterality, one.ViewPosition
    one["PixelData"].VR = "OB" if bits == 8 else "OW"
    for tag, value in tags.items():
        setattr(one, tag, value)
    return one


def write(one: Dataset, path: Path) -> Path:
    """Write a file, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return dicom_files.save(one, path)


@dataclass
class Lesion:
    """One row of a table of CBIS-DDSM: `box` is left, top, right, bottom."""

    box: tuple[int, int, int, int] = (60, 90, 100, 140)
    pathology: str = "MALIGNANT"
    swapped: bool = False  # mask and crop stand in each other's file, as at TCIA
    mask: Pixels | None = None  # instead of the box's own


@dataclass
class Image:
    """One full mammogram and its lesions."""

    patient: str
    side: str = "L"
    view: str = "CC"
    lesions: list[Lesion] = field(default_factory=lambda: [Lesion()])
    kind: str = "mass"
    split: str = "train"
    density: int = 2

    @property
    def case(self) -> str:
        """The name of the folder of its case."""
        official = {"train": "Training", "test": "Test"}[self.split]
        return f"{self.kind.capitalize()}-{official}_{self.patient}_{SIDES[self.side]}_{self.view}"

    @property
    def pixels(self) -> Pixels:
        """Its full image."""
        return breast(sum(map(ord, self.case)))


def write_tcia(root: Path, images: list[Image], *, layout: str = "retriever") -> None:
    """Write full images, masks, crops and tables; `layout` is `table`, `classic` or `retriever`."""
    lines: dict[str, list[str]] = {}
    for image in images:
        name = f"{image.kind}_case_description_{image.split}_set.csv"
        table = lines.setdefault(name, [COLUMNS[image.kind]])
        table += _write_image(root, image, layout)
    for name, rows in lines.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("\n".join(rows) + "\n")


def _write_image(root: Path, image: Image, layout: str) -> list[str]:
    full = image.pixels
    tags = {"PatientOrientation": image.view, "Laterality": image.side}
    one = mammogram(full, image.case, PatientID=image.case, **tags)
    study, series = one.StudyInstanceUID, one.SeriesInstanceUID
    write(one, _place(root, layout, image.case, one, 1))
    rows = []
    for number, lesion in enumerate(image.lesions, start=1):
        case = f"{image.case}_{number}"
        left, top, right, bottom = lesion.box
        mask = np.zeros(full.shape, np.uint8)
        mask[top:bottom, left:right] = 255
        mask = mask if lesion.mask is None else lesion.mask
        crop = full[max(top - 5, 0) : bottom + 5, max(left - 5, 0) : right + 5]
        parts = [crop, mask] if not lesion.swapped else [mask, crop]
        roi = mammogram(mask, f"{case} mask")
        for index, pixels in enumerate(parts, start=1):
            part = mammogram(pixels, f"{case} part {index}", PatientID=case)
            part.SeriesInstanceUID, part.StudyInstanceUID = (
                roi.SeriesInstanceUID,
                roi.StudyInstanceUID,
            )
            write(part, _place(root, layout, case, part, index))
        of_roi = f"{case}/{roi.StudyInstanceUID}/{roi.SeriesInstanceUID}"
        findings = "OVAL,CIRCUMSCRIBED" if image.kind == "mass" else "PLEOMORPHIC,CLUSTERED"
        word = {"mass": "mass", "calc": "calcification"}[image.kind]
        rows.append(
            f"{image.patient},{image.density},{SIDES[image.side]},{image.view},{number},"
            f"{word},{findings},4,{lesion.pathology},3,"
            f'{image.case}/{study}/{series}/000000.dcm,"{of_roi}/000000.dcm\n","'
            f'{of_roi}/000001.dcm\n"'
        )
    return rows


def _place(root: Path, layout: str, case: str, one: Dataset, index: int) -> Path:
    """Where a layout has the file."""
    what = "full mammogram images" if case[-1] in "CO" else "ROI mask images"
    study, series = one.StudyInstanceUID, one.SeriesInstanceUID
    if layout == "table":
        return root / case / study / series / f"{index - 1:06d}.dcm"
    if layout == "classic":
        return root / "CBIS-DDSM" / case / study / series / f"1-{index}.dcm"
    dated = f"08-07-2016-DDSM-NA-{study[-5:]}"
    return root / "CBIS-DDSM" / case / dated / f"1.000000-{what}-{series[-5:]}" / f"1-{index}.dcm"
