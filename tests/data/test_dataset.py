import csv
import errno
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_up import clinic_set
from numpy.typing import NDArray

from synthdp.data.dataset import Row, load_images, open_dataset, targets_array, units_of
from synthdp.data.description import DatasetInfo
from synthdp.data.identity import keyed_digest
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError, RunError

MakeSet = Callable[..., Path]
Texture = Callable[..., NDArray[np.uint8]]


def info(**changes: object) -> DatasetInfo:
    return DatasetInfo.model_validate({"name": "tiny", "kind": "real", "size_px": 32, **changes})


def edit(root: Path, row: int, **cells: str) -> None:
    """Change cells of the manifest; rows count from 2, as the header is row 1."""
    with open(root / "manifest.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[row - 2].update(cells)
    with open(root / "manifest.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def refusal(root: Path) -> str:
    with pytest.raises(InputError) as error:
        open_dataset(root)
    return str(error.value)


def test_what_is_written_is_read(make_set: MakeSet, texture: Texture) -> None:
    root = make_set()
    dataset = open_dataset(root)
    assert (dataset.info.name, len(dataset.rows)) == ("tiny", 8)
    assert [len(dataset.split(name)) for name in ("train", "val", "all")] == [6, 2, 8]
    assert dataset.rows[2].patient_id == "P1"
    assert dataset.rows[3].attributes == {"view": "CC"}
    images = load_images(dataset, dataset.rows)
    assert (images.shape, images.dtype) == ((8, 1, 32, 32), np.float32)
    assert np.array_equal(np.rint((images[5, 0] + 1) * 127.5), texture(5))
    assert load_images(dataset, dataset.rows[:2], 16).shape == (2, 1, 16, 16)
    assert targets_array(dataset.rows)[:, 0].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_unknown_targets_are_nan(tmp_path: Path, texture: Texture) -> None:
    with create_dataset(tmp_path / "set", info(targets=["a", "b"])) as writer:
        writer.add(texture(0), patient_id="P", split="test", targets=[1, math.nan])
    dataset = open_dataset(tmp_path / "set")
    assert np.isnan(targets_array(dataset.rows)).tolist() == [[False, True]]
    assert (tmp_path / "set" / "manifest.csv").read_text().splitlines()[1].endswith("test,1,")


def test_what_is_private_stands_apart(tmp_path: Path, texture: Texture) -> None:
    with create_dataset(tmp_path / "set", info(), card="# card") as writer:
        writer.add(texture(0), patient_id="P", split="train", targets=[1])
        writer.note("import.json", {"rows": [1]})
    private = tmp_path / "set" / "private"
    assert private.stat().st_mode & 0o077 == 0
    assert (private / "key").stat().st_mode & 0o177 == 0
    assert json.loads((private / "import.json").read_text()) == {"rows": [1]}
    counts = json.loads((private / "counts.json").read_text())
    assert counts == {"train": {"images": 1, "patients": 1, "malignant": 1}}
    assert (tmp_path / "set" / "README.md").read_text().endswith("# card")


def test_a_split_without_rows_is_refused(make_set: MakeSet) -> None:
    dataset = open_dataset(make_set())
    with pytest.raises(InputError, match="no image has split 'test'; name one that it has: train"):
        dataset.split("test")
    with pytest.raises(InputError, match="choose one of train, val"):
        dataset.split("vall")


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "images/../../x"])
def test_a_path_outside_the_folder(make_set: MakeSet, path: str) -> None:
    root = make_set()
    edit(root, 4, image=path)
    text = refusal(root)
    assert "set/manifest.csv:\n  row 4: image: the path leads outside the folder" in text
    assert path not in text


def test_a_link_that_escapes_the_folder(make_set: MakeSet, tmp_path: Path) -> None:
    root = make_set()
    (tmp_path / "outside.png").write_bytes((root / "images/000001.png").read_bytes())
    (root / "images/000001.png").unlink()
    (root / "images/000001.png").symlink_to(tmp_path / "outside.png")
    assert "row 2: image: the path leads outside the folder" in refusal(root)


def test_a_missing_image_and_one_with_a_name_too_long(make_set: MakeSet) -> None:
    root = make_set()
    (root / "images/000003.png").unlink()
    edit(root, 2, image="n" * 5000)
    text = refusal(root)
    assert "row 4: image: the file is missing" in text
    assert "row 2: image: the file cannot be reached" in text


@pytest.mark.parametrize("label", ["2", "-1", "0.5", "yes", "nan", " 1", "1.0"])
def test_a_label_that_is_none(make_set: MakeSet, label: str) -> None:
    root = make_set()
    edit(root, 3, malignant=label)
    assert f"row 3: malignant: {label!r} is not 0, 1 or empty" in refusal(root)


def test_ids_in_the_wrong_column_are_not_repeated(make_set: MakeSet) -> None:
    root = make_set()
    edit(root, 3, malignant="P_00012", split="P_00012", patient_id="Jane Doe")
    text = refusal(root)
    assert "row 3: malignant: is not 0, 1 or empty" in text
    assert "row 3: split: is none of train, val, test, external" in text
    assert "row 3: patient_id: 1 to 64 letters" in text
    assert "P_00012" not in text
    assert "Jane" not in text


@pytest.mark.parametrize("patient", ["", "P 1", "P1\n", "../P", "P" * 65, "É"])
def test_an_unsafe_patient_id(make_set: MakeSet, patient: str) -> None:
    root = make_set()
    edit(root, 2, patient_id=patient)
    assert "row 2: patient_id" in refusal(root)


def test_a_patient_in_two_splits(make_set: MakeSet) -> None:
    root = make_set()
    edit(root, 2, split="val")
    text = refusal(root)
    assert "1 patient(s) stand in more than one split (train, val)" in text
    assert "P0" not in text


def test_every_finding_at_once_and_fifty_in_full(make_set: MakeSet) -> None:
    root = make_set(patients=40)
    for row in range(2, 72):
        edit(root, row, malignant="2")
    edit(root, 81, split="train", image="/etc/passwd")
    text = refusal(root)
    assert text.count("is not 0, 1 or empty") == 50
    assert "... and 21 more" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "column 'image' is missing"),
        (b"image,patient_id,split,malignant\n", "holds no rows"),
        (b"image,patient_id,split\n", "column 'malignant' is missing"),
        (b"image,patient_id,split,malignant,malignant\na,b,c,1,0\n", "two columns have one name"),
        (b"image,patient_id,split,malignant\na,b\n", "row 2: has more or fewer cells"),
        (b"image,patient_id,split,malignant\na,b,train,1,x\n", "row 2: has more or fewer cells"),
        (b"image,patient_id,split,malignant\n\xff\xfe\n", "not readable as UTF-8 CSV"),
        (
            b'image,patient_id,split,malignant\n"' + b"x" * 200_000,
            "row 2: a cell of more than 131,072 characters",
        ),
    ],
)
def test_a_broken_manifest(make_set: MakeSet, content: bytes, words: str) -> None:
    root = make_set()
    (root / "manifest.csv").write_bytes(content)
    assert words in refusal(root)


def test_a_manifest_saved_by_a_spreadsheet(make_set: MakeSet) -> None:
    root = make_set()
    text = (root / "manifest.csv").read_text()
    (root / "manifest.csv").write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert len(open_dataset(root).rows) == 8


def test_a_missing_manifest_and_a_folder_that_is_no_set(make_set: MakeSet, tmp_path: Path) -> None:
    root = make_set()
    (root / "manifest.csv").unlink()
    assert "missing; restore it" in refusal(root)
    assert "not a data-set folder" in refusal(tmp_path)
    assert "there is no such folder" in refusal(tmp_path / "absent")


def test_a_broken_description(make_set: MakeSet) -> None:
    root = make_set()
    (root / "dataset.json").write_text('{"name": "x", "kind": "reel", "size_pixel": 32}')
    text = refusal(root)
    assert "size_pixel: unknown key, did you mean size_px?" in text
    assert "kind: Input should be 'real', 'synthetic', 'phantom' or 'public'" in text
    (root / "dataset.json").write_text("[1]")
    assert "dataset.json" in refusal(root)


def test_an_unreadable_image_is_named_by_its_row(make_set: MakeSet) -> None:
    root = make_set()
    path = root / "images/000005.png"
    path.write_bytes(path.read_bytes()[:200])
    dataset = open_dataset(root)
    with pytest.raises(InputError, match=r"manifest\.csv, row 6: not a readable PNG") as error:
        load_images(dataset, dataset.split("train"))
    assert "000005" not in str(error.value)


def test_the_digest_is_keyed_and_sees_every_change(make_set: MakeSet) -> None:
    root = make_set()
    dataset = open_dataset(root)
    first = keyed_digest(dataset, dataset.rows)
    assert first == keyed_digest(open_dataset(root), dataset.rows)
    assert first != keyed_digest(dataset, dataset.rows[1:])
    edit(root, 2, malignant="1")
    changed = open_dataset(root)
    assert keyed_digest(changed, changed.rows) != first
    (root / "private" / "key").unlink()
    assert keyed_digest(dataset, dataset.rows) != first


def test_an_image_is_a_unit_under_its_patient() -> None:
    rows = [
        Row(f"images/{name}.png", patient, "train", (0.0,))
        for name, patient in (("1", "a"), ("2", "b"), ("3", "a"), ("1", "a"))
    ]
    assert units_of(rows, "patient") == ["a", "b", "a", "a"]
    assert units_of(rows, "image") == ["a 1", "b 1", "a 2", "a 1"]
    assert units_of(rows[1:3], "image") == ["b 1", "a 1"]


def test_a_key_that_cannot_be_read_is_one_clear_error(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(make_set())

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(dataset.root))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(RunError, match="private/key of the data set cannot be read") as error:
        keyed_digest(dataset, dataset.rows)
    assert str(dataset.root) not in str(error.value)


@pytest.mark.parametrize("change", ["a label", "an image less", "an image that is a link now"])
def test_a_set_that_was_opened_is_looked_at_again_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    later = time.time_ns() + 10**11  # as if the files had stood for a while
    monkeypatch.setattr("synthdp.data.dataset.clock_ns", lambda: later)
    root = clinic_set(tmp_path / "set", n_patients=3)
    before = open_dataset(root)
    assert open_dataset(root).rows is before.rows  # not read again
    image = root / before.rows[0].image
    if change == "a label":
        edit(root, 2, malignant="1")
        assert open_dataset(root).rows[0].targets == (1.0,)
        return
    image.unlink()
    if change == "an image that is a link now":
        (tmp_path / "elsewhere.png").write_bytes(b"x")
        image.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(InputError, match="row 2: image"):
        open_dataset(root)
