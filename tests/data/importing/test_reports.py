"""Folders, tables, ids, lesions and settings that people reported to other projects.

The log is tests/data/reports.md; what is right was written down before the import was asked. Whole
commands are run, as their users would.
"""

import errno
import fcntl
import json
import os
import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_up_mammograms import Image, Lesion, write_tcia
from numpy.typing import NDArray

import synthdp.storage.locks
from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.images import encode_png
from synthdp.data.importing.lesions.boxes import cut_boxes
from synthdp.data.importing.settings.lesions import CropSettings

Pixels = NDArray[np.uint8]
Texture = Callable[..., Pixels]
MakeFolder = Callable[[Mapping[str, Pixels | bytes]], Path]
Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Run:
    """Runs `synthdp data patches` on a folder to a set beside it; returns what it told."""

    def patches(src: Path, *words: str, ends: int = EXIT_DONE, out: str = "set") -> str:
        caplog.clear()
        told = ["data", "patches", f"src={src}", f"out={src.parent / out}", "name=t", "size_px=32"]
        with caplog.at_level("INFO"):
            assert main([*told, "workers=1", *words]) == ends
        if ends != EXIT_DONE:
            assert not (src.parent / out).exists()
        shown = capsys.readouterr()
        return caplog.text + shown.out + shown.err

    return patches


def made(src: Path, out: str = "set") -> Dataset:
    return open_dataset(src.parent / out)


BY_NAME = r"patient_pattern=(\d+)\."


def table(*rows: str, head: str = "file,patient_id,malignant") -> bytes:
    return ("\n".join([head, *rows]) + "\n").encode()


# -- what stands in a folder


@pytest.fixture
def clinic(make_folder: MakeFolder, texture: Texture) -> Path:
    """Six patients in two class folders."""
    classes = ("benign", "malignant")
    return make_folder({f"{classes[i % 2]}/{i}.png": texture(i) for i in range(6)})


@pytest.mark.parametrize(
    ("left", "counted"),
    [
        pytest.param(
            {".ipynb_checkpoints/x-checkpoint.ipynb": b"{}"},
            "1 files in hidden or system folders",
            id="open-mmlab/mmpretrain#507, pytorch/vision#2831",
        ),
        pytest.param(
            {"benign/.DS_Store": b"\0\0\0\1Bud1", "malignant/.DS_Store": b"\0\0\0\1Bud1"},
            "2 hidden files",
            id="pytorch/vision#109",
        ),
        pytest.param(
            {".ipynb_checkpoints/0-checkpoint.png": None, "benign/.ipynb_checkpoints/8.png": None},
            "2 files in hidden or system folders",
            id="bghira/SimpleTuner#94",
        ),
        pytest.param(
            {"__MACOSX/benign/._0.png": b"\0\5\x16\7\0\2\0\0Mac OS X", "__MACOSX/._src": b"\0"},
            "2 files in hidden or system folders",
            id="ImageMarkup/isic-challenge-scoring#15, ultralytics/hub#89",
        ),
        pytest.param(
            {"malignant/._1.png": b"\0\5\x16\7\0\2\0\0Mac OS X", "benign/._4.PNG": b"\0\5"},
            "2 hidden files",
            id="SanjaySoniLV/ProjectKestrel#58, Difegue/LANraragi#1380",
        ),
    ],
)
def test_leavings_are_no_class_and_no_image(
    clinic: Path, texture: Texture, run: Run, left: dict[str, bytes | None], counted: str
) -> None:
    for name, content in left.items():
        (clinic / name).parent.mkdir(parents=True, exist_ok=True)
        (clinic / name).write_bytes(encode_png(texture(9)) if content is None else content)
    assert counted in run(clinic, BY_NAME)
    assert len(made(clinic).rows) == 6


def test_rows_and_images_that_lack_each_other(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """huggingface/datasets#4311"""
    rows = table("0.png,P0,0", "1.png,P1,1", "gone.png,P2,0")
    src = make_folder({f"{i}.png": texture(i) for i in range(4)} | {"metadata.csv": rows})
    message = run(src, ends=EXIT_BAD_INPUT)
    assert "row 4: file: " in message
    message = run(src, "leave_out=[missing_file]")
    assert "left out: 1 row(s) whose file is missing (4)" in message
    assert "2 images that no row asks for; those are images 3, 4 in" in message
    assert len(made(src).rows) == 2


def test_a_folder_called_data_names_no_class(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """huggingface/datasets#5153: one image beside a folder `data` gives no two classes."""
    files = {"x0.png": texture(0)} | {f"data/{i}.png": texture(i) for i in range(1, 4)}
    message = run(make_folder(files), BY_NAME, ends=EXIT_BAD_INPUT)
    assert message.count("its path tells no class beyond doubt") == 4


def test_two_columns_of_files_in_a_row(make_folder: MakeFolder, texture: Texture, run: Run) -> None:
    """jeremykawahara/derm7pt#11: one column is taken, the files of the other are counted."""
    rows = table(
        *(f"c{i}.png,d{i}.png,P{i},{i % 2}" for i in range(5)),
        head="clinic,derm,patient_id,malignant",
    )
    files: dict[str, Pixels | bytes] = {"metadata.csv": rows}
    for i in range(5):
        files |= {f"c{i}.png": texture(i), f"d{i}.png": texture(10 + i)}
    src = make_folder(files)
    message = run(src, ends=EXIT_BAD_INPUT)  # which column is meant, it can't know
    assert "it has: clinic, derm, patient_id, malignant); set file_column" in message
    assert "5 images that no row asks for" in run(src, "file_column=derm")
    assert len(made(src).rows) == 5


def test_images_that_no_row_names_are_counted(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """wisdomikezogwo/quilt1m#23"""
    rows = table(*(f"{i}.png,P{i},{i % 2}" for i in range(6)))
    src = make_folder({f"{i}.png": texture(i) for i in range(10)} | {"metadata.csv": rows})
    assert "4 images that no row asks for" in run(src)
    assert len(json.loads((made(src).private / "import.json").read_text())["unlisted"]) == 4


def test_every_row_without_its_file_is_listed(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """mysee1989/PG-CNN#8"""
    rows = table(*(f"{i}.png,P{i},{i % 2}" for i in range(30)))
    src = make_folder({f"{i}.png": texture(i) for i in range(11)} | {"metadata.csv": rows})
    message = run(src, ends=EXIT_BAD_INPUT)
    assert "row 13 to 31: file: the file is missing" in message


# -- whose they are, and which split they are of


def test_a_test_set_of_copies_is_told(
    make_folder: MakeFolder, texture: Texture, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """stefyste/RIAWELC#2: each image of test is one of train under another id."""
    rows, files = [], dict[str, Pixels | bytes]()
    for i in range(4):
        files |= {f"a{i}.png": texture(i), f"b{i}.png": texture(i)}
        rows += [f"a{i}.png,P{i},{i % 2},train", f"b{i}.png,Q{i},{i % 2},test"]
    files["metadata.csv"] = table(*rows, head="file,patient_id,malignant,split")
    src = make_folder(files)
    message = run(src)
    assert "of those under different ids, 0 stand within one split and 4 across" in message
    assert main(["data", "check", str(src.parent / "set")]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err.count("the same pixels under 2 patient ids, in test and tr") == 4


def test_a_patient_in_every_split(make_folder: MakeFolder, texture: Texture, run: Run) -> None:
    """UCSD-AI4H/COVID-CT#11"""
    splits = ("train", "val", "test", "train", "val", "test")
    rows = [f"{i}.png,P{i // 3},{i // 3},{split}" for i, split in enumerate(splits)]
    files: dict[str, Pixels | bytes] = {f"{i}.png": texture(i) for i in range(6)}
    files["metadata.csv"] = table(*rows, head="file,patient_id,malignant,split")
    message = run(make_folder(files), ends=EXIT_BAD_INPUT)
    assert "2 patient(s) stand in more than one split (test, train, val)" in message


def test_nearly_the_same_image_in_two_folders(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """Tajamul21/D-MASTER#7: one name in the folders full and val, saved twice."""
    files: dict[str, Pixels | bytes] = {f"train/benign/{i}.png": texture(i) for i in range(4)}
    files |= {f"train/malignant/{i}.png": texture(i) for i in range(4, 8)}
    again = texture(2).copy()
    again[0] ^= 1
    files |= {"val/benign/2.png": again, "val/malignant/9.png": texture(9)}
    src = make_folder(files)
    message = run(src, BY_NAME, ends=EXIT_BAD_INPUT)  # by its name it is one patient's
    assert "1 patient(s) stand in more than one split (train, val)" in message
    message = run(src, r"patient_pattern=(\w+/\w+/\d+)\.")  # or that of two, which look alike
    assert "1 group(s) of nearly the same images under different ids" in message
    assert "0 stand within one split and 1 across" in message


def test_images_of_a_patient_stay_together(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """Lightning-Universe/lightning-Covid19#11"""
    rows = table(*(f"{i}.png,P{i // 4},{i // 4 % 2}" for i in range(64)))
    src = make_folder({f"{i}.png": texture(i) for i in range(64)} | {"metadata.csv": rows})
    (src.parent / "key").write_bytes(bytes(32))
    run(src, "val_fraction=0.5", f"key={src.parent / 'key'}")
    split_of: dict[str, set[str]] = {}
    for row in made(src).rows:
        split_of.setdefault(row.patient_id, set()).add(row.split)
    assert len(split_of) == 16
    assert {len(splits) for splits in split_of.values()} == {1}
    assert {split for splits in split_of.values() for split in splits} == {"train", "val"}


@pytest.fixture
def two_tables(make_folder: MakeFolder, texture: Texture) -> Callable[[str, str], Path]:
    """A table a split, of one patient each beside others: the ids are given."""

    def make(one: str, other: str) -> Path:
        files: dict[str, Pixels | bytes] = {f"{i}.png": texture(i) for i in range(6)}
        files["train.csv"] = table(f"0.png,{one},0", "1.png,X1,1", "2.png,X2,0")
        files["val.csv"] = table(f"3.png,{other},1", "4.png,X4,0", "5.png,X5,1")
        return make_folder(files)

    return make


TWO = "tables={train.csv: train, val.csv: val}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("001", "1", id="incf-nidash/PyNIDM#84"),
        pytest.param("001017", "1017", id="OuhscBbmc/REDCapR#241"),
        pytest.param("0014629281", "14629281", id="pehses/twixtools#24"),
    ],
)
def test_ids_that_are_equal_as_numbers_are_asked_about(
    two_tables: Callable[[str, str], Path], run: Run, one: str, other: str
) -> None:
    src = two_tables(one, other)
    message = run(src, TWO, ends=EXIT_BAD_INPUT)
    assert "row 2 of train.csv, 2 of val.csv: the ids are equal as numbers" in message
    links = src.parent / "links.csv"
    links.write_text(f"patient_id,person\n{one},A\n{other},B\n")
    run(src, TWO, f"links={links}")  # two people, both kept
    assert len({row.patient_id for row in made(src).rows}) == 6
    links.write_text(f"patient_id,person\n{one},A\n{other},A\n")
    message = run(src, TWO, f"links={links}", out="one", ends=EXIT_BAD_INPUT)
    assert "1 patient(s) stand in more than one split" in message  # one person, in train and val


def test_zeros_before_ids_stay(make_folder: MakeFolder, texture: Texture, run: Run) -> None:
    """molgenis/molgenis-service-armadillo#1027"""
    rows = table(*(f"{i}.png,{i:03d},{i % 2}" for i in range(1, 10)))
    src = make_folder({f"{i}.png": texture(i) for i in range(1, 10)} | {"metadata.csv": rows})
    run(src)
    assert {row.patient_id for row in made(src).rows} == {f"{i:03d}" for i in range(1, 10)}
    assert ",001,train," in (src.parent / "set" / "manifest.csv").read_text()


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param(["0047583311587E590003", "0047583311587E590004"], id="tilo/smarter_csv#345"),
        pytest.param(["219E01BE", "219E02BE"], id="bloom-housing/bloom#4458"),
        pytest.param(
            ["39089837499752854", "39089837499752864"],
            id="n3mo/massmine#8, react-csv/react-csv#136",
        ),
    ],
)
def test_ids_that_a_spreadsheet_takes_for_numbers_stay_text(
    make_folder: MakeFolder, texture: Texture, run: Run, ids: list[str]
) -> None:
    rows = table(*(f"{i}.png,{one},{i}" for i, one in enumerate(ids)))
    src = make_folder({f"{i}.png": texture(i) for i in range(2)} | {"metadata.csv": rows})
    run(src)
    assert [row.patient_id for row in made(src).rows] == ids


def test_ids_that_are_numbers_in_e_notation_are_asked_about(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """compbiocore/VariantVisualization.jl#91: 0E8 and 1E3 are samples, and 1000 is another."""
    ids = ["0E8", "1E3", "1000", "A7"]
    rows = table(*(f"{i}.png,{one},{i % 2}" for i, one in enumerate(ids)))
    src = make_folder({f"{i}.png": texture(i) for i in range(4)} | {"metadata.csv": rows})
    message = run(src, ends=EXIT_BAD_INPUT)
    assert "row 3, 4: the ids are equal as numbers" in message
    links = src.parent / "links.csv"
    links.write_text("patient_id,person\n1E3,one\n1000,other\n")
    run(src, f"links={links}")
    assert len({row.patient_id for row in made(src).rows}) == 4


def test_long_ids_that_were_shortened_are_refused(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """desihub/prospect#88, ejh243/BrainFANS#84: several people stand under one number."""
    rows = table("0.png,3.91E+16,0", "1.png,3.91E+16,1", "2.png,P2,1")
    src = make_folder({f"{i}.png": texture(i) for i in range(3)} | {"metadata.csv": rows})
    message = run(src, ends=EXIT_BAD_INPUT)
    for number in (2, 3):
        assert f"row {number}: patient_id" in message
    assert "export the ids as text" in message


# -- how tables are written

ACCENTS = "fichier;patient_id;malin;âge;épaisseur"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(
            b"\xef\xbb\xbf" + table("0.png,P0,0", "1.png,P1,1").replace(b"\n", b"\r\n"),
            (),
            id="docling-project/docling#4097, adaltas/node-csv-parse#284",
        ),
        pytest.param(
            "\r\n".join([ACCENTS, "0.png;P0;0;61;12,5", "1.png;P1;1;58;7,25", ""]).encode("cp1252"),
            (
                "file_column=fichier",
                "target_columns.malignant=malin",
                "attribute_columns.thickness=épaisseur",
            ),
            id="opendidac/opendidac#681",
        ),
        pytest.param(
            table(
                "0.png;P0;0;round, smooth, 5 mm",
                "1.png;P1;1;spiculated, dense",
                head="file;patient_id;malignant;view",
            ),
            (),
            id="Dokuly-PLM/dokuly#149",
        ),
    ],
)
def test_tables_of_other_programs(
    make_folder: MakeFolder, texture: Texture, run: Run, content: bytes, words: Sequence[str]
) -> None:
    src = make_folder({"0.png": texture(0), "1.png": texture(1), "metadata.csv": content})
    message = run(src, *words)
    rows = made(src).rows
    assert [(row.patient_id, row.targets) for row in rows] == [("P0", (0,)), ("P1", (1,))]
    if words:
        assert [row.attributes["thickness"] for row in rows] == ["12.5", "7.25"]
        assert "Windows-1252" in message
    if b";" in content:
        assert "cut at each semicolon" in message
    if b"smooth" in content:
        assert rows[0].attributes["view"] == "round, smooth, 5 mm"


def test_blank_cells_are_unknown_and_not_negative(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """stanfordmlgroup/chexpert-labeler#9: findings of 1, 0, -1 (uncertain) and blank."""
    head = "file,patient_id,Edema,Pleural Effusion"
    rows = table("0.png,P0,1.0,", "1.png,P1,,0.0", "2.png,P2,-1.0,1.0", head=head)
    src = make_folder({f"{i}.png": texture(i) for i in range(3)} | {"metadata.csv": rows})
    words = [
        "targets=[edema, effusion]",
        "target_columns={edema: Edema, effusion: Pleural Effusion}",
        "labels={positive: [1], negative: [0], unknown: [-1]}",
    ]
    run(src, *words)
    known = [[None if np.isnan(one) else one for one in row.targets] for row in made(src).rows]
    assert known == [[1, None], [None, 0], [None, 1]]


def test_a_row_that_lacks_a_cell_is_not_moved_up(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """bhklab/nbia-toolkit#67: without the cell in the middle, every later one is another's."""
    head = "file,patient_id,sex,malignant"
    rows = table("0.png,P0,M,0", "1.png,P1,1", "2.png,P2,F,1", head=head)
    src = make_folder({f"{i}.png": texture(i) for i in range(3)} | {"metadata.csv": rows})
    assert "row 3" in run(src, ends=EXIT_BAD_INPUT)


def test_columns_without_a_name_are_passed_over(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """entitize/Fakeddit#4: indices of tables that were written again and again."""
    head = ",,,file,patient_id,malignant"
    rows = table("0,7,7,0.png,P0,0", "1,9,9,1.png,P1,1", head=head)
    run(src := make_folder({f"{i}.png": texture(i) for i in range(2)} | {"metadata.csv": rows}))
    assert [row.targets for row in made(src).rows] == [(0,), (1,)]


def test_numbers_for_nothing_are_said(make_folder: MakeFolder, texture: Texture, run: Run) -> None:
    """muccg/rdrf#1282: 999 and -1 stand for what is missing."""
    head = "file,patient_id,malignant,age"
    rows = table("0.png,P0,0,999", "1.png,P1,1,-1", "2.png,P2,-1,44", head=head)
    src = make_folder({f"{i}.png": texture(i) for i in range(3)} | {"metadata.csv": rows})
    run(src, "unknown=[999, -1]")
    rows_made = made(src).rows
    assert [row.attributes["age"] for row in rows_made] == ["", "", "44"]
    assert np.isnan(rows_made[2].targets[0])


def test_quotes_that_are_marks_of_inches_hide_no_rows(
    make_folder: MakeFolder, texture: Texture, run: Run
) -> None:
    """wireservice/csvkit#433: what stands between two of them would become one cell."""
    head = "file,patient_id,malignant,view"
    lines = ["0.png,P0,0,CC", '1.png,P1,1,"half', "2.png,P2,0,CC", "3.png,P3,1,CC"]
    rows = table(*lines, '4.png,P4,0,"whole', "5.png,P5,1,CC", head=head)
    src = make_folder({f"{i}.png": texture(i) for i in range(6)} | {"metadata.csv": rows})
    assert "row 3" in run(src, ends=EXIT_BAD_INPUT)
    rows = table(*lines, '4.png,P4,0,CC"', "5.png,P5,1,CC", head=head)  # and one that closes it
    (src / "metadata.csv").write_bytes(rows)
    assert "row 3" in run(src, ends=EXIT_BAD_INPUT)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("reading,\nfirst", id="tidyverse/readr#784, tilo/smarter_csv#192"),
        pytest.param("last,first", id="melihbirim/csvql#95"),
    ],
)
def test_names_of_columns_with_signs_in_them(
    make_folder: MakeFolder, texture: Texture, run: Run, name: str
) -> None:
    rows = table(
        '0.png,"a,\nb",P0,0', '1.png,"c,d",P1,1', head=f'file,"{name}",patient_id,malignant'
    )
    run(src := make_folder({f"{i}.png": texture(i) for i in range(2)} | {"metadata.csv": rows}))
    assert [(row.patient_id, *row.targets) for row in made(src).rows] == [("P0", 0), ("P1", 1)]


def test_names_in_decomposed_letters(make_folder: MakeFolder, texture: Texture, run: Run) -> None:
    """lidge-jun/aside-codemode#30: the user's pattern is composed, what macOS wrote is not."""
    folder = unicodedata.normalize("NFD", "données")
    files = {f"{folder}/Malignité {i}.png": texture(i) for i in range(2)}
    src = make_folder({unicodedata.normalize("NFD", name): one for name, one in files.items()})
    rows = table(*(f"données/Malignité {i}.png,P{i},{i}" for i in range(2)))
    (src / unicodedata.normalize("NFD", "hôpital.csv")).write_bytes(rows)
    run(src, "tables=hôpital.csv")
    assert len(made(src).rows) == 2


# -- lesions


def test_a_mask_of_another_size_is_named_by_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """fjeg/ddsm_tools#5: the mask is a smaller picture of nearly the same shape."""
    src = tmp_path / "src"
    images = [Image(f"P_{i:05d}", lesions=[Lesion(pathology=p)]) for i, p in ((1, "BENIGN"),)]
    images.append(Image("P_00002"))
    mask = np.zeros((209, 139), np.uint8)  # of 240 x 160
    mask[80:120, 50:90] = 255
    images[1].lesions[0].mask = mask
    write_tcia(src, images)
    told = ["data", "cbis-ddsm", "--src", str(src), "--out", str(tmp_path / "set")]
    told += ["size_px=32", "workers=1", "crop.margin_px=10", "crop.least_side_px=16"]
    assert main(told) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert "row 3 of " in error
    assert "160 x 240" in error
    assert "P_0000" not in error
    assert main([*told, "leave_out=[no_region]"]) == EXIT_DONE
    assert len(made(src).rows) == 1


def test_tables_and_folders_of_an_early_download(tmp_path: Path) -> None:
    """lishen/end2end-all-conv#2: backslashes, and a folder `DOI` above the cases."""
    src = tmp_path / "src"
    cases = [("Calc", 38, "BENIGN"), ("Calc", 41, "MALIGNANT")]
    images = [
        Image(f"P_{n:05d}", lesions=[Lesion(pathology=p)], kind=k.lower(), split="test")
        for k, n, p in cases
    ]
    write_tcia(src, images, layout="table")
    (src / "DOI").mkdir()
    for folder in src.glob("Calc-*"):
        shutil.move(folder, src / "DOI" / folder.name)
    (listed,) = src.glob("*.csv")
    lines = listed.read_text().splitlines(keepends=True)
    listed.write_text(lines[0] + "".join(lines[1:]).replace("/", "\\"))
    told = ["data", "cbis-ddsm", "--src", str(src), "--out", str(tmp_path / "set")]
    told += ["size_px=32", "workers=1", "crop.margin_px=10", "crop.least_side_px=16"]
    assert main(told) == EXIT_DONE
    assert [(row.split, *row.targets) for row in made(src).rows] == [("test", 0), ("test", 1)]


def boxed(src: Path, *boxes: str, head: str = "xmin,ymin,xmax,ymax") -> list[str]:
    """The words of an import of a lesion in each of several images of 64 x 48 px."""
    src.mkdir()
    rows = []
    for number, box in enumerate(boxes):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64), dtype=np.uint8)
        (src / f"{number}.png").write_bytes(encode_png(pixels))
        rows.append(f"{number}.png,P{number},{number % 2},{box}")
    (src / "t.csv").write_bytes(table(*rows, head=f"file,patient_id,malignant,{head}"))
    out = ["--table", str(src / "t.csv"), "--out", str(src.parent / "set")]
    size = ["size_px=8", "crop.margin_px=0", "crop.least_side_px=8", "workers=1"]
    return ["data", "dicom", "--images", str(src), *out, *size]


SOUND = "10,10,30,30"


@pytest.mark.parametrize(
    "box",
    [
        pytest.param("-5,10,30,30", id="ricbl/eyetracking#2"),
        pytest.param("3816,1244,4057,1726", id="HumanSignal/labelImg#278"),
        pytest.param("20,10,20,30", id="sovit-123/fasterrcnn-pytorch-training-pipeline#44"),
        pytest.param("50,10,70,30", id="bupt-ai-cz/BALNMP#6"),
        pytest.param("10,20,30,60", id="tensorflow/models#5474"),
    ],
)
def test_boxes_that_are_not_in_their_image_are_named_by_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], box: str
) -> None:
    """Outside on any side, of another size of the image, empty, x and y exchanged."""
    arguments = boxed(tmp_path / "src", SOUND, SOUND, box)
    assert main(arguments) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert "row 4: " in error
    assert "row 2" not in error
    assert "row 3" not in error


@pytest.mark.parametrize(
    "box",
    [
        pytest.param("43.69,20.74,64,34.6", id="microsoft/VoTT#923"),
        pytest.param("40,20,65,48", id="bit-bots/imagetagger#105"),
        pytest.param("40,20,64,48", id="sergeyk/selective_search_ijcv_with_python#4"),
    ],
)
def test_boxes_that_end_at_the_edge_are_taken(tmp_path: Path, box: str) -> None:
    """The edge of 64 px is 64; a rounding beyond it is none of the user's doing."""
    assert main(boxed(tmp_path / "src", SOUND, box)) == EXIT_DONE
    assert len(made(tmp_path / "src").rows) == 2


def test_files_of_masks_and_of_lesions_to_predict_in_decomposed_letters(tmp_path: Path) -> None:
    """unmade/shelf-back#50: the table's letters are composed, those of the disk are not."""
    src = tmp_path / "src"
    src.mkdir()
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:40] = 255
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64), dtype=np.uint8)
        for name, one in ((f"é{number}.png", pixels), (f"masqué/é{number}.png", mask)):
            path = src / unicodedata.normalize("NFD", name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encode_png(one))
    rows = table(
        *(f"é{number}.png,P{number},{number},masqué\\é{number}.png" for number in range(2)),
        head="file,patient_id,malignant,mask",
    )
    (src / "t.csv").write_bytes(rows)
    told = ["--images", str(src), "--table", str(src / "t.csv"), "--out", str(tmp_path / "set")]
    crop = ["crop.margin_px=0", "crop.least_side_px=8"]
    assert main(["data", "dicom", *told, *crop, "size_px=8", "workers=1"]) == EXIT_DONE
    assert len(made(src).rows) == 2
    cut, problems = cut_boxes(
        src,
        src / "t.csv",
        crop=CropSettings(margin_px=0, least_side_px=8),
        reading=DicomReading(),
        size_px=8,
        bits=None,
        staging=tmp_path,
    )
    assert not problems
    assert [lesion.row for lesion in cut] == [2, 3]


# -- settings


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("12:34", id="home-assistant/core#25720"),
        pytest.param("08:00:00", id="microsoft/fabric-cicd#1072"),
    ],
)
def test_a_time_of_day_is_no_number(clinic: Path, run: Run, text: str) -> None:
    run(clinic, BY_NAME, f"description={text}")
    file = clinic.parent / "settings.yaml"
    file.write_text(f"src: {clinic}\nout: {clinic.parent / 'two'}\nname: t\ndescription: {text}\n")
    out = ["size_px=32", "workers=1", BY_NAME]
    assert main(["data", "patches", str(file), *out]) == EXIT_DONE
    for name in ("set", "two"):
        info = json.loads((clinic.parent / name / "dataset.json").read_text())
        assert text in json.dumps(info)
        assert not {"754", "28800"} & set(json.dumps(info).split('"'))
    again = yaml.safe_load(yaml.safe_dump({"description": text}))
    file.write_text(file.read_text().split("description")[0] + yaml.safe_dump(again))
    assert main(["data", "patches", str(file), *out]) == EXIT_DONE  # the same: found finished


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("no", id="tomasz-c/nft-blackhole#4, canonical/cloud-init#6127"),
        pytest.param("0510210600", id="wireviz/WireViz#213"),
        pytest.param("009", id="kislyuk/yq#152"),
    ],
)
def test_words_that_old_yaml_makes_something_else_of(
    make_folder: MakeFolder, texture: Texture, run: Run, text: str
) -> None:
    """As a name, and as a word for a class, in a settings file without quotes."""
    rows = table(f"0.png,P0,{text}", "1.png,P1,on")
    src = make_folder({f"{i}.png": texture(i) for i in range(2)} | {"metadata.csv": rows})
    file = src.parent / "settings.yaml"
    labels = f"labels: {{malignant: [on], benign: [{text}]}}\n"
    file.write_text(f"src: {src}\nout: {src.parent / 'set'}\nname: {text}\n{labels}")
    assert main(["data", "patches", str(file), "size_px=32", "workers=1"]) == EXIT_DONE
    assert made(src).info.name == text
    assert [row.targets for row in made(src).rows] == [(0,), (1,)]


# -- file systems


def refusing(number: int) -> Callable[..., None]:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return flock


def posix_locks(descriptor: object, kind: int) -> None:
    """As NFSv4 has it: who locks alone must be able to write, who shares must be able to read."""
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()  # type: ignore[attr-defined]
    mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    if (kind & fcntl.LOCK_EX and mode == os.O_RDONLY) or (
        kind & fcntl.LOCK_SH and mode == os.O_WRONLY
    ):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


@pytest.fixture(
    params=[
        pytest.param(
            refusing(errno.ENOLCK), id="ComparativeGenomicsToolkit/cactus#1299, nipy/nipype#1370"
        ),
        pytest.param(posix_locks, id="alexflint/go-filemutex#24, etcd-io/etcd#5537"),
        pytest.param(lambda *_: None, id="tox-dev/filelock#6"),
    ]
)
def other_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthdp.storage.locks, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(fcntl, "flock", request.param)


@pytest.mark.usefixtures("other_locks")
def test_a_set_is_made_and_recorded_in_whatever_locks_there_are(clinic: Path, run: Run) -> None:
    """Where locks do nothing at all (nolock), nobody can tell, as docs/settings.md says."""
    run(clinic, BY_NAME, "privacy.budget={epsilon: 8, delta: 1e-5}")
    out = clinic.parent / "set"
    assert len(made(clinic).rows) == 6
    assert main(["data", "check", str(out)]) == EXIT_DONE
    raised = ["--epsilon", "9", "--because", "board"]
    assert main(["data", "budget", str(out), *raised]) == EXIT_DONE
    assert not [path.name for path in clinic.parent.iterdir() if path.name.startswith(".")]


# -- results that outlive their data


@pytest.fixture
def other_settings(clinic: Path, run: Run) -> Path:
    run(clinic, BY_NAME)
    return clinic


def test_other_settings_of_preparation_are_no_old_result(other_settings: Path, run: Run) -> None:
    """IBM/unitxt#7"""
    src = other_settings
    told = ["data", "patches", f"src={src}", f"out={src.parent / 'set'}", "name=t", "workers=1"]
    assert main([*told, BY_NAME, "size_px=16"]) == EXIT_BAD_INPUT
    assert main([*told, BY_NAME, "size_px=32", "bits=8"]) == EXIT_BAD_INPUT
    assert made(src).info.size_px == 32


def test_other_images_under_one_path_are_no_old_result(
    other_settings: Path, texture: Texture, capsys: pytest.CaptureFixture[str]
) -> None:
    """frostinassiky/gtad#16"""
    src = other_settings
    (src / "benign" / "0.png").write_bytes(encode_png(texture(77)))
    told = ["data", "patches", f"src={src}", f"out={src.parent / 'set'}", "name=t", "workers=1"]
    assert main([*told, BY_NAME, "size_px=32"]) == EXIT_BAD_INPUT
    assert "changed" in capsys.readouterr().err


def test_sources_that_were_copied_are_the_same(other_settings: Path, run: Run) -> None:
    """huggingface/datasets#2496: a copy has other times and inodes, and the same content."""
    src = other_settings
    shutil.copytree(src, src.parent / "copy")
    shutil.rmtree(src)
    shutil.copytree(src.parent / "copy", src)
    before = (src.parent / "set" / "manifest.csv").stat().st_mtime_ns
    assert "there already" in run(src, BY_NAME)
    assert (src.parent / "set" / "manifest.csv").stat().st_mtime_ns == before
