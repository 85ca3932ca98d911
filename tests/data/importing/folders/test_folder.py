"""What stands in a folder: every file is an image of the set, or counted aloud by a reason."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.images import encode_png
from synthdp.data.importing.folders.folder import folder_contents
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.errors import InputError
from synthdp.storage.files import read_json

Pixels = NDArray[np.uint8]
Texture = Callable[..., Pixels]
MakeFolder = Callable[[Mapping[str, Pixels | bytes]], Path]


def imported(src: Path, **changes: object) -> Dataset:
    values = {"src": src, "out": src.parent / "set", "name": "t", "patient_pattern": r"(\d+)\."}
    return open_dataset(run_patches(PatchesSettings.model_validate(values | changes)))


def refusal(src: Path, **changes: object) -> str:
    with pytest.raises(InputError) as error:
        imported(src, **changes)
    assert not (src.parent / "set").exists()
    return str(error.value)


@pytest.fixture
def clinic(make_folder: MakeFolder, texture: Texture) -> Path:
    """Six patients, three of each class."""
    folders = ("benign", "malignant")
    return make_folder({f"{folders[i % 2]}/{i}.png": texture(i) for i in range(6)})


def test_half_a_set_of_another_kind_is_taken(clinic: Path, texture: Texture) -> None:
    for number in range(6, 10):
        suffix = ("jpg", "JPEG", "tif", "npy")[number - 6]
        path = clinic / "benign" / f"{number}.{suffix}"
        if suffix == "npy":
            np.save(path, texture(number))
        else:
            Image.fromarray(texture(number)).save(path)
    assert len(imported(clinic).rows) == 10


@pytest.mark.parametrize(
    "folder",
    [
        *(".ipynb_checkpoints", "@eaDir", ".Trash-1000", "__MACOSX", ".git", "$RECYCLE.BIN"),
        *("lost+found", "#recycle", "System Volume Information", "@EADIR", ".Trash", "__pycache__"),
    ],
)
def test_hidden_and_system_folders_are_skipped_and_counted(
    folder: str, clinic: Path, texture: Texture, caplog: pytest.LogCaptureFixture
) -> None:
    copies = clinic / "benign" / folder / "benign"
    copies.mkdir(parents=True)
    for name in ("0.png", "._1.png", "deeper/2.png"):
        (copies / name).parent.mkdir(exist_ok=True)
        (copies / name).write_bytes(encode_png(texture(50)))
    with caplog.at_level("INFO"):
        dataset = imported(clinic)
    assert len(dataset.rows) == 6
    assert "not used: 3 files in hidden or system folders" in caplog.text
    left_out = read_json(dataset.private / "import.json")["left_out"]
    assert 3 in left_out.values()


def test_a_set_below_a_hidden_folder_is_no_hidden_one(clinic: Path) -> None:
    """As in caches: what is asked for by its path is wanted."""
    hidden = clinic.parent / ".cache" / "@eaDir"
    hidden.parent.mkdir()
    clinic.rename(hidden)
    assert len(imported(hidden).rows) == 6


def test_no_unreadable_system_folder_stops_an_import(
    clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lost+found` is the system's own."""
    (clinic / "lost+found").mkdir()
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "lost" not in str(path) and access(path, mode)
    )
    assert len(imported(clinic).rows) == 6


def test_files_of_systems_and_hidden_ones_are_counted(
    clinic: Path, texture: Texture, caplog: pytest.LogCaptureFixture
) -> None:
    png = encode_png(texture(60))
    files = {
        **{"Thumbs.db": b"x", "desktop.ini": b"x", "DICOMDIR": b"\0" * 128 + b"DICM"},
        **{".DS_Store": b"x", "benign/._0.png": b"\0\5\x16\7", "benign/.7.png": png},
        **{"notes.docx": b"x", "a.P_00123": b"x", "b.P_00124": png, "Icon\r": b""},
    }
    for name, content in files.items():
        (clinic / name).write_bytes(content)
    with caplog.at_level("INFO"):
        assert len(imported(clinic).rows) == 6
    for words in (
        "1 .docx files",
        "4 files of the system (as Thumbs.db, DICOMDIR)",
        "2 hidden files",
        "1 hidden images (whose names begin with a dot)",
        "1 images whose names do not end as an image's",
        "1 other files",
    ):
        assert words in caplog.text
    assert "P_0012" not in caplog.text  # the end of a name may be an id


def test_torn_and_absent_images_are_findings_or_left_out(
    clinic: Path, texture: Texture, caplog: pytest.LogCaptureFixture
) -> None:
    (clinic / "benign" / "20.png").write_bytes(b"")
    (clinic / "benign" / "21.png").write_bytes(encode_png(texture(21))[:200])
    (clinic / "benign" / "22.png").write_bytes(b"<html>404 Not Found</html>")
    (clinic / "benign" / "23.png").symlink_to(clinic / "gone.png")
    (clinic / "benign" / "24.png").symlink_to(clinic / "benign" / "24.png")  # a circle
    text = refusal(clinic)
    for number in (3, 4, 5, 6, 7):
        assert f"image {number}: " in text
    text = refusal(clinic, leave_out=("missing_file",))
    assert [number for number in range(1, 12) if f"image {number}: " in text] == [3, 4, 5]
    with caplog.at_level("INFO"):
        dataset = imported(clinic, leave_out=("missing_file", "unreadable"))
    assert len(dataset.rows) == 6
    assert "left out: 3 image(s) that cannot be read (3, 4, 5)" in caplog.text
    assert "left out: 2 image(s) whose file is missing (6, 7)" in caplog.text


def test_who_is_left_out_moves_nobody(clinic: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(32))
    whole = imported(clinic, key=key, val_fraction=0.4)
    (clinic / "benign" / "2.png").write_bytes(b"torn")
    fewer = imported(
        clinic, key=key, val_fraction=0.4, leave_out=("unreadable",), out=tmp_path / "fewer"
    )
    split_of = {row.patient_id: (row.split, row.targets) for row in whole.rows}
    del split_of["2"]
    assert {row.patient_id: (row.split, row.targets) for row in fewer.rows} == split_of


def test_nothing_is_made_of_images_that_are_all_left_out(clinic: Path) -> None:
    for path in clinic.rglob("*.png"):
        path.write_bytes(b"torn")
    assert "every image was left out" in refusal(clinic, leave_out=("unreadable",))


def test_rows_without_files_and_files_without_rows(
    clinic: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "benign/0.png,a,0\nbenign/9.png,b,0\nmalignant/3.png,c,1\nmalignant/8.png,d,1\n"
    (clinic / "metadata.csv").write_text(f"file,patient_id,malignant\n{rows}")
    text = refusal(clinic, patient_pattern=None)
    for row in (3, 5):
        assert f"metadata.csv, row {row}: file: the file is missing" in text
    with caplog.at_level("INFO"):
        dataset = imported(clinic, patient_pattern=None, leave_out=("missing_file",))
    assert len(dataset.rows) == 2
    assert "left out: 2 row(s) whose file is missing (3, 5)" in caplog.text
    unlisted = "4 images that no row asks for; those are images 2, 3, 4, 6 in the order of"
    assert unlisted in caplog.text
    assert ".csv" not in caplog.text  # the table is used


def test_names_that_differ_in_case_alone_are_two_images(
    make_folder: MakeFolder, texture: Texture
) -> None:
    src = make_folder(
        {f"benign/{name}": texture(i) for i, name in enumerate(("a1.png", "A1.PNG", "a1.Png"))}
    )
    text = refusal(src, patient_pattern=r"(\w1)")
    assert "image 1, 2: the ids differ only in case" in text
    assert len(imported(src, patient_pattern="none").rows) == 3


def hugging_face_cache(tmp_path: Path, texture: Texture) -> Path:
    """Snapshots of links into the folder of contents beside them."""
    blobs = tmp_path / "hub" / "blobs"
    snapshot = tmp_path / "hub" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    for index in range(4):
        (blobs / f"{index:064x}").write_bytes(encode_png(texture(index)))
        link = snapshot / ("benign" if index % 2 else "malignant") / f"{index}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../../blobs/{index:064x}")
    return snapshot


def test_links_into_a_folder_are_followed_when_it_is_named(
    tmp_path: Path, texture: Texture
) -> None:
    snapshot = hugging_face_cache(tmp_path, texture)
    (tmp_path / "set").mkdir()
    out = tmp_path / "out"
    text = refusal(snapshot, out=out)
    assert text.count("the path leads outside the folder, by a link;") == 4
    assert "follow_links_into" in text
    assert "leads outside" in refusal(snapshot, out=out, follow_links_into=(tmp_path / "set",))
    dataset = imported(snapshot, out=out, follow_links_into=(tmp_path / "hub" / "blobs",))
    assert len(dataset.rows) == 4


def test_linked_folders_are_walked_once_when_named(clinic: Path, texture: Texture) -> None:
    elsewhere = clinic.parent / "disk" / "benign"
    elsewhere.mkdir(parents=True)
    (elsewhere / "30.png").write_bytes(encode_png(texture(30)))
    (elsewhere / "up").symlink_to(elsewhere.parent)  # a circle
    (elsewhere / "again").symlink_to(elsewhere)
    (clinic / "linked").symlink_to(elsewhere.parent)
    (clinic / "twice").symlink_to(elsewhere.parent)
    assert "folder(s) are links" in refusal(clinic)
    contents = folder_contents(clinic, (elsewhere.parent,))
    assert sum(path.name == "30.png" for path in contents.images) == 1
    assert len(contents.images) == 7
    assert contents.skipped == {
        "linked folders": 0,
        "links to folders that they stand in": 2,
        "links to folders that were walked under another name": 1,
    }
    # Under which of two names the images are taken would depend on whether the other is there.
    text = refusal(clinic, follow_links_into=(elsewhere.parent,))
    assert "1 link(s) lead to folders that have another name below the folder too" in text
    (clinic / "twice").unlink()
    assert len(imported(clinic, follow_links_into=(elsewhere.parent,)).rows) == 7


def test_a_link_to_the_folder_above_brings_nothing_twice(clinic: Path) -> None:
    (clinic / "above").symlink_to(clinic.parent)
    (clinic / "a").symlink_to(clinic / "benign")
    contents = folder_contents(clinic, (clinic.parent,))
    assert len(contents.images) == 6
    assert {path.parent.name for path in contents.images} == {"benign", "malignant"}
    assert not contents.problems


def test_long_names_and_deep_folders(make_folder: MakeFolder, texture: Texture) -> None:
    deep = "/".join(["d" * 100] * 12)
    names = [f"benign/{deep}/1.png", f"malignant/{'x' * 240}_2.png", "benign/乳腺/3.png"]
    src = make_folder({name: texture(i) for i, name in enumerate(names)})
    assert len(imported(src).rows) == 3


def test_folders_whose_names_are_no_text(clinic: Path) -> None:
    src = Path(os.fsdecode(os.fsencode(clinic.parent) + b"/M\xfcller"))
    clinic.rename(src)
    out = Path(os.fsdecode(os.fsencode(src) + b"-out"))
    dataset = imported(src, out=out)
    assert len(dataset.rows) == 6
    assert imported(src, out=out).info == dataset.info  # it is found finished
    noted = read_json(dataset.private / "import.json")["settings"]
    assert noted["src"].endswith("M\\xfcller")


def test_bytes_that_are_no_text_in_an_id(make_folder: MakeFolder, texture: Texture) -> None:
    src = make_folder({"benign/9.png": texture(0)})
    for number, name in enumerate((b"M\xfcller_1.png", b"M\xfcller_2.png", b"M\xe4ller_1.png")):
        with open(os.fsencode(src / "benign") + b"/" + name, "wb") as stream:
            stream.write(encode_png(texture(number + 1)))
    dataset = imported(src, patient_pattern=r"benign/([^_]*)[_.]")
    assert len({row.patient_id for row in dataset.rows}) == 3
    ids = read_json(dataset.private / "import.json")["ids"]
    assert set(ids) == {"M\\xfcller", "M\\xe4ller"}


def test_rows_that_are_left_out_name_their_files(
    clinic: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "benign/0.png,a,0\nbenign/2.png,nan,0\nmalignant/3.png,c,x\nmalignant/1.png,d,1\n"
    (clinic / "metadata.csv").write_text(f"file,patient_id,malignant\n{rows}")
    with caplog.at_level("INFO"):
        reasons = ("no_patient", "unknown_class")
        assert len(imported(clinic, patient_pattern=None, leave_out=reasons).rows) == 2
    assert "not used: 2 images that no row asks for; those are images 3, 6 in the" in caplog.text


def test_a_table_whose_columns_tell_no_class_is_one_finding(
    make_folder: MakeFolder, texture: Texture
) -> None:
    files: dict[str, Pixels | bytes] = {f"{i}.png": texture(i) for i in range(5)}
    rows = "".join(f"{i}.png,P{i},MALIGNANT\n" for i in range(5))
    src = make_folder({**files, "metadata.csv": f"file,patient_id,pathology\n{rows}".encode()})
    text = refusal(src, patient_pattern=None)
    assert text.count("\n") == 1
    for words in ("no column is called malignant", "it has: file, patient_id, pathology", "labels"):
        assert words in text
    dataset = imported(src, patient_pattern=None, target_columns={"malignant": "pathology"})
    assert {row.targets for row in dataset.rows} == {(1.0,)}
