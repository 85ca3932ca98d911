"""The page of a data set: what it shows, and where it stands."""

import math
from pathlib import Path

import numpy as np
import pytest

from synthdp.cli import main
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.pages.dataset import dataset_page, write_dataset_page
from synthdp.storage.files import write_json

#: Picture, patient and label of each image: one picture has two labels, one has two patients.
_IMAGES = (
    *((0, "P1", 1.0), (0, "P1", 0.0), (1, "P2", 1.0), (1, "P3", 1.0)),
    *((2, "P4", 0.0), (3, "P5", math.nan)),
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    out = tmp_path / "tiny"
    info = DatasetInfo(name="tiny", kind="real", size_px=32)
    with create_dataset(out, info) as writer:
        for picture, patient, label in _IMAGES:
            writer.add(
                np.random.default_rng(picture).integers(40, 200, (32, 32), dtype=np.uint8),
                patient_id=patient,
                split="val" if patient == "P5" else "train",
                targets=[label],
                attributes={"view": "<script>CC</script>"},
            )
    return out


def test_the_page_counts_images_and_patients_by_split_and_class(tiny: Path) -> None:
    page = dataset_page(open_dataset(tiny))
    assert "6 images of 5 patients" in page
    table = page[page.index('id="splits"') : page.index("</table>")]
    cells = [part.split("<")[0] for part in table.split('class="value')[1:]]
    assert [cell.split(">")[1] for cell in cells] == ["5", "3", "2", "0", "1", "0", "0", "1"]


def test_copies_are_shown_by_kind_for_a_person_to_judge(tiny: Path) -> None:
    page = dataset_page(open_dataset(tiny))
    copies = page[page.index('id="copies"') : page.index('id="sheets"')]
    for line, rows in (
        ("The same picture with different labels: 1", (2, 3)),
        ("The same picture under different ids: 1", (4, 5)),
        ("The same picture twice under one id: 1", (2, 3)),
    ):
        shown = copies[copies.index(line) :]
        first = shown[: shown.index("</div>")]
        assert [f"row {row}, train" in first for row in rows] == [True, True]
    assert "2 images of 2 ids, in train" in copies
    assert "P2" not in page  # ids stand nowhere


def test_nearly_the_same_picture_under_two_ids_is_shown(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(40, 200, (32, 32), dtype=np.uint8)
    with create_dataset(
        tmp_path / "set", DatasetInfo(name="set", kind="real", size_px=32)
    ) as writer:
        for number, shown in enumerate((picture, picture + 9)):
            writer.add(shown, patient_id=f"P{number}", split="train", targets=[number])
    page = dataset_page(open_dataset(tmp_path / "set"))
    assert "Nearly the same picture under different ids: 1" in page


def test_a_page_fetches_nothing_and_takes_no_text_of_the_set_for_its_own(tiny: Path) -> None:
    page = dataset_page(open_dataset(tiny))
    assert "<script" not in page
    assert "&lt;script&gt;CC" in page
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_what_was_left_out_and_why_stands_on_the_page(tiny: Path) -> None:
    note = {
        "left_out": {".jpg files": 29, "hidden files": 0},
        "settings": {"src": "/data/dr-who", "val_fraction": 0.2},
        "source_sizes": {"64x48 px": 6},
    }
    write_json(tiny / "private" / "import.json", note)
    page = dataset_page(open_dataset(tiny))
    assert "<li>29 .jpg files</li>" in page
    assert "hidden files" not in page
    assert "64x48 px (6)" in page
    assert "val_fraction" in page
    assert "data/dr" not in page


def test_the_page_stays_with_the_set_and_is_its_owners_alone(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "show", str(tiny)]) == 0
    path = tiny / "private" / "dataset.html"
    assert capsys.readouterr().out.strip() == str(path)
    assert path.stat().st_mode & 0o077 == 0
    assert "tiny" in path.read_text()


def test_another_place_may_be_named_but_no_folder(tiny: Path, tmp_path: Path) -> None:
    assert write_dataset_page(tiny, tmp_path / "page.html").is_file()
    with pytest.raises(InputError, match="is a folder; name a file"):
        write_dataset_page(tiny, tmp_path)


def test_an_unreadable_image_is_named_by_its_row(tiny: Path) -> None:
    (tiny / "images" / "000003.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 image\(s\) cannot be shown, such as row 4: .*check"):
        write_dataset_page(tiny)


def test_several_targets_and_made_up_ids(tmp_path: Path) -> None:
    info = DatasetInfo(name="chest", kind="synthetic", size_px=32, targets=("edema", "mass"))
    with create_dataset(tmp_path / "chest", info) as writer:
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 2**16, (32, 32), dtype=np.uint16)
            targets = [number % 2, math.nan if number else 1.0]
            writer.add(pixels, patient_id=f"s{number}", split="train", targets=targets)
    page = dataset_page(open_dataset(tmp_path / "chest"))
    assert "4 images of 4 ids" in page
    assert "outside every promise" not in page
    assert [f">{name} <span" in page for name in ("edema", "no edema", "mass", "mass unknown")] == [
        True
    ] * 4
    assert ">no mass <span" not in page  # no image shows it
    assert "16 bit" in page
