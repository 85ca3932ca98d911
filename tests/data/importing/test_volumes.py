import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_volumes import write_series
from PIL import Image

from synthdp.cli import main
from synthdp.data.check import check_dataset
from synthdp.data.dataset import Dataset, load_images, load_pictures, load_volumes, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.importing.settings.volumes import VolumesSettings
from synthdp.data.importing.volumes import run_volumes
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.pages.dataset import write_dataset_page

CT = {"depth": 6, "window": [-1000, 600]}


def a_textured(seed: int, depth: int = 8, side: int = 12) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(-1000, 600, (depth, side, side)).astype(np.int16)


def imported(src: Path, out: Path, **others: Any) -> Dataset:
    values = {"src": src, "out": out, "name": "scans", "size_px": 16, "volumes": CT, **others}
    return open_dataset(run_volumes(VolumesSettings.model_validate(values)))


def series_folder(tmp_path: Path, *names: str) -> Path:
    """A series in each folder of these names, one person each."""
    for number, name in enumerate(names):
        write_series(tmp_path / "src" / name, a_textured(number), person=number)
    return tmp_path / "src"


def test_labels_go_by_name_in_every_split_whatever_stands_there(tmp_path: Path) -> None:
    # the classes of each split in another order, and one of them missing from val: by order they
    # would swap
    src = series_folder(
        tmp_path,
        *("train/b-lesion/P0", "train/a-free/P1", "train/a-free/P2"),
        *("val/b-lesion/P3", "test/a-free/P4", "test/b-lesion/P5"),
    )
    dataset = imported(
        src,
        tmp_path / "set",
        targets=["lesion"],
        labels={"lesion": ["b-lesion"], "negative": ["a-free"]},
        patient_pattern=r"(P\d+)$",
        ids="kept",
    )
    found = {row.patient_id: (row.split, row.targets[0]) for row in dataset.rows}
    assert found == {
        **{"P0": ("train", 1), "P1": ("train", 0), "P2": ("train", 0)},
        **{"P3": ("val", 1), "P4": ("test", 0), "P5": ("test", 1)},
    }


def test_a_table_names_folders_and_files(tmp_path: Path) -> None:
    src = series_folder(tmp_path, "one/P0", "P1")
    np.save(src / "third.npy", a_textured(3))
    (src / "one" / "P0" / "notes.txt").write_text("no slice")
    (src / "metadata.csv").write_text(
        "file,patient_id,malignant,sex,split\none/P0,A,1,F,train\nP1/,B,0,M,val\n"
        "third.npy,C,1,F,train\n"
    )
    dataset = imported(src, tmp_path / "set")
    assert [row.targets[0] for row in dataset.rows] == [1, 0, 1]
    assert [row.attributes["sex"] for row in dataset.rows] == ["F", "M", "F"]
    assert not {row.patient_id for row in dataset.rows} & {"A", "B", "C"}  # hashed
    assert load_volumes(dataset, dataset.rows).shape == (3, 6, 16, 16)
    assert check_dataset(dataset.root).problems == ()
    assert imported(src, tmp_path / "set").rows == dataset.rows  # there already


def test_a_changed_slice_is_a_changed_source(tmp_path: Path) -> None:
    src = series_folder(tmp_path, "malignant/P0", "benign/P1")
    imported(src, tmp_path / "set", patient_pattern=r"(P\d+)$")
    write_series(src / "malignant" / "P0", a_textured(9), person=0)
    with pytest.raises(InputError, match="changed"):
        imported(src, tmp_path / "set", patient_pattern=r"(P\d+)$")


def test_nothing_of_headers_is_kept(tmp_path: Path) -> None:
    src = series_folder(tmp_path, "malignant/a", "benign/b")
    (tmp_path / "key").write_bytes(bytes(range(32)))  # a new one holds any three bytes by chance
    asked = {"patient_pattern": "none", "description": "Two.", "key": tmp_path / "key"}
    dataset = imported(src, tmp_path / "set", **asked)
    for path in dataset.root.rglob("*"):
        if path.is_file() and path.name != "source-digests":
            assert b"P-0" not in path.read_bytes()
            assert b"2.25." not in path.read_bytes()


def test_one_person_under_two_ids_is_refused(tmp_path: Path) -> None:
    for name in ("malignant/P0", "benign/P1"):
        write_series(tmp_path / "src" / name, a_textured(len(name)), person=7)
    with pytest.raises(InputError, match="have one PatientID"):
        imported(tmp_path / "src", tmp_path / "set", patient_pattern=r"(P\d+)$")
    imported(
        tmp_path / "src", tmp_path / "set", patient_pattern=r"(P\d+)$", header_ids="leave_aside"
    )


def test_every_bad_volume_is_told_at_once_or_left_out(tmp_path: Path) -> None:
    src = series_folder(tmp_path, "malignant/P0", "benign/P1")
    write_series(src / "benign" / "P2", a_textured(2), person=2)[4].unlink()
    np.save(src / "benign" / "P3.npy", np.zeros((4, 4, 4, 5)))
    np.save(src / "benign" / "P4.npy", np.zeros((4, 8, 8)))
    pattern = {"patient_pattern": r"(P\d+)(?:\.npy)?$"}
    with pytest.raises(InputError) as refusal:
        imported(src, tmp_path / "set", **pattern)
    for words in ("one is missing", "several volumes", "uses less than a sixteenth"):
        assert words in str(refusal.value)
    left = {"leave_out": ["unreadable", "narrow_range"]}
    assert len(imported(src, tmp_path / "set", **pattern, **left).rows) == 2


def test_slices_beside_each_other_and_flat_images_are_named(tmp_path: Path) -> None:
    src = series_folder(tmp_path, "malignant/P0", ".")
    with pytest.raises(InputError, match="stand in `src` itself"):
        imported(src, tmp_path / "set", patient_pattern="none")
    src = series_folder(tmp_path / "other", "malignant/P0", "benign/P1")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(src / "benign" / "view.png")
    dataset = imported(src, tmp_path / "set", patient_pattern="none")
    note = json.loads((dataset.private / "import.json").read_text())
    assert note["left_out"]["flat images, among volumes"] == 1
    assert note["padded_images"] == note["resampled_images"] == []


def test_arrays_of_a_set_are_volumes_too(tmp_path: Path) -> None:
    src = tmp_path / "src"
    src.mkdir()
    rng = np.random.default_rng(0)
    arrays = {}
    for split, labels in (("train", [1, 0, 0]), ("val", [0, 1]), ("test", [1])):
        arrays[f"{split}_images"] = rng.integers(0, 256, (len(labels), 8, 8, 8), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.array(labels)[:, None]
    np.savez(src / "set.npz", **arrays)
    asked = {
        "tables": "set.npz",
        "arrays": {},
        "patient_pattern": "none",
        "volumes": {"depth": 8},
        "size_px": 8,
    }
    dataset = imported(src, tmp_path / "set", **asked)
    assert [row.targets[0] for row in dataset.split("train")] == [1, 0, 0]
    read = load_volumes(dataset, dataset.split("val"))
    assert np.allclose((read + 1) * 127.5, arrays["val_images"], atol=1e-3)
    np.savez(src / "set.npz", **{**arrays, "train_images": arrays["train_images"][:, 0]})
    with pytest.raises(InputError, match="volumes are"):
        imported(src, tmp_path / "other", **asked)


def test_the_file_of_a_volume_is_a_picture_of_its_slices(tmp_path: Path) -> None:
    src = series_folder(tmp_path, "malignant/P0", "benign/P1")
    dataset = imported(src, tmp_path / "set", patient_pattern="none")
    with Image.open(dataset.root / dataset.rows[0].image) as picture:
        assert picture.size == (16, 6 * 16)
    assert json.loads((dataset.root / "dataset.json").read_text())["depth"] == 6
    volumes = load_volumes(dataset, dataset.rows)
    assert np.array_equal(load_pictures(dataset, dataset.rows)[:, 0], volumes[:, 3])
    assert load_volumes(dataset, dataset.rows, 8).shape == (2, 6, 8, 8)
    assert dataset.arrays().images.shape == (2, 6, 16, 16)
    with pytest.raises(InputError, match=r"scans: holds volumes of 6 slices of 16 x 16 px"):
        load_images(dataset, dataset.rows)
    page = write_dataset_page(dataset.root, tmp_path / "page.html")
    assert page.read_text().count("data:image/png") == 2


def test_a_file_of_another_shape_is_found(tmp_path: Path) -> None:
    info = DatasetInfo(name="short", kind="phantom", size_px=16, depth=4)
    rng = np.random.default_rng(0)
    with create_dataset(tmp_path / "set", info) as writer:
        for rows in (64, 48):
            writer.add(
                rng.integers(0, 256, (rows, 16), dtype=np.uint8),
                patient_id=f"P{rows}",
                split="train",
                targets=[0],
            )
    dataset = open_dataset(tmp_path / "set")
    with pytest.raises(InputError, match=r"row 3: 16x48 px, where 4 slices of 16 px"):
        load_volumes(dataset, dataset.rows)
    assert any("row 3: image: 16x48 px" in one for one in check_dataset(dataset.root).problems)


def test_flat_sets_are_as_they_were_and_no_volumes(tmp_path: Path) -> None:
    info = DatasetInfo(name="flat", kind="phantom", size_px=16)
    with create_dataset(tmp_path / "set", info) as writer:
        writer.add(np.eye(16, dtype=np.uint8) * 255, patient_id="P", split="train", targets=[0])
    assert "depth" not in json.loads((tmp_path / "set" / "dataset.json").read_text())
    dataset = open_dataset(tmp_path / "set")
    assert load_pictures(dataset, dataset.rows).shape == (1, 1, 16, 16)
    with pytest.raises(InputError, match="flat: holds flat images"):
        load_volumes(dataset, dataset.rows)


def test_the_command_line_imports_by_either_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src = series_folder(tmp_path, "malignant/P0", "benign/P1")
    common = ["--src", str(src), "patient_pattern=none", "size_px=16", "volumes.depth=4"]
    window = "volumes.window=[-1000,600]"
    assert main(["data", "volumes", *common, window, "--out", str(tmp_path / "one")]) == 0
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("volumes: {window: full}\n")
    assert main(["data", "import", str(mapping), *common, "--out", str(tmp_path / "two")]) == 0
    assert open_dataset(tmp_path / "two").info.depth == 4
    capsys.readouterr()
    line = ["data", "volumes", *common[:-1], "--out", str(tmp_path / "three")]
    assert main(line) == 2
    assert "set `volumes.window`" in capsys.readouterr().err
    assert main([*line, window, "volumes.depth=1000"]) == 2
    assert "volumes.depth x size_px is 16000" in capsys.readouterr().err


def test_a_volume_is_written_the_same_whoever_else_is_there(tmp_path: Path) -> None:
    names = ("malignant/P0", "benign/P1", "malignant/P2", "benign/P3")
    src = series_folder(tmp_path, *names)
    (tmp_path / "key").write_bytes(bytes(range(32)))  # one by which no split is empty
    asked = {"patient_pattern": r"(P\d+)$", "key": tmp_path / "key", "val_fraction": 0.5}
    whole = imported(src, tmp_path / "whole", **asked)
    for path in (src / "malignant" / "P2").iterdir():
        path.unlink()
    without = imported(src, tmp_path / "without", **asked)

    def written(dataset: Dataset) -> dict[str, tuple[str, tuple[float, ...], bytes]]:
        return {
            row.patient_id: (row.split, row.targets, (dataset.root / row.image).read_bytes())
            for row in dataset.rows
        }

    assert len(written(whole)) == 4
    assert written(without).items() < written(whole).items()
