"""Radiographs that look inverted or turned are told, and nothing else is."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from synthdp.data.check import check_dataset
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.importing.images.survey import thumbnail
from synthdp.data.importing.images.thumbnails import Thumbnails
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.looks.pose import Pose, Poses, shows_chests, unlike_poses
from synthdp.data.writer import create_dataset

Pixels = NDArray[np.uint8]
TURNS: dict[Pose, Callable[[Pixels], Pixels]] = {
    "inverted": np.invert,
    "upside down": lambda image: image[::-1, ::-1],
    "turned by a quarter": np.rot90,
}


def chest(seed: int) -> Pixels:
    """A drawing of a chest at 64 px: lungs, heart and belly of a person, bars above and below."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    left, right, low = 0.4 + 0.08 * rng.standard_normal(3)
    image = 150 + 40 * np.clip(y, 0, 1) + 25 * np.exp(-((x / 0.15) ** 2))
    for centre in (-left, right):
        image -= 90 * np.exp(-((((x - centre) / 0.25) ** 2 + ((y + low / 4) / 0.6) ** 2) ** 2))
    image += 35 * np.exp(-(((x - 0.15) / 0.25) ** 2 + ((y - 0.3) / 0.25) ** 2))
    image[np.abs(y) > 0.85 + 0.05 * rng.random()] = 0
    noisy = np.clip(image + 8 * rng.standard_normal(image.shape), 0, 255)
    return np.asarray(noisy, dtype=np.uint8)


def poses(images: list[Pixels]) -> Poses:
    thumbnails = Thumbnails()
    thumbnails.append(np.stack([thumbnail(image) for image in images]))
    return unlike_poses(thumbnails)


@pytest.mark.parametrize("pose", TURNS)
def test_an_image_in_another_pose_is_told(pose: Pose) -> None:
    images = [chest(seed) for seed in range(40)]
    assert poses(images) == Poses()
    images[7] = TURNS[pose](images[7])
    assert poses(images) == Poses(((7, pose),))


def test_a_set_that_is_inverted_as_a_whole_is_told() -> None:
    found = poses([255 - chest(seed) for seed in range(40)])
    assert "the set as a whole looks inverted" in found.of_set
    assert found.of_images == ()


def test_a_set_without_a_common_picture_is_told() -> None:
    halves = [chest(seed) if seed % 2 else 255 - chest(seed) for seed in range(40)]
    assert "no picture in common" in poses(halves).of_set


def test_nothing_is_told_of_few_or_of_flat_images() -> None:
    assert poses([chest(1), 255 - chest(2)]) == Poses()
    flat = [np.full((64, 64), 9, dtype=np.uint8)] * 3
    assert poses([chest(seed) for seed in range(30)] + flat) == Poses()


def test_a_check_tells_rows_of_chests_alone(tmp_path: Path) -> None:
    assert not shows_chests(["malignant"])
    for target, told in (("effusion", True), ("malignant", False)):
        info = DatasetInfo(name="chests", kind="real", size_px=64, targets=(target,))
        with create_dataset(tmp_path / target, info) as writer:
            for seed in range(30):
                image = 255 - chest(seed) if seed == 4 else chest(seed)
                split = "val" if seed % 5 == 4 else "train"
                writer.add(
                    image, patient_id=f"P{seed}", split=split, targets=[seed % 2], attributes={}
                )
        with (tmp_path / target / "manifest.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        row = 2 + next(n for n, one in enumerate(rows) if one["patient_id"] == "P4")
        summary = check_dataset(tmp_path / target).summary
        assert (f"rows {row}: look inverted" in summary) == told
        assert ("warning" in summary) == told


@pytest.mark.parametrize("altered", [True, False])
def test_an_import_tells_that_there_are_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, altered: bool
) -> None:
    """It goes on, and the pixels are as they were."""
    src = tmp_path / "src"
    src.mkdir()
    images = [chest(seed) for seed in range(24)]
    images[3] = 255 - images[3] if altered else images[3]
    for number, image in enumerate(images):
        Image.fromarray(image).save(src / f"{number}.png")
    rows = [f"{number}.png,P{number},{number % 2}" for number in range(24)]
    (src / "metadata.csv").write_text("\n".join(["file,patient_id,effusion", *rows, ""]))
    asked = {"src": src, "out": tmp_path / "set", "name": "chests", "size_px": 64}
    with caplog.at_level("INFO"):
        root = run_patches(PatchesSettings.model_validate({**asked, "targets": ("effusion",)}))
    assert ("1 image(s) look inverted or turned" in caplog.text) == altered
    # what a log has in the place of figures is the same whether or not there were some
    elsewhere = {one.elsewhere for one in caplog.records if hasattr(one, "elsewhere")}
    assert len(elsewhere) == 1
    row = next(row for row in open_dataset(root).rows if row.patient_id == "P3")
    assert np.array_equal(np.asarray(Image.open(root / row.image)), images[3])


@pytest.mark.parametrize(
    ("pose", "at_least"),
    [("inverted", 0.97), ("upside down", 0.9), ("turned by a quarter", 0.9)],
)
def test_real_radiographs(real_data: Path, pose: Pose, at_least: float) -> None:
    """Train of nih-cxr alone, on which the margin was chosen: one in twenty is altered."""
    with (real_data / "nih-cxr" / "metadata.csv").open() as stream:
        names = [row["image"] for row in csv.DictReader(stream) if row["split"] == "train"]
    images = [
        np.asarray(Image.open(real_data / "nih-cxr" / name).convert("L")) for name in names[::2]
    ]
    assert poses(images).of_images == ()
    altered = range(3, len(images), 20)
    for index in altered:
        images[index] = TURNS[pose](images[index])
    found = poses(images)
    assert {index for index, _ in found.of_images} <= set(altered)
    right = [index for index, said in found.of_images if said == pose]
    assert len(right) >= at_least * len(altered)
