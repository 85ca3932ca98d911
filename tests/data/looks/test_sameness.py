import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from synthdp.data.check import check_dataset
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.looks.contact_sheet import (
    CONTACT_SHEET_FILE,
    NAME_PX,
    contact_sheet,
    contact_sheet_of,
    sheet_rows,
)
from synthdp.data.looks.sameness import MOST_COMPARED, compared_rows, sameness, sameness_of
from synthdp.data.phantoms.phantoms import draw_patient
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.writer import create_dataset

Images = list[NDArray[np.uint8]]
CLASSES = [float(number % 2) for number in range(48)]


@pytest.fixture(scope="module")
def phantoms() -> Images:
    settings = PhantomSettings(out=Path("unused"), size_px=64, seed=5)
    return [draw_patient(settings, index).patches[0].pixels for index in range(48)]


def shown_of(phantoms: Images) -> list[Images]:
    chosen = sheet_rows(["malignant"], [[label] for label in CLASSES])
    assert list(chosen) == ["benign", "malignant"]
    return [[phantoms[row] for row in rows] for rows in chosen.values()]


def decoded(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as picture:
        assert not picture.info
        return np.asarray(picture)


def noisy(picture: NDArray[np.floating], spread: float, seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, spread, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_phantoms_are_not_alike(phantoms: Images) -> None:
    found = sameness(phantoms, CLASSES)
    assert found.likeness < 0.9
    assert abs(found.pattern) < 0.05
    assert found.compared == 48
    assert not found.findings


def test_a_few_pictures_again_and_again_are_near_identical(phantoms: Images) -> None:
    modes = [noisy(phantoms[index % 3].astype(float), 2, index) for index in range(48)]
    (finding,) = sameness(modes, CLASSES).findings
    assert finding.startswith("the images are near-identical")


def test_stripes_in_other_pictures_are_one_pattern(phantoms: Images) -> None:
    stripes = 12 * np.sin(2 * np.pi * np.arange(64) / 4)
    striped = [noisy(image + stripes, 1, index) for index, image in enumerate(phantoms)]
    (finding,) = sameness(striped, CLASSES).findings
    assert finding.startswith("the images share one fine pattern, such as stripes")


def test_one_collapsed_class_is_found(phantoms: Images) -> None:
    half = [
        noisy(phantoms[1].astype(float), 3, index) if CLASSES[index] else image
        for index, image in enumerate(phantoms)
    ]
    assert any("near-identical" in finding for finding in sameness(half, CLASSES).findings)


def test_few_or_constant_images_say_nothing_and_break_nothing(phantoms: Images) -> None:
    assert sameness(phantoms[:8], CLASSES[:8]).findings == ()
    assert sameness([], []).compared == 0
    black = [np.zeros((16, 16), dtype=np.uint8)] * 40
    assert np.isfinite(sameness(black, CLASSES[:40]).likeness)


def test_at_most_so_many_of_a_class_are_compared() -> None:
    rows = compared_rows([0.0] * 1000 + [1.0] * 10 + [float("nan")] * 50)
    assert len(rows) == MOST_COMPARED + 10
    assert rows[0] == 0
    assert max(rows) == 1009


def test_a_sheet_shows_either_class_in_its_rows(phantoms: Images) -> None:
    shown = shown_of(phantoms)
    sheet = contact_sheet({"benign": shown[0], "malignant": shown[1]})
    picture = decoded(sheet)
    block = 3 * 66 - 2
    assert picture.shape == (2 * (NAME_PX + block) + 12, 8 * 66 - 2)
    below = NAME_PX + block + 12
    assert np.array_equal(picture[NAME_PX : NAME_PX + 64, :64], phantoms[0])
    assert np.array_equal(picture[below + NAME_PX : below + NAME_PX + 64, :64], phantoms[1])
    assert sheet == contact_sheet({"benign": shown[0], "malignant": shown[1]})
    one = decoded(contact_sheet({"benign": [phantoms[0]], "malignant": []}))
    assert np.array_equal(one[NAME_PX:, :64], phantoms[0])
    with pytest.raises(ValueError, match="no image"):
        contact_sheet({"benign": [], "malignant": []})


def test_the_class_s_name_stands_above_its_images(phantoms: Images) -> None:
    names = [
        "benign",
        "malignant",
        "no_f\u00e4rbung \u75c5",
        "a_target_with_a_name_wider_than_an_image",
    ]
    bands = [decoded(contact_sheet({name: phantoms[:1]}))[:NAME_PX] for name in names]
    assert all((band < 128).sum() > 20 for band in bands)
    inked = [np.flatnonzero((band < 128).any(axis=0)).max() for band in bands]
    assert inked == sorted(set(inked))  # each is as wide as its name
    assert inked[-1] > 64


def test_a_sheet_of_a_set_names_its_target_s_classes(phantoms: Images, tmp_path: Path) -> None:
    root = made(tmp_path / "set", phantoms, kind="synthetic", targets=["mass"])
    shown = shown_of(phantoms)
    assert contact_sheet_of(open_dataset(root)) == contact_sheet(
        {"no_mass": shown[0], "mass": shown[1]}
    )


def test_a_sheet_of_several_findings_has_a_band_for_each() -> None:
    nan = float("nan")
    labels = [[0, 0], [1, 0], [1, 1], [0, 1], [nan, 0], [nan, 1], [nan, nan], *[[0, 0]] * 40]
    shown = sheet_rows(["edema", "mass"], labels)
    assert list(shown) == ["none of these", "edema", "mass", "unknown"]
    assert (shown["edema"], shown["mass"], shown["unknown"]) == ([1, 2], [2, 3, 5], [4, 6])
    assert len(shown["none of these"]) == 16
    assert all(labels[row] == [0, 0] for row in shown["none of these"])


def made(root: Path, images: Images, **info: object) -> Path:
    about = DatasetInfo.model_validate({"name": "made up", "size_px": 64, **info})
    with create_dataset(root, about) as writer:
        for index, image in enumerate(images):
            writer.add(
                image,
                patient_id=f"made-up-{index}",
                split="train",
                targets=[CLASSES[index]],
            )
    return root


def test_a_check_warns_of_a_collapsed_set(phantoms: Images, tmp_path: Path) -> None:
    modes = [noisy(phantoms[index % 2].astype(float), 2, index) for index in range(48)]
    checked = check_dataset(made(tmp_path / "modes", modes, kind="synthetic"))
    assert not checked.problems  # it can be read and used; whether it serves, a person decides
    assert "warning: the images are near-identical" in checked.summary
    assert sameness_of(open_dataset(tmp_path / "modes")).findings
    good = check_dataset(made(tmp_path / "good", phantoms, kind="synthetic"))
    assert "warning" not in good.summary


def test_a_sheet_stands_beside_synthetic_images_alone(phantoms: Images, tmp_path: Path) -> None:
    for kind, problems in (("synthetic", 0), ("real", 1)):
        root = made(tmp_path / kind, phantoms, kind=kind)
        (root / CONTACT_SHEET_FILE).write_bytes(contact_sheet({"benign": phantoms[:3]}))
        found = [one for one in check_dataset(root).problems if "stand beside the set's own" in one]
        assert len(found) == problems
    about = DatasetInfo(name="patients", kind="real", size_px=64)
    with pytest.raises(ValueError, match="would show patients"):  # noqa: SIM117
        with create_dataset(tmp_path / "new", about) as writer:
            writer.show(CONTACT_SHEET_FILE, b"")
