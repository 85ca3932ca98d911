import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_up_mammograms import Image, Lesion, breast, mammogram, write, write_tcia

from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.importing.cbis_ddsm import run_cbis_ddsm
from synthdp.data.importing.lesions.crops import crops, squares_around
from synthdp.data.importing.lesions.region import Region
from synthdp.data.importing.settings.cbis_ddsm import CbisDdsmSettings
from synthdp.data.importing.settings.lesions import CropSettings
from synthdp.errors import InputError

CROP = {"margin_px": 10, "least_side_px": 16}
SMALL, LARGE = (30, 60, 70, 90), (20, 120, 60, 180)


def settings(src: Path, **changes: object) -> CbisDdsmSettings:
    values = {"src": src, "out": src.parent / "set", "size_px": 32, "crop": CROP, "workers": 1}
    return CbisDdsmSettings.model_validate({**values, **changes})


def imported(src: Path, **changes: object) -> Dataset:
    return open_dataset(run_cbis_ddsm(settings(src, **changes)))


def refusal(src: Path, **changes: object) -> str:
    with pytest.raises(InputError) as error:
        run_cbis_ddsm(settings(src, **changes))
    assert not (src.parent / "set").exists()
    assert "P_0" not in str(error.value)
    return str(error.value)


@pytest.fixture
def images() -> list[Image]:
    return [
        Image("P_00001", "L", "CC", [Lesion(SMALL), Lesion(LARGE, "BENIGN", swapped=True)]),
        Image("P_00001", "L", "MLO", [Lesion(LARGE)], density=2),
        Image("P_00002", "R", "CC", [Lesion(SMALL, "BENIGN_WITHOUT_CALLBACK")]),
        Image("P_00003", "R", "MLO", [Lesion(LARGE)], split="test"),
        Image("P_00004", "L", "CC", [Lesion(SMALL, "BENIGN")], kind="calc", density=4),
    ]


@pytest.mark.parametrize("layout", ["retriever", "classic", "table"])
def test_lesions_are_found_in_every_layout_and_cut_by_their_masks(
    tmp_path: Path, images: list[Image], layout: str
) -> None:
    src = tmp_path / "src"
    write_tcia(src, images, layout=layout)
    dataset = imported(src)
    assert [(row.split, row.targets[0]) for row in dataset.rows] == [
        *(("train", 1), ("train", 0), ("train", 1), ("train", 0)),
        *(("test", 1), ("train", 0)),
    ]
    boxes = [SMALL, LARGE, LARGE, SMALL, LARGE, SMALL]
    shown = [image for image in images for _ in image.lesions]
    for row, box, image in zip(dataset.rows, boxes, shown, strict=True):
        crop = CropSettings.model_validate(CROP)
        squares = squares_around(Region(*box), crop, spacing_mm=None)
        (expected,) = crops(image.pixels, squares, crop, 32)
        made = decode_pixels(dataset.root / row.image).astype(int)
        assert np.abs(made - expected).max() <= 1
    note = json.loads((dataset.private / "import.json").read_text())
    not_used = {what: count for what, count in note["left_out"].items() if count}
    assert not_used == {"DICOM files that no row uses (ready-made crops among them)": 6}
    first, last = dataset.rows[0], dataset.rows[-1]
    assert first.attributes["mass_shape"] == "OVAL"
    assert first.attributes["view"] == "CC"
    assert first.attributes["laterality"] == "LEFT"
    assert (last.attributes["calc_type"], last.attributes["breast_density"]) == ("PLEOMORPHIC", "4")
    assert last.attributes["abnormality_type"] == "calcification"
    assert dataset.rows[0].patient_id == dataset.rows[2].patient_id != dataset.rows[3].patient_id


def test_nothing_of_people_comes_out(tmp_path: Path, images: list[Image]) -> None:
    src = tmp_path / "src"
    write_tcia(src, images)
    dataset = imported(src)
    files = [path for path in dataset.root.rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    for word in (b"P_0000", b"Name^", b"20160807", b"1.2.826", b"Mass-Training", b"08-07-2016"):
        assert word not in content
    assert all(row.patient_id.startswith("patient-") for row in dataset.rows)


def test_one_kind_of_abnormality_and_keyed_splits_may_be_asked_for(
    tmp_path: Path, images: list[Image]
) -> None:
    src = tmp_path / "src"
    many = [Image(f"P_{i:05d}", "L", "CC", [Lesion()]) for i in range(12)]
    write_tcia(src, [*images[-1:], *many])
    (tmp_path / "key").write_bytes(bytes(range(32)))  # one by which no split is empty
    keyed = {"official_splits": False, "val_fraction": 0.5, "key": tmp_path / "key"}
    dataset = imported(src, abnormalities="mass", **keyed)
    assert len(dataset.rows) == 12
    assert {row.split for row in dataset.rows} == {"train", "val"}


def test_val_is_cut_out_of_the_official_train_split_alone(tmp_path: Path) -> None:
    src = tmp_path / "src"
    train = [Image(f"P_{i:05d}", "L", "CC") for i in range(10)]
    test = [Image(f"P_{i:05d}", "R", "CC", split="test") for i in range(10, 13)]
    write_tcia(src, [*train, *test])
    (tmp_path / "key").write_bytes(bytes(range(32)))  # one by which no split is empty
    dataset = imported(src, val_fraction=0.5, key=tmp_path / "key")
    splits = [row.split for row in dataset.rows]
    assert set(splits[:10]) == {"train", "val"}
    assert splits[10:] == ["test"] * 3


def test_a_patient_in_both_official_splits_is_refused(tmp_path: Path, images: list[Image]) -> None:
    src = tmp_path / "src"
    write_tcia(src, [*images, Image("P_00001", "L", "CC", kind="calc", split="test")])
    assert "1 patient(s) stand in more than one split (test, train)" in refusal(src)
    assert len(imported(src, abnormalities=["mass"]).rows) == 5


def _empty(src: Path, images: list[Image]) -> None:
    images[0].lesions[0].mask = np.zeros(images[0].pixels.shape, np.uint8)
    write_tcia(src, images)


def _smaller_mask(src: Path, images: list[Image]) -> None:
    images[0].lesions[0].mask = np.eye(100, dtype=np.uint8) * np.uint8(255)
    write_tcia(src, images)


def _no_mask(src: Path, images: list[Image]) -> None:
    write_tcia(src, images, layout="classic")
    for path in (src / "CBIS-DDSM" / f"{images[0].case}_1").rglob("*.dcm"):
        path.unlink()


def _no_image(src: Path, images: list[Image]) -> None:
    write_tcia(src, images)
    next((src / "CBIS-DDSM" / images[1].case).rglob("*.dcm")).unlink()


def _torn(src: Path, images: list[Image]) -> None:
    write_tcia(src, images)
    path = next((src / "CBIS-DDSM" / images[1].case).rglob("*.dcm"))
    path.write_bytes(path.read_bytes()[:5000])


def _other_word(src: Path, images: list[Image]) -> None:
    images[1].lesions[0].pathology = "PERHAPS"
    write_tcia(src, images)


def _other_side(src: Path, images: list[Image]) -> None:
    write_tcia(src, images)
    path = next((src / "CBIS-DDSM" / images[1].case).rglob("*.dcm"))
    one = mammogram(images[1].pixels, images[1].case, Laterality="R")
    write(one, path)


def _nobody(src: Path, images: list[Image]) -> None:
    write_tcia(src, images)
    table = src / "mass_case_description_train_set.csv"
    table.write_text(table.read_text().replace("P_00002,", "nan,", 1))


@pytest.mark.parametrize(
    ("break_it", "said", "reason"),
    [
        (_empty, "row 2 of .*: the mask is empty", "unreadable"),
        (_smaller_mask, "row 2 of .*: the mask: no file of the row has the 160 x 240", "no_region"),
        (_no_mask, "row 2 of .*: the mask: no file in the folder", "missing_file"),
        (_no_image, "row 4 of .*: the full image: no file in the folder", "missing_file"),
        (_torn, "row 4 of .*: its pixel data are truncated", "unreadable"),
        (_other_word, "row 4 of .*: pathology", "unknown_class"),
        (_other_side, "row 4 of .*: .* two sides", "contradiction"),
        (_nobody, "row 5 of .*: patient_id", "no_patient"),
    ],
)
def test_one_bad_row_is_named_and_may_be_left_out(
    tmp_path: Path,
    images: list[Image],
    break_it: Callable[[Path, list[Image]], None],
    said: str,
    reason: str,
) -> None:
    src = tmp_path / "src"
    break_it(src, images)
    words = refusal(src)
    assert words.count("\n") == 1
    assert re.search(said, words)
    dataset = imported(src, leave_out=[reason])
    assert len(dataset.rows) == 5
    note = json.loads((dataset.private / "import.json").read_text())
    assert list(note["left_out_rows"]) == [reason]


def test_copies_of_one_file_count_once_and_other_files_of_one_uid_are_refused(
    tmp_path: Path, images: list[Image]
) -> None:
    src = tmp_path / "src"
    write_tcia(src, images)
    path = next((src / "CBIS-DDSM" / images[1].case).rglob("*.dcm"))
    copy = path.with_name("1-1 (1).dcm")
    copy.write_bytes(path.read_bytes())
    assert len(imported(src).rows) == 6
    write(mammogram(breast(5), images[1].case), copy)
    with pytest.raises(InputError, match="two files bear one UID"):
        run_cbis_ddsm(settings(src, out=tmp_path / "other"))


def test_without_tables_it_says_what_to_download(tmp_path: Path) -> None:
    src = tmp_path / "src"
    src.mkdir()
    assert "mass_case_description_train_set.csv" in refusal(src)
    with pytest.raises(ValueError, match="file_column"):
        settings(src, file_column="x")
    asked = settings(src)
    assert CbisDdsmSettings.model_validate(asked.model_dump()) == asked  # as --dry-run prints it


def test_the_test_split_may_be_left_where_it_is(tmp_path: Path, images: list[Image]) -> None:
    src = tmp_path / "src"
    write_tcia(src, images)
    dataset = imported(src, splits=["train"])
    assert {row.split for row in dataset.rows} == {"train"}
    assert len(dataset.rows) == 5
    with pytest.raises(InputError, match="splits are train and test"):
        run_cbis_ddsm(settings(src, out=tmp_path / "other", splits=["val"]))
