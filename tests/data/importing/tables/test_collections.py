"""Tiny folders laid out as public collections are, imported by the mappings that come along."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import write_mammogram
from made_up_collections import FINDINGS, dicom, noise, npz, picture, write_table
from numpy.typing import NDArray

from synthdp.config.settings import load_settings
from synthdp.config.yaml_core import read_yaml
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.importing.dicom import run_dicom
from synthdp.data.importing.lesions.region import Region
from synthdp.data.importing.listing import Listing, list_patches
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.dicom import DicomSettings
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.importing.settings.tables import TableSettings
from synthdp.data.importing.tables.collection import collection_file, collection_names
from synthdp.errors import InputError


def settings(src: Path, name: str, *overrides: str) -> PatchesSettings:
    """The settings of the stage that imports the collection."""
    words = {"src": str(src), "out": str(src.parent / "out"), "size_px": "16"}
    if "name" not in read_yaml(collection_file(name)):
        words["name"] = "tiny"
    words |= dict(override.split("=", 1) for override in overrides)
    pairs = [f"{key}={value}" for key, value in words.items()]
    is_dicom = "whole_images" in read_yaml(collection_file(name))
    stage = DicomSettings if is_dicom else PatchesSettings
    return load_settings(stage, None, pairs, beneath=collection_file(name))


def run(asked: PatchesSettings) -> Path:
    return run_dicom(asked) if isinstance(asked, DicomSettings) else run_patches(asked)


def listed(src: Path, name: str, *overrides: str) -> Listing:
    listing = list_patches(settings(src, name, *overrides))
    assert listing.problems == ()
    return listing


def imported(src: Path, name: str, *overrides: str) -> Dataset:
    return open_dataset(run(settings(src, name, *overrides)))


def refusal(src: Path, name: str, *overrides: str) -> str:
    asked = settings(src, name, *overrides)
    with pytest.raises(InputError) as error:
        run(asked)
    assert not asked.out.exists()
    return str(error.value)


def facts(listing: Listing) -> list[tuple[str, str | None, float]]:
    """Patient, split and first target of each image."""
    return [(patch.patient, patch.split, patch.targets[0]) for patch in listing.patches]


def files(listing: Listing, src: Path) -> list[str]:
    return [patch.path.relative_to(src).as_posix() for patch in listing.patches]


@pytest.fixture
def src(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    folder.mkdir()
    return folder


def unknown(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


@pytest.mark.parametrize("name", collection_names())
def test_every_mapping_is_settings_of_an_import(name: str, tmp_path: Path) -> None:
    assert settings(tmp_path / "src", name).src == tmp_path / "src"
    text = collection_file(name).read_text(encoding="utf-8")
    assert text.startswith("# "), "a mapping says first what it is for"


def test_an_unknown_collection_is_refused_with_what_is_known() -> None:
    with pytest.raises(InputError, match="did you mean vindr-mammo"):
        collection_file("vindr_mammo")
    with pytest.raises(InputError, match="choose one of bcdr"):
        collection_file("../../x")


def test_class_folders(src: Path) -> None:
    for index, name in enumerate(
        ("train/malignant/p1_a", "train/benign/p2_a", "val/malignant/p3_a", "val/benign/p3_b")
    ):
        picture(src / f"{name}.png", index)
    dataset = imported(src, "class-folders", r"patient_pattern='(p\d+)_'".replace("'", ""))
    assert [(row.patient_id, row.split, row.targets) for row in dataset.rows] == [
        ("p2", "train", (0.0,)),
        ("p1", "train", (1.0,)),
        ("p3", "val", (0.0,)),
        ("p3", "val", (1.0,)),
    ]


def test_a_table_with_other_names_for_its_columns(
    src: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(3):
        picture(src / "images" / f"{index}.png", index)
    write_table(
        src / "Export.csv",
        "Liste;2020",
        "",
        "Patient ID;Image File Path;Pathology;Side;Set;Age",
        r"7;images\0.png;Malignant ;L;training;61,5",
        "8; images/1.png;benign;R;validation;;;",
        ";;;;;",
        "9;images/2.png;;L;validation;44",
        encoding="cp1252",
    )
    with caplog.at_level("INFO"):
        dataset = imported(src, "table")
    assert "table 1: cut at each semicolon, header in row 3" in caplog.text
    assert [(row.patient_id, row.split) for row in dataset.rows] == [
        ("7", "train"),
        ("8", "val"),
        ("9", "val"),
    ]
    assert unknown([row.targets[0] for row in dataset.rows]) == [1.0, 0.0, None]
    filled = {name: cell for name, cell in dataset.rows[0].attributes.items() if cell}
    assert filled == {"laterality": "L", "age": "61.5"}


def test_a_table_for_each_split(src: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        picture(src / f"{split}.png", number)
        write_table(src / f"{split}.csv", "image,patient,cancer", f"{split}.png,{number},1")
    listing = listed(src, "table-a-split")
    assert facts(listing) == [("0", "train", 1.0), ("1", "val", 1.0), ("2", "test", 1.0)]
    assert [patch.number for patch in listing.patches] == [
        "2 of train.csv",
        "2 of val.csv",
        "2 of test.csv",
    ]
    write_table(src / "val.csv", "image,patient,cancer", "none.png,1,1", "val.png,1,x")
    said = refusal(src, "table-a-split")
    assert "row 2 of val.csv: image: the file is missing" in said
    assert "row 3 of val.csv: cancer: 'x' is no word for a class" in said
    (src / "val.csv").unlink()
    assert "tables: no val.csv stands in `src`" in refusal(src, "table-a-split")


def test_tables_of_one_name_in_two_folders_are_told_apart(src: Path) -> None:
    """Each names files beside it; a row of one is no row of the other."""
    for number, site in enumerate("ab"):
        picture(src / site / "1.png", number)
        write_table(src / site / "list.csv", "image,patient,cancer", f"1.png,{number},{number}")
    asked = ("tables=['**/list.csv']", "paths_from=table")
    listing = listed(src, "table", *asked)
    assert files(listing, src) == ["a/1.png", "b/1.png"]
    assert [patch.number for patch in listing.patches] == [
        "2 of list.csv (1)",
        "2 of list.csv (2)",
    ]
    same = refusal(src, "table", "tables=['**/list.csv']", "file_column=a/{image}")
    assert "row 2 of list.csv (2): a/{image}: the same file as row 2 of list.csv (1)" in same


def test_a_pattern_gives_all_columns_that_are_asked_for_and_a_name_those_of_its_table(
    src: Path,
) -> None:
    """A table that a pattern finds may be one patient's; whoever names a table knows whose."""
    picture(src / "1.png", 1)
    write_table(src / "list [1].csv", "image,patient,cancer,view", "1.png,1,1,CC")
    named = "tables=['list [[]1].csv']"
    assert listed(src, "table", named).attributes == ("view",)
    found = listed(src, "table")
    asked = (*("view", "laterality", "breast_density", "age"), "sex", "site", "scanner")
    assert found.attributes == asked
    (row,) = imported(src, "table").rows
    assert row.attributes == {**dict.fromkeys(asked, ""), "view": "CC"}
    assert listed(src, "table", "kind=public").attributes == ("view",)
    write_table(src / "scanners.csv", "image,scanner", "1.png,A")
    beside = "joined={'scan*.csv': {on: image}}"
    assert listed(src, "table", named, beside).attributes == asked


def test_vindr_mammo(src: Path) -> None:
    dicom(src / "images/s1/i1.dicom", 1)
    dicom(src / "images/s2/i2.dicom", 2)
    write_table(
        src / "finding_annotations.csv",
        FINDINGS,
        "s1,x,i1,L,CC,40,32,BI-RADS 4,DENSITY C,['Mass'],BI-RADS 4,4.5,5,20,21.5,training",
        "s1,x,i1,L,CC,40,32,BI-RADS 4,DENSITY C,['Mass'],BI-RADS 3,1,1,9,9,training",
        "s2,x,i2,R,MLO,40,32,BI-RADS 1,DENSITY B,['No Finding'],,,,,,test",
    )
    listing = listed(src, "vindr-mammo")
    assert facts(listing) == [("s1", "train", 1.0), ("s1", "train", 0.0)]
    assert [patch.lesion for patch in listing.patches] == [
        Region(4.5, 5.0, 20.0, 21.5),
        Region(1.0, 1.0, 9.0, 9.0),
    ]
    assert listing.left_out_rows == {"no_region": (4,)}
    assert listing.patches[0].attributes == {
        "view": "CC",
        "laterality": "L",
        "breast_density": "3",
        "birads_assessment": "BI-RADS 4",
        "finding": "['Mass']",
    }


def test_whole_images_of_vindr_mammo(src: Path) -> None:
    dicom(src / "images/s1/i1.dicom", 1, ViewPosition="CC")
    dicom(src / "images/s2/i2.dicom", 2)
    write_table(
        src / "breast-level_annotations.csv",
        "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,"
        "breast_density,split",
        "s1,x,i1,L,CC,40,32,BI-RADS 5,DENSITY A,training",
        "s2,x,i2,R,MLO,40,32,BI-RADS 2,DENSITY D,test",
    )
    assert "row 3: laterality: the table and the image's header name two for one image" in refusal(
        src, "vindr-mammo-images"
    )
    dicom(src / "images/s2/i2.dicom", 2, ImageLaterality="R")
    dataset = imported(src, "vindr-mammo-images")
    assert [(row.split, row.targets) for row in dataset.rows] == [
        ("train", (1.0,)),
        ("test", (0.0,)),
    ]
    assert len({row.patient_id for row in dataset.rows}) == 2


def test_inbreast(src: Path) -> None:
    release = src / "INbreast Release 1.0"
    patients = {"20586908": "6c613a14b80a8591", "22678622": "61b13c59bcba149e"}
    for number, (file, patient) in enumerate(patients.items()):
        dicom(release / "AllDICOMs" / f"{file}_{patient}_MG_R_CC_ANON.dcm", number)
    write_table(
        release / "INbreast.csv",
        "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads",
        "removed;removed;R;CC;201001;20586908;3;5",
        "removed;removed;R;CC;201001;22678622;     ;2",
        ";;;;;;;",
    )
    for name in ("INbreast.csv", "AllDICOMs/20586908_x_MG_R_CC_ANON.dcm"):
        copy = src / "__MACOSX" / "INbreast Release 1.0" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"what a Mac puts into its archives")
    (release / "AllDICOMs" / "._20586908_x_MG_R_CC_ANON.dcm").write_bytes(b"and beside files")
    listing = listed(src, "inbreast")
    assert facts(listing) == [("6c613a14b80a8591", None, 1.0), ("61b13c59bcba149e", None, 0.0)]
    assert listing.patches[1].attributes["breast_density"] == ""
    assert listing.left_out["images that no row asks for"] == 0
    with (release / "INbreast.csv").open("a") as table:
        table.write("removed;removed;L;CC;201001;99;1;1\nremoved;removed;L;CC;201001;2*;1;1\n")
    said = refusal(src, "inbreast")
    assert said.count("the file is missing") == 2, "what cells hold is no pattern"
    assert "INbreast.csv, row 5: AllDICOMs/{File Name}_*.dcm: the file is missing" in said


OUTLINES = (
    "patient_id,study_id,series,lesion_id,segmentation_id,image_view,image_filename,lw_x_points,"
    "lw_y_points,mammography_type,mammography_nodule,mammography_calcification,"
    "mammography_microcalcification,mammography_axillary_adenopathy,"
    "mammography_architectural_distortion,mammography_stroma_distortion,age,density,classification"
)


def test_bcdr(src: Path) -> None:
    for part, patient in (("D01", 3), ("F03", 4)):
        folder = src / f"BCDR-{part}_dataset"
        name = f"patient_{patient}/study_1/img_{patient}_1_1_RCC.png"
        picture(folder / name, patient)
        write_table(
            folder / f"bcdr_{part.lower()}_outlines.csv",
            OUTLINES,
            f"{patient},1,1,1,1,1, {name}, 4 9 6, 5 6 20,1,1,0,0,0,0,0,61, 3, Malign ",
            f"{patient},1,1,2,2,4, {name}, 1 2 3, 1 3 2,1,0,1,0,0,0,0,61,NaN, Benign ",
        )
    listing = listed(src, "bcdr")
    assert facts(listing) == [("3", None, 1.0), ("4", None, 1.0)]
    assert listing.patches[0].lesion == Region(4.0, 5.0, 9.0, 20.0)
    assert listing.patches[0].attributes == {
        "view": "CC",
        "laterality": "R",
        "breast_density": "3",
        "age": "61",
    }
    assert listing.left_out["rows that `only` leaves aside"] == 2
    said = refusal(src, "bcdr", "only={}")
    assert "laterality: row 2 of table 2 gives the same file another one" in said


def test_cmmd(src: Path) -> None:
    for number, (patient, side) in enumerate((("D1-0001", "R"), ("D1-0001", "L"), ("D2-9", "L"))):
        series = src / "CMMD" / patient / "07-18-2010-NA-NA-79377" / "1.000000-NA-70244"
        dicom(series / f"1-{number}.dcm", number, ImageLaterality=side)
    table = src / "CMMD_clinicaldata_revision.csv"
    write_table(
        table,
        "ID1,LeftRight,Age,number,abnormality,classification,subtype",
        "D1-0001,R,44,2,calcification,Benign,",
        "D2-9,L,64,2,mass,Malignant,Luminal B",
    )
    listing = listed(src, "cmmd")
    assert facts(listing) == [("D1-0001", None, 0.0), ("D2-9", None, 1.0)]
    assert [name[-7:] for name in files(listing, src)] == ["1-0.dcm", "1-2.dcm"]
    assert listing.left_out["images that no row asks for"] == 1
    with table.open("a") as stream:
        stream.write("D2-9,R,64,2,mass,Malignant,\n")
    said = refusal(src, "cmmd")
    assert "row 4" in said
    assert "1 files fit, none of them with the row's laterality" in said
    table.rename(table.with_suffix(".xlsx"))
    assert "there is a workbook: save its sheet as CSV" in refusal(src, "cmmd")


def test_rsna(src: Path) -> None:
    dicom(src / "train_images/10006/462822612.dcm", 1)
    dicom(src / "train_images/99/111.dcm", 2)
    write_table(
        src / "train.csv",
        "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,"
        "density,machine_id,difficult_negative_case",
        "2,10006,462822612,L,CC,61.0,0,0,0,,0,,29,False",
        "1,99,111,R,CC,55.0,1,1,1,0.0,0,B,21,False",
    )
    listing = listed(src, "rsna")
    assert facts(listing) == [("10006", None, 0.0), ("99", None, 1.0)]
    assert listing.patches[1].attributes == {
        "view": "CC",
        "laterality": "R",
        "age": "55.0",
        "breast_density": "2",
        "birads_assessment": "0.0",
        "site": "1",
        "scanner": "21",
    }


@pytest.mark.parametrize("header", ["", "REFNUM BG CLASS SEVERITY X Y RADIUS\n\n"])
def test_mini_mias(src: Path, header: str) -> None:
    for number in range(1, 6):
        pixels = noise(number, 1024, 1024)
        (src / f"mdb{number:03d}.pgm").write_bytes(b"P5\n1024 1024\n255\n" + pixels.tobytes())
    write_table(
        src / "Info.txt",
        f"{header}mdb001 G CIRC B 535 425 197 ",
        "mdb002 G CIRC M 522 280 69",
        "mdb003 D NORM ",
        "mdb004 D CALC M *NOTE 3*",
        "mdb005 F CIRC B 477 133 30",
        "mdb005 F CIRC B 500 168 26",
    )
    listing = listed(src, "mini-mias")
    assert facts(listing) == [
        ("1", None, 0.0),
        ("1", None, 1.0),
        ("3", None, 0.0),
        ("3", None, 0.0),
    ]
    lesion = listing.patches[1].lesion
    assert isinstance(lesion, Region)
    assert lesion.within(1024, 1024) == Region(453.0, 1024 - 349.0, 591.0, 1024 - 211.0)
    assert len(listing.left_out_rows["no_region"]) == 2


def test_csaw_cc(src: Path) -> None:
    rows = [
        ("1", "1", "Left", "Left", "1.0", 1.0),
        ("1", "1", "Right", "Left", "1", None),
        ("1", "1", "Left", "Left", "3.0", None),
        ("2", "0", "Right", "", "", 0.0),
    ]
    lines = [
        "anon_patientid,exam_year,x_case,x_cancer_laterality,imagelaterality,viewposition,"
        "rad_timing,x_age,anon_filename"
    ]
    for number, (patient, case, side, cancer, timing, _) in enumerate(rows):
        name = f"{patient}_20990909_{side[0]}_CC_{number}.dcm"
        dicom(src / name, number)
        lines.append(f"{patient},2010,{case},{cancer},{side},CC,{timing},1,{name}")
    write_table(src / "CSAW-CC_breast_cancer_screening_data.csv", *lines)
    listing = listed(src, "csaw-cc")
    assert [patch.patient for patch in listing.patches] == ["1", "1", "1", "2"]
    assert unknown([patch.targets[0] for patch in listing.patches]) == [row[-1] for row in rows]
    assert listing.patches[1].attributes["laterality"] == "R"


def test_cbis_ddsm_crops(src: Path) -> None:
    for split in ("train", "test"):
        path = f"Mass-{split}_P_00001_LEFT_CC_1/1.3.6.1/1.3.6.2/000001.png"
        picture(src / path, len(split))
        write_table(
            src / f"mass_case_description_{split}_set.csv",
            "patient_id,breast_density,left or right breast,image view,abnormality id,"
            "abnormality type,mass shape,mass margins,assessment,pathology,subtlety,"
            "image file path,cropped image file path,ROI mask file path",
            f"P_{split},3,LEFT,CC,1,mass,OVAL,SPICULATED,4,BENIGN_WITHOUT_CALLBACK,4,"
            f'full.png,"{path}\n","mask.png\n"',
        )
    listing = listed(src, "cbis-ddsm-crops")
    assert facts(listing) == [("P_train", "train", 0.0), ("P_test", "test", 0.0)]
    assert listing.patches[0].attributes["mass_margins"] == "SPICULATED"
    assert listing.patches[0].attributes["laterality"] == "L"


def test_breast_images_of_medmnist(src: Path, caplog: pytest.LogCaptureFixture) -> None:
    npz(src / "breastmnist.npz", split_sizes={"train": 4, "val": 2, "test": 2})
    with caplog.at_level("INFO"):
        dataset = imported(src, "medmnist-breast")
    assert "each image counts as a patient of its own" in caplog.text
    assert [row.split for row in dataset.rows] == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert [row.targets[0] for row in dataset.rows] == [1.0, 0.0] * 4
    assert dataset.info.unit == "image"
    assert len({row.patient_id for row in dataset.rows}) == 8
    only_train = listed(src, "medmnist-breast", "splits=[train]")
    assert [patch.number for patch in only_train.patches] == [1, 2, 3, 4]


def test_many_targets_of_medmnist(src: Path) -> None:
    npz(src / "chestmnist_64.npz", split_sizes={"train": 3}, columns=14)
    listing = listed(src, "medmnist-chest")
    assert listing.patches[0].targets == (0.0, 1.0) * 7
    npz(src / "chestmnist_64.npz", split_sizes={"train": 3}, columns=13)
    assert "train_labels: of shape (3, 13) for 3 images and 14 target(s)" in refusal(
        src, "medmnist-chest"
    )


def test_an_image_in_an_array_is_called_by_what_it_shows(src: Path) -> None:
    """Its index would depend on who stands before it, and with it the name that is written."""
    npz(src / "breastmnist.npz", split_sizes={"train": 4})
    before = {patch.patient for patch in listed(src, "medmnist-breast").patches}
    with np.load(src / "breastmnist.npz") as arrays:
        rest = {name: array[1:] for name, array in arrays.items()}
    np.savez(src / "breastmnist.npz", **rest)
    after = {patch.patient for patch in listed(src, "medmnist-breast").patches}
    assert after < before
    assert len(after) == 3
    rest["train_labels"] = rest["train_labels"].astype(float)  # as where somebody has none
    np.savez(src / "breastmnist.npz", **rest)
    assert {patch.patient for patch in listed(src, "medmnist-breast").patches} == after
    ids = {row.patient_id for row in imported(src, "medmnist-breast").rows}
    assert all(one.startswith("image-") for one in ids)  # a keyed hash, and not of pixels alone


def test_whose_an_image_in_an_array_is_must_be_said(src: Path) -> None:
    npz(src / "breastmnist.npz", split_sizes={"train": 4})
    asked = settings(src, "medmnist-breast").model_copy(update={"patient_pattern": None})
    with pytest.raises(InputError, match="arrays: no array tells whose an image is"):
        run(asked)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"train_images": np.zeros((4, 28, 28))},
            "train_images: an array of 3 dimensions of float",
        ),
        ({"train_images": np.zeros((4, 28), np.uint8)}, "train_images: an array of 2 dimensions"),
        ({"train_labels": np.array([0, 1, 2, 1])}, "image 3: malignant: 2 is no word for a class"),
        ({"train_labels": np.array([{}] * 4)}, "train_labels: not a readable array of numbers"),
        (
            {"train_images": np.arange(4 * 28 * 28 * 3).astype(np.uint8).reshape(4, 28, 28, 3)},
            "image 1: is in colour",
        ),
    ],
)
def test_arrays_that_are_no_images_are_refused(
    src: Path, change: dict[str, Any], said: str
) -> None:
    npz(src / "breastmnist.npz", split_sizes={"train": 4}, **change)
    assert said in refusal(src, "medmnist-breast")


def test_grey_in_three_channels_is_grey(src: Path) -> None:
    grey = np.stack([noise(index, 28, 28) for index in range(2)])
    npz(
        src / "breastmnist.npz", split_sizes={"train": 2}, train_images=grey[..., None].repeat(3, 3)
    )
    assert len(imported(src, "medmnist-breast").rows) == 2


def test_a_damaged_file_of_arrays_is_refused(src: Path) -> None:
    (src / "breastmnist.npz").write_bytes(b"PK\x03\x04 and no more")
    assert "not a readable .npz file" in refusal(src, "medmnist-breast")
    np.savez(src / "breastmnist.npz", images=np.zeros((2, 28, 28), np.uint8))
    assert "holds no array train_images" in refusal(src, "medmnist-breast")


def lit(high: int, wide: int, *, left: int, top: int, side: int) -> NDArray[np.uint8]:
    """A dark image with a bright square, none of whose parts is of one grey level."""
    pixels = np.linspace(0, 80, high).astype(np.uint8)[:, None].repeat(wide, axis=1)
    ramp = np.linspace(160, 255, side).astype(np.uint8)
    pixels[top : top + side, left : left + side] = ramp
    return pixels


def test_a_circle_of_mini_mias_is_cut_where_it_lies(src: Path) -> None:
    """Its y runs upwards from the bottom left corner."""
    pixels = lit(1024, 1024, left=500, top=100, side=200)
    (src / "mdb001.pgm").write_bytes(b"P5\n1024 1024\n255\n" + pixels.tobytes())
    write_table(src / "Info.txt", f"mdb001 G CIRC M 600 {1024 - 200} 100")
    dataset = imported(src, "mini-mias", "crop.margin_px=0", "split=train")
    (row,) = dataset.rows
    cut = decode_pixels(dataset.root / row.image)
    assert cut.shape == (16, 16)
    assert cut.min() >= 160


def test_a_finding_of_vindr_mammo_is_cut_where_its_box_lies(src: Path) -> None:
    pixels = lit(300, 200, left=40, top=150, side=130).astype(np.uint16) * 16
    path = src / "images/s1/i1.dicom"
    path.parent.mkdir(parents=True)
    write_mammogram(path, pixels)
    write_table(
        src / "finding_annotations.csv",
        FINDINGS,
        "s1,x,i1,L,MLO,300,200,BI-RADS 4,DENSITY C,['Mass'],BI-RADS 4,40,150,170,280,training",
        "s1,x,i1,L,MLO,300,200,BI-RADS 4,DENSITY C,['Mass'],BI-RADS 2,0,0,128,128,training",
    )
    dataset = imported(src, "vindr-mammo", "crop.margin_px=0")
    mass, dark = (decode_pixels(dataset.root / row.image) for row in dataset.rows)
    assert mass.min() >= 160
    assert dark.max() <= 80
    with (src / "finding_annotations.csv").open("a") as table:
        table.write(
            "s1,x,i1,L,MLO,300,200,BI-RADS 4,C,['Mass'],BI-RADS 4,40,150,270,280,training\n"
        )
        table.write("s1,x,i1,R,MLO,300,200,BI-RADS 4,C,['Mass'],BI-RADS 4,41,150,60,280,training\n")
        table.write("s1,x,i1,L,MLO,300,200,BI-RADS 4,C,['Mass'],BI-RADS 4,40,,60,280,training\n")
        table.write("s1,x,i1,L,MLO,300,200,BI-RADS 4,C,['Mass'],BI-RADS 4,0,0,128,128,training\n")
    said = refusal(src, "vindr-mammo", f"out={src.parent / 'other'}")
    for line in (
        "row 4: the region reaches outside the image (of 200 x 300 px)",
        "row 5: laterality: row 2 gives the same file another one",
        "row 6: region: xmin, ymin, xmax, ymax: some are given and others are not",
        "row 7: images/{study_id}/{image_id}.dicom: the same lesion as row 3",
    ):
        assert f"finding_annotations.csv, {line}" in said
    assert "s1" not in said.split("\n", 1)[1]


def test_no_id_of_a_dicom_collection_is_written(src: Path) -> None:
    """Neither the table's, nor those in headers and names of files; nor a date of its paths."""
    for number, side in enumerate("LR"):
        series = src / "CMMD/D1-0001/07-18-2010-NA-NA-79377/1.000000-NA-70244"
        others = {"ImageLaterality": side, "PatientID": "D1-0001", "StudyDate": "20100718"}
        dicom(series / f"1-{number}.dcm", number, **others)
    write_table(
        src / "CMMD_clinicaldata_revision.csv",
        "ID1,LeftRight,Age,number,abnormality,classification,subtype",
        "D1-0001,R,44,2,calcification,Benign,",
        "D1-0001,L,44,2,mass,Malignant,Luminal B",
    )
    dataset = imported(src, "cmmd")
    assert sorted(row.targets[0] for row in dataset.rows) == [0.0, 1.0]
    assert len({row.patient_id for row in dataset.rows}) == 1
    written = b"".join(path.read_bytes() for path in dataset.root.rglob("*") if path.is_file())
    # a few digits alone stand in keyed names and digests by chance
    for text in (b"D1-0001", b"20100718", b"-2010", b"-79377", b"1-0.dcm", b"2.25."):
        assert text not in written


def test_minus_one_and_blank_are_unknown(src: Path) -> None:
    for number in range(3):
        picture(src / f"{number}.png", number)
    write_table(src / "all.csv", "file,patient,malignant", "0.png,1,-1", "1.png,2,", "2.png,3,1.0")
    listing = listed(src, "table")
    assert unknown([patch.targets[0] for patch in listing.patches]) == [None, None, 1.0]


@pytest.mark.parametrize("column", ["label", "class", "target", "diagnosis", "benign_malignant"])
def test_nobody_guesses_what_one_means_in_a_column_that_does_not_say(
    src: Path, column: str
) -> None:
    picture(src / "0.png", 0)
    picture(src / "1.png", 1)
    write_table(src / "all.csv", f"file,patient,{column}", "0.png,1,0", "1.png,2,1")
    assert f"{column!r} holds answers such as 0 and 1" in refusal(src, "table")
    named = listed(src, "table", f"target_columns={{malignant: {column}}}")
    assert [patch.targets for patch in named.patches] == [(0.0,), (1.0,)]
    turned = listed(src, "table", "labels={malignant: [0], benign: [1]}")
    assert [patch.targets for patch in turned.patches] == [(1.0,), (0.0,)]
    write_table(src / "all.csv", f"file,patient,{column}", "0.png,1,benign", "1.png,2,Malignant")
    assert [patch.targets for patch in listed(src, "table").patches] == [(0.0,), (1.0,)]


@pytest.mark.parametrize(
    ("columns", "first", "second"),
    [("malignant,is_benign", "1,1", "0,1"), ("pathology,cancer", "benign,malignant", "malignant,")],
)
def test_two_columns_of_one_row_that_tell_other_classes_are_refused(
    src: Path, columns: str, first: str, second: str
) -> None:
    picture(src / "0.png", 0)
    picture(src / "1.png", 1)
    write_table(src / "all.csv", f"file,patient,{columns}", f"0.png,1,{first}", f"1.png,2,{second}")
    said = refusal(src, "table")
    chosen, other = columns.split(",")
    assert f"row 2: {chosen}: column {other} tells another class" in said
    assert "row 3" not in said
    left = listed(src, "table", "leave_out=[contradiction]")
    assert left.left_out_rows == {"contradiction": (2,)}


def test_names_without_an_end_are_told_with_the_mend(src: Path) -> None:
    picture(src / "a/1.png", 0)
    write_table(src / "all.csv", "image_id,patient,cancer", "a/1,1,0")
    said = refusal(src, "table")
    assert "row 2: image_id: there is such a file with the end .png" in said
    assert "set file_column={image_id}.png" in said
    assert files(listed(src, "table", "file_column={image_id}.png"), src) == ["a/1.png"]


@pytest.mark.parametrize("columns", ["cancer,cancer", "cancer,Cancer", "malignant,Malig_nant"])
def test_a_column_that_is_read_has_no_twin(src: Path, columns: str) -> None:
    picture(src / "0.png", 0)
    write_table(src / "all.csv", f"file,patient,{columns}", "0.png,1,0,1")
    assert "several columns are called" in refusal(src, "table")


def test_words_for_malignant_say_nothing_of_another_target(src: Path) -> None:
    picture(src / "0.png", 0)
    write_table(src / "all.csv", "file,patient,effusion", "0.png,1,benign")
    said = refusal(src, "table", "targets=[effusion]", "target_columns={}")
    assert "row 2: effusion: is no word for a class" in said


def test_a_column_that_is_no_split_is_set_aside(src: Path) -> None:
    picture(src / "0.png", 0)
    write_table(src / "all.csv", "file,patient,cancer,fold", "0.png,1,1,3")
    assert "row 2: fold: is none of train, val, test, external" in refusal(src, "table")
    assert listed(src, "table", "split_column=none").patches[0].split is None


def test_a_set_of_before_these_settings_is_found_finished(
    src: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its note has none of them, and they stand at their defaults."""
    for index in range(2):
        picture(src / f"{index}.png", index)
    write_table(src / "metadata.csv", "file,patient_id,malignant", "0.png,1,1", "1.png,2,0")
    asked = PatchesSettings(src=src, out=src.parent / "out", name="tiny", size_px=16)
    note = run_patches(asked) / "private" / "import.json"
    content = json.loads(note.read_text())
    for key in TableSettings.model_fields:
        del content["settings"][key]
    note.write_text(json.dumps(content))
    with caplog.at_level("INFO"):
        run_patches(asked)
    assert "is there already, from these settings" in caplog.text
