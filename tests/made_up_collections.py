"""Made-up folders of collections: images in all formats that tables name, and the tables."""

from pathlib import Path
from typing import Any

import numpy as np
from dicom_files import of_person, write_mammogram
from numpy.typing import NDArray

from synthdp.data.images import encode_png

#: The columns of VinDr-Mammo's table of findings.
FINDINGS = (
    "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,"
    "breast_density,finding_categories,finding_birads,xmin,ymin,xmax,ymax,split"
)


def noise(seed: int, high: int = 40, wide: int = 32) -> NDArray[np.uint8]:
    """Grey levels at random, (high, wide); two seeds resemble each other in nothing."""
    return np.random.default_rng(seed).integers(0, 256, (high, wide), dtype=np.uint8)


def picture(path: Path, seed: int, **size: int) -> None:
    """Write noise as PNG, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(noise(seed, **size)))


def dicom(path: Path, seed: int, **others: Any) -> None:
    """Write noise of 12 bits as a mammogram of the seed's own person; `others` are elements."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = noise(seed).astype(np.uint16) * 16
    write_mammogram(path, pixels, **{**of_person(seed), **others})


def write_table(path: Path, *lines: str, encoding: str = "utf-8") -> None:
    """Write lines as they are, with the folders that the file needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))


def npz(path: Path, *, split_sizes: dict[str, int], columns: int = 1, **more: Any) -> None:
    """Write a file as MedMNIST has it: images of 28 px and labels 0 and 1 in turn, by split."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in split_sizes.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count * columns).reshape(count, columns) % 2
    np.savez_compressed(path, **{**arrays, **more})
