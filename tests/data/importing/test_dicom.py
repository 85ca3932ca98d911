import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up_mammograms import breast, mammogram, write

from synthdp.cli import main
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.dicom.image import DicomImage
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.images import encode_png
from synthdp.data.importing.dicom import run_dicom
from synthdp.data.importing.lesions import full_images
from synthdp.data.importing.lesions.crops import crops, squares_around
from synthdp.data.importing.lesions.region import Region
from synthdp.data.importing.settings.dicom import DicomSettings
from synthdp.data.importing.settings.lesions import CropSettings
from synthdp.errors import InputError

CROP = {"margin_px": 10, "least_side_px": 16}
BOXES = {0: (30, 60, 70, 90), 1: (20, 120, 60, 180), 2: (5, 100, 65, 150), 3: (40, 90, 90, 130)}
HEAD = "file,patient_id,malignant,laterality,xmin,ymin,xmax,ymax"


def settings(src: Path, **changes: object) -> DicomSettings:
    values = {
        **{"src": src, "metadata": src / "lesions.csv", "out": src.parent / "set", "size_px": 32},
        **{"crop": CROP, "workers": 1},
    }
    return DicomSettings.model_validate({**values, **changes})


def imported(src: Path, **changes: object) -> Dataset:
    return open_dataset(run_dicom(settings(src, **changes)))


def row(number: int, patient: str = "", side: str = "L", **box: str) -> str:
    corners = ",".join(map(str, BOXES[number])) if not box else box["box"]
    return f"{number}.dcm,{patient or f'Pat{number // 2}'},{number % 2},{side},{corners}"


def write_table(src: Path, *rows: str, head: str = HEAD) -> None:
    (src / "lesions.csv").write_text("\n".join([head, *rows]) + "\n")


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """Four mammograms of two patients, a table with a box in each, and one file of no row."""
    folder = tmp_path / "src"
    for number in range(5):
        one = mammogram(breast(number), f"{number}", Laterality="L", PatientOrientation="CC")
        write(one, folder / f"{number}.dcm")
    write_table(folder, *map(row, range(4)))
    return folder


def refusal(src: Path, **changes: object) -> str:
    with pytest.raises(InputError) as error:
        run_dicom(settings(src, **changes))
    assert not (src.parent / "set").exists()
    for name in ("Pat0", "id-", "0.dcm"):
        assert name not in str(error.value)
    return str(error.value)


def expected(number: int) -> np.ndarray:
    crop = CropSettings.model_validate(CROP)
    squares = squares_around(Region(*BOXES[number]), crop, spacing_mm=None)
    (made,) = crops(breast(number), squares, crop, 32)
    return made.astype(int)


def test_boxes_are_cut_and_headers_give_what_the_table_lacks(src: Path) -> None:
    dataset = imported(src)
    assert dataset.info.name == "set"
    for number, one in enumerate(dataset.rows):
        made = decode_pixels(dataset.root / one.image).astype(int)
        assert np.abs(made - expected(number)).max() <= 1
        assert one.attributes == {"laterality": "L", "view": "CC"}
        assert one.targets == (number % 2,)
    note = json.loads((dataset.private / "import.json").read_text())
    assert note["unlisted"] == [5]
    assert run_dicom(settings(src)) == dataset.root  # done already


@pytest.mark.parametrize(
    ("head", "cells"),
    [
        ("bbox", '"[30, 60, 40, 30]"'),
        ("Bounding Box", "30 60 70 90"),
        ("x,y", "50,75"),
        ("xmin,ymin,x_end,y_end", "30,60,70,90"),
    ],
)
def test_half_a_place_does_not_make_an_image_whole(src: Path, head: str, cells: str) -> None:
    """Such a table gave whole mammograms, with a line of the log."""
    rows = [f"{number}.dcm,P{number},{number % 2},{cells}" for number in range(4)]
    write_table(src, *rows, head=f"file,patient_id,malignant,{head}")
    said = refusal(src, crop=None, header_ids="leave_aside")
    assert f"columns {head.replace(',', ', ')} are called as those of lesions" in said
    assert "whole_images: true" in said


def test_a_mask_is_read_whatever_its_window_says(src: Path) -> None:
    mask = np.zeros_like(breast(0), dtype=np.uint8)
    mask[60:90, 30:70] = 1
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}
    write(mammogram(mask, "mask", **window), src / "mask.dcm")
    write_table(src, "0.dcm,Pat0,0,mask.dcm", head="file,patient_id,malignant,mask")
    dataset = imported(src, dicom={"window": "dicom"})
    assert len(dataset.rows) == 1


def test_nothing_of_people_comes_out(src: Path) -> None:
    dataset = imported(src)
    files = [path for path in dataset.root.rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    for word in (b"Pat0", b"Name^", b"20160807", b"1.2.826", b"id-0", b"0.dcm"):
        assert word not in content
    assert all(one.patient_id.startswith("patient-") for one in dataset.rows)
    kept = imported(src, ids="kept", out=src.parent / "kept")
    assert [one.patient_id for one in kept.rows] == ["Pat0", "Pat0", "Pat1", "Pat1"]
    assert kept.info.linked != dataset.info.linked  # so that their cohorts are never taken for one


def test_the_command_is_the_one_that_is_promised(
    src: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = src.parent / "clinic"
    options = ["--images", str(src), "--table", str(src / "lesions.csv"), "--out", str(out)]
    assert main(["data", "dicom", *options, "size_px=32", "crop.margin_px=10", "workers=1"]) == 0
    assert open_dataset(out).info.name == "clinic"
    assert str(out) in capsys.readouterr().out


def test_a_full_image_is_read_once_for_all_its_lesions(
    src: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = full_images.read_dicom, list[Path]()
    monkeypatch.setattr(
        full_images, "read_dicom", lambda path, how: seen.append(path) or read(path, how)
    )
    boxes = [f"0.dcm,Pat0,1,L,{x},60,{x + 30},90" for x in (10, 30, 50)]
    write_table(src, *boxes, row(2))
    dataset = imported(src)
    assert len(dataset.rows) == 4
    assert len(seen) == 2


def test_masks_and_other_formats_are_taken_too(src: Path) -> None:
    mask = np.zeros((240, 160), np.uint8)
    left, top, right, bottom = BOXES[0]
    mask[top:bottom, left:right] = 255
    write(mammogram(mask, "mask"), src / "m.dcm")
    (src / "m.png").write_bytes(encode_png(mask))
    (src / "0.png").write_bytes(encode_png(breast(0)))
    lines = ["0.dcm,Pat0,1,m.dcm", "0.png,Pat0,1,m.png"]
    write_table(src, *lines, head="file,patient_id,malignant,mask")
    dataset = imported(src)
    for one in dataset.rows:
        made = decode_pixels(dataset.root / one.image).astype(int)
        assert np.abs(made - expected(0)).max() <= 1


def test_lesions_are_cut_below_a_title_too(src: Path) -> None:
    plain, table = imported(src, out=src.parent / "plain"), src / "lesions.csv"
    table.write_text("Lesions of the clinic\n\n" + table.read_text())
    titled = imported(src)
    for one, other in zip(plain.rows, titled.rows, strict=True):
        assert (plain.root / one.image).read_bytes() == (titled.root / other.image).read_bytes()


def test_images_without_columns_of_lesions_are_taken_whole(src: Path) -> None:
    lines = [f"{number}.dcm,Pat{number},{number % 2}" for number in range(4)]
    write_table(src, *lines, head="file,patient_id,malignant")
    assert "name the columns in `region`" in refusal(src)
    dataset = imported(src, crop=None)
    assert decode_pixels(dataset.root / dataset.rows[0].image).shape == (32, 32)
    assert decode_pixels(dataset.root / dataset.rows[0].image).dtype == np.uint16


def test_a_table_whose_columns_seem_to_say_where_is_not_taken_for_one_of_images(src: Path) -> None:
    lines = [f"{number}.dcm,Pat{number},{number % 2},L,30,60,70,90" for number in range(4)]
    for places in (
        "x links,y oben,x rechts,y unten",
        "Box_X1,Box_Y1,Box_B,Box_H",
        "left px,top px,a,b",
    ):
        write_table(src, *lines, head=f"file,patient_id,malignant,left or right breast,{places}")
        text = refusal(src, crop=None)
        assert "name the columns in `region`" in text
        assert "whole_images: true" in text
    whole = imported(src, crop=None, whole_images=True)
    assert decode_pixels(whole.root / whole.rows[0].image).dtype == np.uint16
    write_table(src, *lines, head="file,patient_id,malignant,left or right breast,a,b,width,height")
    assert len(imported(src, crop=None, out=src.parent / "other").rows) == 4


def test_settings_of_dicom_hold_for_lesions_and_for_whole_images(src: Path) -> None:
    raw = mammogram(breast(0), "0", PresentationIntentType="FOR PROCESSING")
    write(raw, src / "0.dcm")
    taken = {"for_processing": "take"}
    assert "for processing" in refusal(src)
    assert "for processing" in refusal(src, whole_images=True, crop=None)
    assert len(imported(src, dicom=taken).rows) == 4
    whole = imported(
        src, dicom=taken, whole_images=True, crop=None, leave_out=[], out=src.parent / "whole"
    )
    assert len(whole.rows) == 4
    with pytest.raises(ValueError, match="nothing is cut without `region`"):
        settings(src, whole_images=True)


def test_extra_crops_are_of_train_alone(src: Path) -> None:
    head = f"{HEAD},split"
    write_table(src, f"{row(0)},train", f"{row(1)},train", f"{row(2)},val", head=head)
    dataset = imported(src, crop={**CROP, "extra_crops": 3})
    assert [one.split for one in dataset.rows] == ["train"] * 8 + ["val"]
    assert [one.targets[0] for one in dataset.rows] == [0] * 4 + [1] * 4 + [0]
    pictures = [(dataset.root / one.image).read_bytes() for one in dataset.rows]
    assert len(set(pictures)) == 9


def test_all_that_is_wrong_is_said_at_once(src: Path) -> None:
    two_uids = mammogram(breast(1), "0", Laterality="L")  # of the UID of image 0
    write(two_uids, src / "4.dcm")
    (src / "3.dcm").write_bytes((src / "3.dcm").read_bytes()[:4000])
    write_table(
        src,
        row(0),
        row(1, box="1,1,9000,20"),
        row(2, side="R"),
        row(3),
        "4.dcm,Pat4,0,L,5,5,50,50",
        "gone.dcm,Pat5,0,L,5,5,50,50",
        "../../x.dcm,Pat6,0,L,5,5,50,50",
        "2.dcm,Pat7,0,L,5,5,50,50",
        "2.dcm,Pat1,0,R,50,5,5,50",
        "2.dcm,Pat1,0,R,,,,",
        row(0),
    )
    words = refusal(src)
    for line in (
        "row 2: another file has the UID",
        "row 3: the region reaches outside the image (of 160 x 240 px)",
        "row 4: laterality: the table and the image's header name two",
        "row 5: its pixel data are truncated",
        "row 6: another file has the UID",
        "row 7: file: the file is missing",
        "row 8: file: the path leads outside",
        "row 9: file: row 4 gives the same file to another patient",
        "row 9: laterality: row 4 gives the same file another one",
        "row 10: region: xmin, ymin, xmax, ymax: the box is empty, or turned over",
        "row 11: region: the row says nowhere",
        "row 12: file: the same lesion as row 2",
    ):
        assert line in words, line


def test_one_bad_lesion_leaves_the_others_of_its_image(src: Path) -> None:
    write_table(src, row(0), row(0, box="1,1,9000,20"), row(1), row(2), row(3))
    assert "row 3: the region reaches outside" in refusal(src)
    dataset = imported(src, leave_out=["unreadable"])
    assert len(dataset.rows) == 4
    note = json.loads((dataset.private / "import.json").read_text())
    assert note["left_out_rows"] == {"unreadable": [3]}


def test_a_table_is_asked_for(src: Path) -> None:
    assert "--table" in refusal(src, metadata=None)
    with pytest.raises(ValueError, match="no lesion is cut then"):
        settings(src, whole_images=True, region={"mask": "m"}, crop=None)


def test_what_a_patient_becomes_hangs_on_nobody_else(src: Path) -> None:
    key = src.parent / "key"
    both = imported(src, key=key, split="train")
    write_table(src, row(2), row(3))
    alone = imported(src, key=key, split="train", out=src.parent / "alone")
    ours = [
        (one.patient_id, one.split, one.attributes, (both.root / one.image).read_bytes())
        for one in both.rows[2:]
    ]
    assert ours == [
        (one.patient_id, one.split, one.attributes, (alone.root / one.image).read_bytes())
        for one in alone.rows
    ]


def test_a_killed_import_goes_on_from_what_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, count = tmp_path / "src", 24
    lines = []
    for number in range(count):
        write(mammogram(breast(number, 60, 40), f"{number}"), folder / f"{number}.dcm")
        lines.append(f"{number}.dcm,P{number},{number % 2},5,5,20,25")
    write_table(folder, *lines, head="file,patient_id,malignant,xmin,ymin,xmax,ymax")
    script = (
        "import os; from pathlib import Path\n"
        "from synthdp.data.importing.lesions import full_images as f\n"
        "from synthdp.data.importing.dicom import DicomSettings, run_dicom\n"
        "read, left = f.read_dicom, [18]\n"
        "def dying(path, how):\n"
        "    left[0] -= 1\n"
        "    return read(path, how) if left[0] else os._exit(9)\n"
        "f.read_dicom = dying\n"
        f"src = Path({str(folder)!r})\n"
        "values = {'src': src, 'metadata': src / 'lesions.csv', 'out': src.parent / 'set'}\n"
        "run_dicom(DicomSettings.model_validate({**values, 'size_px': 32, 'workers': 1}))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert not (tmp_path / "set").exists()
    read, seen = full_images.read_dicom, list[Path]()

    def counted(path: Path, how: DicomReading) -> DicomImage:
        seen.append(path)
        return read(path, how)

    monkeypatch.setattr(full_images, "read_dicom", counted)
    dataset = imported(folder, crop=None)
    assert len(dataset.rows) == count
    assert len(seen) == count - 16  # two files of eight sources each were whole
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_persons_whom_the_table_tears_apart_are_refused(src: Path) -> None:
    def write_images(**of_all: str) -> None:
        for number in range(4):
            person = {"PatientID": f"id-{number // 2}", "StudyInstanceUID": f"1.2.826.{number}"}
            one = mammogram(breast(number), f"{number}", Laterality="L", PatientOrientation="CC")
            for name, value in {**person, **of_all}.items():
                setattr(one, name, value)
            write(one, src / f"{number}.dcm")

    pseudonyms = ["Exam1", "Exam2", "Exam3", "Exam3"]  # the first person is two of the table's
    write_table(src, *(row(number, name) for number, name in enumerate(pseudonyms)))
    write_images()
    text = refusal(src)
    assert "row 2, 3: the table has several patients where the headers" in text
    assert "have one PatientID" in text
    assert "Exam" not in text
    write_images(PatientID="removed", StudyInstanceUID="1.2.826.9")
    assert "row 2, 3, 4: the table has several" in refusal(src)
    assert "are of one study" in refusal(src)

    links = src.parent / "links.csv"
    links.write_text("patient_id,person\nExam1,a\nExam2,a\n")
    assert "row 2, 3, 4" in refusal(src, links=links)  # nothing is said of the third
    links.write_text("patient_id,person\nExam1,a\nExam2,a\nExam3,b\n")
    joined = imported(src, links=links)
    assert len({one.patient_id for one in joined.rows}) == 2
    aside = imported(src, header_ids="leave_aside", out=src.parent / "aside")
    assert len({one.patient_id for one in aside.rows}) == 3
    write_images(PatientID="removed")
    assert len({one.patient_id for one in imported(src, out=src.parent / "other").rows}) == 3


def test_words_for_sides_are_known_or_asked_for(src: Path) -> None:
    write_table(src, row(0, side="links"), row(1, side="LI"), row(2, side="Left"), row(3, side=""))
    known = imported(src, out=src.parent / "known")
    assert {one.attributes["laterality"] for one in known.rows} == {"L"}
    write_table(src, row(0, side="lhs"), row(1), row(2, side="rechts"), row(3))
    text = refusal(src)
    assert "row 2: laterality: the table's word is none that is known" in text
    assert "attribute_words: {laterality: {WORD: L}}" in text
    assert "row 4: laterality: the table and the image's header name two" in text
    meant = {"laterality": {"lhs": "left", "L": "left", "rechts": "left"}}
    kept = imported(src, attribute_words=meant)
    assert [one.attributes["laterality"] for one in kept.rows] == ["left"] * 4


def test_one_word_in_many_rows_hides_nothing_else(src: Path) -> None:
    boxes = [f"0.dcm,Pat0,B5b,L,{x},1,{x + 5},5" for x in range(30)]
    write_table(src, *boxes[:12])
    assert refusal(src).count("'B5b' is no word for a class") == 12
    write_table(src, *boxes[:20], row(1), *boxes[20:], row(0).replace("0.dcm", "gone.dcm"))
    text = refusal(src)
    assert "lesions.csv, row 2 to 21, 23 to 32: malignant: 'B5b' is no word for a class" in text
    assert text.count("B5b") == 1
    assert "row 33: file: the file is missing" in text
