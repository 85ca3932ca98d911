import csv
import errno
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.cli import main
from synthdp.data.check import check_dataset
from synthdp.data.images import encode_png
from synthdp.data.manifest.classes import missing_classes
from synthdp.errors import InputError

MakeSet = Callable[..., Path]
Texture = Callable[..., NDArray[np.uint8]]


def edit(root: Path, row: int, **cells: str) -> None:
    """Change cells of the manifest; rows count from 2, as the header is row 1."""
    with open(root / "manifest.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[row - 2].update(cells)
    with open(root / "manifest.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def put(root: Path, row: int, pixels: NDArray[np.uint8] | bytes) -> None:
    """Replace the image of a row of a set that `make_set` made."""
    content = pixels if isinstance(pixels, bytes) else encode_png(pixels)
    (root / "images" / f"{row - 1:06d}.png").write_bytes(content)


def problems(root: Path) -> list[str]:
    return list(check_dataset(root).problems)


def test_a_sound_set(make_set: MakeSet) -> None:
    root = make_set()
    result = check_dataset(root, counts=True)
    assert result.problems == ()
    lines = result.summary.splitlines()
    assert lines[0] == "tiny (real): 8 rows, 4 patients"
    assert "  train: 6 images of 3 patients; malignant 2 yes, 4 no" in lines
    assert "  val: 2 images of 1 patients; malignant 2 yes, 0 no" in lines
    assert "  read: 8 images; 32x32 px (8); 8 bit (8)" in lines
    assert any(line.startswith("  grey levels at 8 bit: 0 to 25") for line in lines)
    assert lines[-1] == "  findings: 0"
    assert "  val has no image with malignant no, so that nothing can be learned or measured" in (
        result.summary
    )


def test_a_split_that_lacks_a_class_is_told_whichever_it_is() -> None:
    splits = ("train", "train", "val", "val", "test", "test", "external")
    labels = [(0, 1), (1, 1), (1, 0), (0, 1), (0, 0), (0, 1), (1, math.nan)]
    end = "so that nothing can be learned or measured there"
    assert missing_classes(("a", "b"), labels, splits) == [
        f"test has no image with a yes, {end}",
        f"external has no image with a no, {end}",
        f"external has no image with b yes, {end}",
        f"train and external have no image with b no, {end}",
    ]


def test_classes_of_patients_are_counted_on_request_alone(
    make_set: MakeSet, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_set()
    assert main(["data", "check", str(root)]) == 0
    assert "train: 6 images of 3 patients; classes with --counts" in capsys.readouterr().out
    assert main(["data", "check", str(root), "--counts"]) == 0
    assert "malignant 2 yes, 4 no" in capsys.readouterr().out


def test_classes_of_public_images_are_always_counted(make_set: MakeSet) -> None:
    assert "malignant 2 yes, 4 no" in check_dataset(make_set(kind="phantom")).summary


def test_ids_that_are_words_for_nothing(make_set: MakeSet) -> None:
    root = make_set()
    for row in (2, 3, 5):
        edit(root, row, patient_id="nan")
    (found,) = problems(root)
    assert found.startswith("rows 2, 3, 5: patient_id: a word for nothing")


def test_all_findings_at_once_without_ids_or_paths(
    make_set: MakeSet, texture: Texture, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_set(patients=8)
    whole = (root / "images/000001.png").read_bytes()
    put(root, 2, whole[:200])
    edit(root, 2, malignant="2")
    edit(root, 3, image="/etc/passwd")
    (root / "images/000003.png").unlink()
    put(root, 5, texture(99))
    put(root, 6, texture(99))
    put(root, 7, np.full((32, 32), 7, dtype=np.uint8))
    put(root, 8, texture(98, side_px=40))
    put(root, 9, np.clip(texture(16).astype(int) + 2, 0, 255).astype(np.uint8))
    edit(root, 10, split="nowhere")
    edit(root, 11, patient_id="Jane Doe")
    edit(root, 12, split="test")
    put(root, 18, texture(16))
    (root / "images" / "stray.png").write_bytes(whole)
    with open(root / "manifest.csv", "a") as stream:
        stream.write("images/000001.png,P9\n")
    found = problems(root)
    for problem in (
        "manifest.csv, row 18: has more or fewer cells than the header",
        "row 2: malignant: '2' is not 0, 1 or empty",
        "row 2: image: not a readable PNG (truncated, or damaged); copy or export it again",
        "row 3: image: the path leads outside the folder",
        "row 4: image: the file is missing",
        "rows 5, 6: the same pixels under 2 patient ids, in train",
        "rows 5, 6: the same pixels, but different labels",
        "row 7: image: uses less than a sixteenth of its 8 bits (grey levels 7 to 7), as an image "
        "does that is empty or was not scaled to its depth; say how many bits are used by `bits`, "
        "or scale its pixels to the full range",
        "row 8: image: 40x40 px, where dataset.json says 32x32",
        "row 10: split: is none of train, val, test, external",
        "row 11: patient_id: 1 to 64 letters, digits, - or _ are allowed",
        "1 patient(s) stand in more than one split (test, train); give each patient one split",
    ):
        assert problem in found
    text = "\n".join(found)
    assert all(word not in text for word in ("Jane", "passwd", "stray", "P1", "000001"))
    assert main(["data", "check", str(root)]) == 2
    out = capsys.readouterr()
    assert f"findings: {len(found)}" in out.out
    assert "rows 5, 6: the same pixels" in out.err


def test_near_duplicates_of_different_patients(make_set: MakeSet, texture: Texture) -> None:
    root = make_set()
    near = np.clip(texture(0).astype(int) + 2, 0, 255).astype(np.uint8)
    put(root, 3, near)
    assert problems(root) == []  # two views of one patient may look alike
    put(root, 8, near[::-1])
    put(root, 4, texture(6)[::-1])
    put(root, 9, np.clip(near.astype(int) + 1, 0, 255).astype(np.uint8))
    assert problems(root) == [
        "rows 2, 3, 9: nearly the same image under 2 patient ids, in train and val; look at them "
        "(`synthdp data show`), and if these are one person, say so in `links` and import again"
    ]


def test_copies_within_a_split_under_two_ids_are_shown(make_set: MakeSet, texture: Texture) -> None:
    root = make_set()
    put(root, 5, texture(0))
    first, second = problems(root)[0], problems(root)[-1]
    assert first == "rows 2, 5: the same pixels under 2 patient ids, in train"
    assert second.startswith("rows 2, 5: nearly the same image under 2 patient ids, in train; look")


def test_images_of_a_generator_may_look_alike(make_set: MakeSet, texture: Texture) -> None:
    root = make_set(kind="synthetic")
    put(root, 9, np.clip(texture(0).astype(int) + 2, 0, 255).astype(np.uint8))
    result = check_dataset(root)
    assert result.problems == ()
    assert "8 rows, 4 made-up ids" in result.summary


def test_many_copies_are_one_line(make_set: MakeSet, texture: Texture) -> None:
    root = make_set(patients=20, kind="synthetic")
    for row in range(2, 42):
        put(root, row, texture(0))
    first, _ = problems(root)
    assert first == "rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 and 28 more: the same pixels"


def test_an_unnamed_image(make_set: MakeSet, texture: Texture) -> None:
    root = make_set()
    (root / "images" / "more").mkdir()
    (root / "images" / "more" / "P_00012.png").write_bytes(encode_png(texture(50)))
    assert problems(root) == ["images: 1 file(s) that the manifest doesn't name; remove them"]


def test_a_broken_description_hides_nothing_else(make_set: MakeSet) -> None:
    root = make_set()
    (root / "dataset.json").write_text('{"name": "tiny"}')
    put(root, 4, b"no image")
    found = problems(root)
    assert "dataset.json" in found[0]
    assert "kind: missing" in found[0]
    assert any(problem.startswith("row 4: image: not a readable") for problem in found)
    (root / "dataset.json").unlink()
    assert "there is no such file" in problems(root)[0]


def test_a_missing_manifest_and_folder(make_set: MakeSet, tmp_path: Path) -> None:
    root = make_set()
    (root / "manifest.csv").unlink()
    found = problems(root)
    assert found[0] == "manifest.csv, missing; restore it or make the data set again"
    with pytest.raises(InputError, match="there is no such folder"):
        check_dataset(tmp_path / "none")
    (tmp_path / "photos" / "normal").mkdir(parents=True)  # not imported yet
    with pytest.raises(InputError, match=r"photos: not a data-set folder.*synthdp data import"):
        check_dataset(tmp_path / "photos")
    assert main(["data", "check", str(tmp_path / "none")]) == 2


def test_unknown_labels_are_counted(make_set: MakeSet) -> None:
    root = make_set()
    edit(root, 2, malignant="")
    assert "malignant 2 yes, 3 no, 1 unknown" in check_dataset(root, counts=True).summary


def test_folders_that_cannot_be_read_are_named(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_set()
    (root / "images" / "more").mkdir()
    scandir = os.scandir

    def refused(path: object = ".") -> object:
        if str(path).endswith("more"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refused)
    assert problems(root) == ["images: 1 folder(s) cannot be read; make them readable"]
