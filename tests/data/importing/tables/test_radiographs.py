"""Tiny folders laid out as collections of chest radiographs are, read by their mappings."""

import gzip
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from made_up_collections import dicom, picture, write_table

from synthdp.cli import main
from synthdp.config.settings import load_settings
from synthdp.config.yaml_core import read_yaml
from synthdp.data.check import check_dataset
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.importing.dicom import run_dicom
from synthdp.data.importing.listing import Listing, list_patches
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.dicom import DicomSettings
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.importing.tables.collection import collection_file
from synthdp.data.importing.tables.collection_table import read_collection
from synthdp.data.looks.pose import CHEST_FINDINGS
from synthdp.errors import InputError

RADIOGRAPHS = (
    *("nih-cxr14", "chexpert", "mimic-cxr-jpg", "padchest", "vindr-cxr", "vindr-cxr-kaggle"),
    *("rsna-pneumonia", "kermany-cxr", "mhh-covid-cxr"),
)


@pytest.fixture
def src(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    folder.mkdir()
    return folder


def settings(src: Path, name: str, *overrides: str) -> PatchesSettings:
    cls = DicomSettings if "whole_images" in read_yaml(collection_file(name)) else PatchesSettings
    out = src.parent / f"out-{len(list(src.parent.iterdir()))}"
    pairs = [f"src={src}", f"out={out}", "size_px=16", *overrides]
    return load_settings(cls, None, pairs, beneath=collection_file(name))


def listed(src: Path, name: str, *overrides: str) -> Listing:
    listing = list_patches(settings(src, name, *overrides))
    assert listing.problems == ()
    return listing


def problems(src: Path, name: str, *overrides: str) -> str:
    return "\n".join(list_patches(settings(src, name, *overrides)).problems)


def imported(src: Path, name: str, *overrides: str) -> Dataset:
    asked = settings(src, name, *overrides)
    if isinstance(asked, DicomSettings):
        return open_dataset(run_dicom(asked))
    return open_dataset(run_patches(asked))


def labels(listing: Listing) -> list[tuple[float | None, ...]]:
    return [shown(patch.targets) for patch in listing.patches]


def shown(values: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(value) else value for value in values)


@pytest.mark.parametrize("name", RADIOGRAPHS)
def test_findings_have_one_name_in_all_collections(name: str) -> None:
    mapping = read_yaml(collection_file(name))
    own = {"fracture", "support_devices", "calcification", "other_lesion", "icu", "death"}
    assert set(mapping["targets"]) <= CHEST_FINDINGS | own
    assert {"licence", "description"} <= mapping.keys()


NIH = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"


def nih(src: Path, *lines: str) -> None:
    for index, line in enumerate(lines):
        picture(src / f"images_00{1 + index % 2}/images/{line.split(',')[0]}", index)
    (src / "Data_Entry_2017_v2020.csv.gz").write_bytes(
        gzip.compress("\n".join([NIH, *lines, ""]).encode())
    )


def test_nih(src: Path) -> None:
    nih(
        src,
        "1_000.png,Cardiomegaly|Effusion,0,1,57,M,PA",
        "1_001.png,No Finding,1,1,58,M,AP",
        "2_000.png,Pleural_Thickening,0,2,094Y,F,PA",
    )
    write_table(src / "train_val_list.txt", "1_000.png", "1_001.png")
    write_table(src / "test_list.txt", "2_000.png")
    chosen = "targets=[cardiomegaly, effusion, pleural_thickening, no_finding]"
    listing = listed(src, "nih-cxr14", chosen)
    assert labels(listing) == [(1, 1, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0)]
    assert [(one.patient, one.split) for one in listing.patches] == [
        ("1", "train"),
        ("1", "train"),
        ("2", "test"),
    ]
    assert listing.patches[1].path == src / "images_002/images/1_001.png"
    assert listing.patches[2].attributes == {
        "view": "PA",
        "age": "90",
        "sex": "F",
        "follow_up": "0",
    }
    assert listing.left_out["images that no row asks for"] == 0
    assert "other files" not in listing.left_out, "the lists of splits are used"


def test_val_is_cut_from_the_train_of_an_official_split(src: Path) -> None:
    nih(src, *(f"{patient}_000.png,Mass,0,{patient},57,M,PA" for patient in range(30)))
    write_table(src / "train_val_list.txt", *(f"{patient}_000.png" for patient in range(25)))
    write_table(src / "test_list.txt", *(f"{patient}_000.png" for patient in range(25, 30)))
    dataset = imported(src, "nih-cxr14", "val_fraction=0.5", "targets=[mass]")
    splits = {row.patient_id: row.split for row in dataset.rows}
    assert {splits[str(patient)] for patient in range(25)} == {"train", "val"}
    assert {splits[str(patient)] for patient in range(25, 30)} == {"test"}


def test_nih_without_its_lists_has_no_split(src: Path) -> None:
    nih(src, "1_000.png,Mass,0,1,57,M,PA")
    assert [one.split for one in listed(src, "nih-cxr14").patches] == [None]


def test_a_listed_word_that_is_not_known_is_refused_by_row(src: Path) -> None:
    nih(src, "1_000.png,Mass|Pleural effusion,0,1,57,M,PA", "2_000.png,Mass,0,2,57,M,PA")
    said = problems(src, "nih-cxr14")
    assert "row 2: Finding Labels: a listed word is none that is known" in said
    assert "row 3" not in said
    passed = listed(src, "nih-cxr14", "word_list.others=pass_over", "targets=[mass]")
    assert labels(passed) == [(1,), (1,)]


def test_a_finding_that_no_column_or_word_tells_is_refused(src: Path) -> None:
    nih(src, "1_000.png,Mass,0,1,57,M,PA")
    assert "the table has no column 'mas'" in problems(src, "nih-cxr14", "targets=[mas]")


def test_a_finding_that_occurs_nowhere_is_said(src: Path, caplog: pytest.LogCaptureFixture) -> None:
    nih(src, "1_000.png,Mass,0,1,57,M,PA", "2_000.png,No Finding,0,2,57,M,PA")
    with caplog.at_level("INFO"):
        dataset = imported(src, "nih-cxr14", "targets=[mass, hernia]", "val_fraction=none")
    assert "hernia" in caplog.text
    assert "hernia 0 yes" in check_dataset(dataset.root, counts=True).summary


OPACITY = (
    "combined_targets={opacity: {any_of: [pneumonia, infiltration], against: [no_finding]}, "
    "clear: {any_of: [pneumonia, infiltration]}}"
)


def test_a_target_is_made_of_several_findings(src: Path) -> None:
    nih(
        src,
        "1_000.png,Pneumonia|Effusion,0,1,57,M,PA",
        "2_000.png,Effusion,0,2,58,M,AP",
        "3_000.png,No Finding,0,3,58,F,PA",
        "4_000.png,Infiltration,0,4,58,F,PA",
    )
    listing = listed(src, "nih-cxr14", OPACITY, "targets=[opacity, clear]")
    assert labels(listing) == [(1, 1), (None, 0), (0, 0), (1, 1)]
    beside = listed(src, "nih-cxr14", OPACITY, "targets=[opacity, effusion]")
    assert labels(beside) == [(1, 1), (None, 1), (0, 0), (1, 0)]
    without = "combined_targets={opacity: {any_of: [tuberculosis]}}"
    said = problems(src, "nih-cxr14", without, "targets=[opacity]")
    assert "combined_targets: the table has no column 'tuberculosis'" in said


def test_a_target_is_made_of_cells_as_those_of_findings_are_read(src: Path) -> None:
    """Nobody certain, nothing mentioned, a word for nothing, a word that is none."""
    root = "CheXpert-v1.0"
    cells = ["-1.0,,", "-1.0,1.0,", ",0.0,", ",,", ",0.0,1.0", "9,,"]
    paths = [f"{root}/train/patient{n}/study1/view1_frontal.jpg" for n in range(len(cells) + 1)]
    for index, path in enumerate(paths):
        picture(src / path, index)
    head = "Path,Frontal/Lateral,Consolidation,Pneumonia,No Finding"
    rows = [f"{path},Frontal,{said}" for path, said in zip(paths, cells, strict=False)]
    write_table(src / root / "train.csv", head, *rows)
    columns = (
        "target_columns={consolidation: Consolidation, pneumonia: Pneumonia, "
        "no_finding: No Finding}"
    )
    asked = (
        *('tables={"**/train.csv": train}', columns, "attributes=[]", "attribute_columns={}"),
        *("unknown=[9]", "targets=[opacity]"),
    )
    made_of = "any_of: [consolidation, pneumonia]"
    against = f"combined_targets={{opacity: {{{made_of}, against: [no_finding]}}}}"
    known = labels(listed(src, "chexpert", *asked, against))
    assert known == [(None,), (1,), (None,), (None,), (0,), (None,)]
    # where nothing stands against them, what a report does not mention is not there
    alone = f"combined_targets={{opacity: {{{made_of}}}}}"
    assert labels(listed(src, "chexpert", *asked, alone)) == [
        *((None,), (1,), (0,), (None,), (0,), (None,)),
    ]
    write_table(src / root / "train.csv", head, *rows, f"{paths[-1]},Frontal,perhaps,,")
    assert "row 8: Consolidation: is no word for a class" in problems(
        src, "chexpert", *asked, alone
    )


def test_a_table_that_stands_twice_under_a_pattern_is_refused(src: Path) -> None:
    nih(src, "1_000.png,Mass,0,1,57,M,PA")
    (src / "a").mkdir()
    for folder in (src, src / "a"):
        write_table(folder / "test_list.txt", "1_000.png")
    with pytest.raises(InputError, match=r"2 files fit \*\*/test_list.txt"):
        listed(src, "nih-cxr14", "joined={'**/test_list.txt': {on: Image Index}}")
    with pytest.raises(InputError, match=r"joined: no other\.csv stands in `src`"):
        listed(src, "nih-cxr14", "joined={other.csv: {on: Image Index}}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("1_000.png,Mass,0,1,57,M,PA\n1_000.png,Mass,0,1,57,M,PA", "the same file as row 2"),
        ("9_000.png,Mass,0,9,57,M,PA", "the file is missing"),
    ],
)
def test_paths_that_stand_twice_or_nowhere_are_refused(src: Path, change: str, said: str) -> None:
    nih(src, "1_000.png,Mass,0,1,57,M,PA")
    table = src / "Data_Entry_2017_v2020.csv.gz"
    table.write_bytes(gzip.compress(f"{NIH}\n{change}\n".encode()))
    assert said in problems(src, "nih-cxr14")


@pytest.mark.parametrize(
    ("age", "written"),
    [("045Y", "45"), ("013M", "1"), ("0", "0"), ("155", ""), ("148.0", ""), ("93", "90")],
)
def test_ages_are_years_of_a_person(src: Path, age: str, written: str) -> None:
    nih(src, f"1_000.png,Mass,0,1,{age},M,PA")
    assert listed(src, "nih-cxr14").patches[0].attributes["age"] == written


CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,"
    "Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,"
    "Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


@pytest.mark.parametrize(
    ("policy", "atelectasis"), [("unknown", None), ("positive", 1), ("negative", 0)]
)
def test_chexpert(src: Path, policy: str, atelectasis: float | None) -> None:
    root = "CheXpert-v1.0-small"
    paths = [
        f"{root}/train/patient00001/study1/view1_frontal.jpg",
        f"{root}/train/patient00001/study1/view2_lateral.jpg",
        f"{root}/train/patient00002/study1/view1_frontal.jpg",
        f"{root}/valid/patient64541/study1/view1_frontal.jpg",
    ]
    for index, path in enumerate(paths):
        picture(src / path, index)
    write_table(
        src / root / "train.csv",
        CHEXPERT,
        f"{paths[0]},Female,68,Frontal,AP,,,,1.0,,,,,-1.0,,0.0,,,1.0",
        f"{paths[1]},Female,68,Lateral,,,,,1.0,,,,,-1.0,,0.0,,,1.0",
        f"{paths[2]},Unknown,0,Frontal,PA,,,,,,,,,,,,,,",
    )
    write_table(
        src / root / "valid.csv",
        CHEXPERT,
        f"{paths[3]},Male,73,Frontal,AP,0.0,1.0,1.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0,1.0,0.0,0.0,0.0",
    )
    chosen = "targets=[atelectasis, effusion, lung_opacity, no_finding]"
    listing = listed(src, "chexpert", f"uncertain={policy}", chosen)
    assert labels(listing) == [(atelectasis, 0, 1, 0), (None, None, None, None), (1, 1, 0, 0)]
    assert [(one.patient, one.split) for one in listing.patches] == [
        ("patient00001", "train"),
        ("patient00002", "train"),
        ("patient64541", "val"),
    ]
    assert listing.patches[1].attributes == {"view": "PA", "age": "", "sex": ""}
    assert listing.left_out["rows that `only` leaves aside"] == 1
    strict = listed(src, "chexpert", "unmentioned=unknown", chosen)
    assert labels(strict)[0] == (None, 0, 1, None)
    both = listed(src, "chexpert", "only={}")
    assert [one.patient for one in both.patches].count("patient00001") == 2
    assert {one.split for one in both.patches if one.patient == "patient00001"} == {"train"}


def test_a_patient_of_whom_nothing_is_known_is_imported(src: Path) -> None:
    root = "CheXpert-v1.0"
    rows = [f"{root}/train/patient{n}/study1/view1_frontal.jpg" for n in "123"]
    for index, path in enumerate(rows):
        picture(src / path, index)
    write_table(
        src / root / "train.csv",
        CHEXPERT,
        f"{rows[0]},Male,60,Frontal,AP,,,1.0,,,,,,,,,,,",
        f"{rows[1]},Male,60,Frontal,AP,,,0.0,,,,,,,,,,,",
        f"{rows[2]},Male,60,Frontal,AP,,,-1.0,,,,,,,,,,,",
    )
    dataset = imported(
        src, "chexpert", "targets=[cardiomegaly]", f"tables={{{root}/train.csv: train}}"
    )
    assert [shown(row.targets) for row in dataset.rows] == [(1,), (0,), (None,)]
    assert check_dataset(dataset.root).problems == ()


def mimic(src: Path) -> None:
    for index, (person, study, image) in enumerate(
        (("10000032", "50414267", "aa"), ("10000032", "50414267", "bb"), ("11000011", "7", "cc"))
    ):
        picture(src / f"files/p{person[:2]}/p{person}/s{study}/{image}.jpg", index)
    write_table(
        src / "mimic-cxr-2.0.0-metadata.csv",
        "dicom_id,subject_id,study_id,ViewPosition,Rows",
        "aa,10000032,50414267,PA,3056",
        "bb,10000032,50414267,LATERAL,3056",
        "cc,11000011,7,AP,3056",
    )
    findings = CHEXPERT.split(",", 5)[5]
    write_table(
        src / "mimic-cxr-2.0.0-chexpert.csv",
        f"subject_id,study_id,{findings}",
        "10000032,50414267,,,1.0,,,,,,-1.0,,,,,",
    )
    write_table(
        src / "mimic-cxr-2.0.0-split.csv",
        "dicom_id,study_id,subject_id,split",
        "aa,50414267,10000032,train",
        "bb,50414267,10000032,train",
        "cc,7,11000011,validate",
    )


def test_mimic_joins_its_tables(src: Path) -> None:
    mimic(src)
    chosen = "targets=[cardiomegaly, atelectasis, edema]"
    listing = listed(src, "mimic-cxr-jpg", chosen)
    assert labels(listing) == [(1, None, 0), (None, None, None)], "study 7 has no labels"
    assert [(one.patient, one.split) for one in listing.patches] == [
        ("10000032", "train"),
        ("11000011", "val"),
    ]
    assert listing.left_out["rows that `only` leaves aside"] == 1
    assert listing.attributes == ("view", "age", "sex"), "whether or not there is a table of ages"
    assert "age" not in listing.patches[0].attributes
    write_table(src / "patients.csv", "subject_id,gender,anchor_age", "10000032,F,52", "5,M,0")
    people = [one.attributes for one in listed(src, "mimic-cxr-jpg", chosen).patches]
    assert people[0] == {"view": "PA", "age": "52", "sex": "F"}
    assert people[1] == {"view": "AP", "age": "", "sex": ""}
    both = listed(src, "mimic-cxr-jpg", chosen, "only={}")
    assert [one.attributes["view"] for one in both.patches] == ["PA", "LATERAL", "AP"]


def test_a_key_of_which_a_joined_table_says_two_things_is_refused_by_row(src: Path) -> None:
    mimic(src)
    with (src / "mimic-cxr-2.0.0-split.csv").open("a") as table:
        table.write("cc,7,11000011,test\naa,50414267,10000032,train\n")
    said = problems(src, "mimic-cxr-jpg")
    assert "row 4: dicom_id: rows of mimic-cxr-2.0.0-split.csv* say different things" in said
    assert "row 2:" not in said
    (src / "mimic-cxr-2.0.0-split.csv").unlink()
    with pytest.raises(InputError, match=r"no mimic-cxr-2\.0\.0-split\.csv"):
        listed(src, "mimic-cxr-jpg")


def test_a_joined_table_that_changes_is_another_source(src: Path) -> None:
    mimic(src)
    asked = settings(src, "mimic-cxr-jpg")
    run_patches(asked)
    assert run_patches(asked) == asked.out, "done already"
    table = src / "mimic-cxr-2.0.0-chexpert.csv"
    table.write_text(table.read_text().replace("1.0", "0.0"))
    with pytest.raises(InputError, match="src"):
        run_patches(asked)


PADCHEST = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,"
    "Manufacturer_DICOM,MethodLabel,Labels"
)


def test_padchest(src: Path) -> None:
    rows = [
        "0,a.png,0,20140915,s1,839,1930.0,F,PA,X,Physician,\"['normal']\"",
        "1,b.png,0,20150914,s2,313,1929.0,M,L,X,Physician,\"['pneumonia']\"",
        "2,c.png,1,20150914,s3,313,1929.0,M,AP_horizontal,X,RNN,\"['cardiomegaly', ' pleural "
        "effusion', '', 'heart insufficiency']\"",
        "3,d.png,1,20150914,s4,314,,O,AP,X,RNN,\"['unchanged', 'atelectasis']\"",
        "4,e.png,1,20150914,s5,315,1920.0,nan,PA,X,RNN,\"['']\"",
        "5,f.png,1,20150914,s6,316,2010.0,F,PA,X,RNN,nan",
    ]
    for index, row in enumerate(rows):
        picture(src / row.split(",")[2] / row.split(",")[1], index)
    write_table(src / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", PADCHEST, *rows)
    listing = listed(src, "padchest", "targets=[no_finding, cardiomegaly, effusion, atelectasis]")
    assert labels(listing) == [
        (1, 0, 0, 0),
        (0, 1, 1, 0),
        (None, None, None, 1),
        (None,) * 4,
        (None,) * 4,
    ]
    told = [(one.attributes["age"], one.attributes["sex"]) for one in listing.patches]
    assert told == [("84", "F"), ("86", "M"), ("", "O"), ("90", ""), ("5", "F")]
    assert [one.attributes["view"] for one in listing.patches] == ["PA", "AP", "AP", "PA", "PA"]
    assert listing.left_out["rows that `only` leaves aside"] == 1


VINDR = (
    "image_id,rad_id,Aortic enlargement,Atelectasis,Calcification,Cardiomegaly,Clavicle fracture,"
    "Consolidation,Edema,Emphysema,Enlarged PA,ILD,Infiltration,Lung Opacity,Lung cavity,Lung cyst,"
    "Mediastinal shift,Nodule/Mass,Pleural effusion,Pleural thickening,Pneumothorax,Pulmonary "
    "fibrosis,Rib fracture,Other lesion,COPD,Lung tumor,Pneumonia,Tuberculosis,Other diseases,"
    "No finding"
)


@pytest.mark.parametrize(
    ("agree", "cardiomegaly"),
    [("majority", [1, 0, None, 1]), ("any", [1, 1, 1, 1]), ("all", [0, 0, 0, 1])],
)
def test_vindr_readers(src: Path, agree: str, cardiomegaly: list[float | None]) -> None:
    def row(image: str, reader: str, says: int) -> str:
        cells = ["0"] * 28
        cells[3], cells[27] = str(says), str(1 - says)
        return ",".join([image, *([reader] if reader else []), *cells])

    votes = {"a": (1, 1, 0), "b": (0, 1, 0), "c": (1, 0)}
    rows = [
        row(image, f"R{reader}", says)
        for image, some in votes.items()
        for reader, says in enumerate(some)
    ]
    for index, name in enumerate(("train/a", "train/b", "train/c", "test/t")):
        dicom(src / f"{name}.dicom", index, PatientID="", ViewPosition="")
    write_table(src / "annotations/image_labels_train.csv", VINDR, *rows)
    write_table(
        src / "annotations/image_labels_test.csv", VINDR.replace("rad_id,", ""), row("t", "", 1)
    )
    listing = listed(src, "vindr-cxr", f"gather.agree={agree}", "targets=[cardiomegaly]")
    assert [shown(one.targets)[0] for one in listing.patches] == cardiomegaly
    assert [one.split for one in listing.patches] == ["train", "train", "train", "test"]
    assert len({one.patient for one in listing.patches}) == 4


def test_boxes_of_three_readers_on_kaggle(src: Path) -> None:
    for index, name in enumerate("ab"):
        dicom(src / f"train/{name}.dicom", index)
    write_table(
        src / "train.csv",
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max",
        "a,Cardiomegaly,3,R1,1,2,3,4",
        "b,No finding,14,R1,,,,",
        "a,Aortic enlargement,0,R1,5,6,7,8",
        "a,Cardiomegaly,3,R2,1,2,3,5",
        "a,No finding,14,R3,,,,",
        "b,No finding,14,R2,,,,",
    )
    listing = listed(
        src, "vindr-cxr-kaggle", "targets=[cardiomegaly, aortic_enlargement, no_finding]"
    )
    assert labels(listing) == [(1, 0, 0), (0, 0, 1)]
    assert [one.number for one in listing.patches] == [2, 3]
    dataset = imported(src, "vindr-cxr-kaggle", "targets=[cardiomegaly]", "val_fraction=none")
    assert dataset.info.unit == "image"


def test_rsna_pneumonia_has_a_row_for_each_box(src: Path) -> None:
    for index, name in enumerate("abc"):
        dicom(src / f"stage_2_train_images/{name}.dcm", index)
    write_table(
        src / "stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target",
        "a,,,,,0",
        "b,264,152,213,379,1",
        "b,562,152,256,453,1",
        "c,5,5,9,9,1",
    )
    listing = listed(src, "rsna-pneumonia")
    assert labels(listing) == [(0,), (1,), (1,)]
    (src / "kaggle_stage_2_train_images_dicom_headers.csv.gz").write_bytes(
        gzip.compress(
            b"PatientAge,PatientID,PatientSex,ViewPosition\n43,a,F,AP\n155,b,M,PA\n0,c,M,PA\n"
        )
    )
    told = [one.attributes for one in listed(src, "rsna-pneumonia").patches]
    assert told == [
        {"view": "AP", "age": "43", "sex": "F"},
        {"view": "PA", "age": "", "sex": "M"},
        {"view": "PA", "age": "", "sex": "M"},
    ]


def test_rows_of_one_image_that_say_two_things_of_its_patient_are_refused(src: Path) -> None:
    for index in range(2):
        picture(src / f"{index}.png", index)
    write_table(
        src / "boxes.csv", "file,person,mass,age", "0.png,A,1,50", "0.png,B,1,50", "1.png,C,0,61"
    )
    asked = (
        *("like=table", "tables=[boxes.csv]", "patient_column=person", "targets=[mass]"),
        *("gather={}", "target_columns={}", "name=boxes", "attribute_columns={age: age}"),
    )
    overrides = [f"src={src}", f"out={src.parent / 'out'}", *asked]
    listing = list_patches(load_settings(PatchesSettings, None, overrides))
    assert [problem.split(": ", 1)[1] for problem in listing.problems] == [
        "person: rows of one image say different things; an image has one"
    ] * 2
    assert [patch.patient for patch in listing.patches] == ["C"]


def test_kermany_counts_a_number_in_two_folders_as_one_child(src: Path) -> None:
    for index, name in enumerate(
        (
            "train/NORMAL/IM-0115-0001.jpeg",
            "train/NORMAL/NORMAL2-IM-0115-0001-0002.jpeg",
            "train/PNEUMONIA/person1_bacteria_1.jpeg",
            "test/PNEUMONIA/person1_virus_6.jpeg",
            "val/PNEUMONIA/person1946_bacteria_4874.jpeg",
        )
    ):
        picture(src / name, index)
    by_patient = {one.patient: one for one in listed(src, "kermany-cxr").patches}
    assert {name: one.targets for name, one in by_patient.items()} == {
        "IM-0115": (0.0,),
        "NORMAL2-IM-0115": (0.0,),
        "person1": (1.0,),
        "person1946": (1.0,),
    }
    assert {one.split for one in by_patient.values()} == {None}
    as_they_are = settings(src, "kermany-cxr", "given_splits=kept", "val_fraction=none")
    with pytest.raises(InputError, match="more than one split"):
        run_patches(as_they_are)


def test_mhh(src: Path) -> None:
    picture(src / "png/f1.png", 1)
    picture(src / "png/b3.png", 2)
    write_table(
        src / "data.csv",
        "patient_id,image_id,sex,age,icu_admission_offset,death_offset,modality,projection",
        "024e,f1,f,,,,CR,pa",
        "042f,b3,m,,0.0,,DX,ap",
    )
    listing = listed(src, "mhh-covid-cxr")
    assert labels(listing) == [(0, 0), (1, 0)]
    assert [one.attributes for one in listing.patches] == [
        {"view": "PA", "sex": "F"},
        {"view": "AP", "sex": "M"},
    ]


def test_a_table_alone_is_read_without_its_images(src: Path) -> None:
    nih(src, "1_000.png,Mass,0,1,57,M,PA", "2_000.png,No Finding,0,2,,F,AP")
    for path in src.glob("images_*/images/*"):
        path.unlink()
    table = read_collection(
        "nih-cxr14", src / "Data_Entry_2017_v2020.csv.gz", "targets=[mass, no_finding]"
    )
    assert table.targets == ("mass", "no_finding")
    assert table.attributes == ("view", "age", "sex", "follow_up")
    first, second = table.rows
    assert (first.image, first.patient_id, first.targets, first.split) == (
        "images/1_000.png",
        "1",
        (1.0, 0.0),
        None,
    )
    assert second.attributes["age"] == ""
    write_table(src / "test_list.txt", "1_000.png", "2_000.png")
    split = read_collection(
        "nih-cxr14", [src / "Data_Entry_2017_v2020.csv.gz", src / "test_list.txt"]
    )
    assert [row.split for row in split.rows] == ["test", "test"]
    with pytest.raises(InputError, match="none of the tables is one of images"):
        read_collection("nih-cxr14", src / "test_list.txt")
    with pytest.raises(InputError, match="there is no table"):
        read_collection("nih-cxr14", src / "none.csv")
    write_table(src / "bad.csv", NIH, "1_000.png,Masse,0,1,57,M,PA")
    with pytest.raises(InputError, match=r"bad\.csv, row 2: Finding Labels: a listed word"):
        read_collection("nih-cxr14", src / "bad.csv")


def test_one_settings_file_imports_a_collection(src: Path, tmp_path: Path) -> None:
    """`like` in a file says what --like does, and what the file says counts before the mapping."""
    picture(src / "png/f1.png", 1)
    picture(src / "png/b3.png", 2)
    write_table(
        src / "data.csv",
        "patient_id,image_id,sex,icu_admission_offset,death_offset,projection",
        "024e,f1,f,,,pa",
        "042f,b3,m,0.0,,ap",
    )
    config = tmp_path / "site.yaml"
    config.write_text(
        f"like: mhh-covid-cxr\nsrc: {src}\nout: {tmp_path / 'set'}\nname: hannover\nsize_px: 16\n"
        "targets: [icu]\nval_fraction: none\n"
    )
    assert main(["data", "import", str(config)]) == 0
    dataset = open_dataset(tmp_path / "set")
    assert (dataset.info.name, dataset.info.targets) == ("hannover", ("icu",))
    assert load_settings(PatchesSettings, config).filled_columns["icu"] == "icu_admission_offset"
    config.write_text(config.read_text().replace("mhh-covid-cxr", "mhh-covid"))
    assert main(["data", "import", str(config)]) == 2
    with pytest.raises(InputError, match="did you mean mhh-covid-cxr"):
        load_settings(PatchesSettings, config)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("ages={least_years: 9, most_years: 3}", "below least_years"),
        ("ages={born: PatientBirth}", "born and taken go together"),
        ("word_list.leave_open=[mass]", "is a target's word"),
        ("joined={'../x.csv': {on: a}}", "names or patterns below `src`"),
        ("combined_targets={a: {any_of: [mass], against: [mass]}}", "stands in any_of too"),
        ("combined_targets={a: {any_of: []}}", "any_of"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(
    src: Path, setting: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        settings(src, "nih-cxr14", setting)


def test_the_page_has_each_word_of_each_finding() -> None:
    """The table of synonyms on docs/radiographs.md, one column a collection."""
    page = Path(__file__).parents[4] / "docs" / "radiographs.md"
    table = page.read_text(encoding="utf-8").split("| finding |")[1].split("\n\n")[0]
    stands = {
        cells[1].strip(" `"): [cell.strip() for cell in cells[2:6]]
        for line in table.splitlines()[2:]
        if len(cells := line.split("|")) > 5
    }
    columns = ("nih-cxr14", "chexpert", "padchest", "vindr-cxr")
    for index, name in enumerate(columns):
        mapping = read_yaml(collection_file(name))
        words = mapping.get("word_list", {}).get("words") or mapping["target_columns"]
        said = {
            target: ", ".join([one] if isinstance(one, str) else one)
            for target, one in words.items()
        }
        assert {target: row[index] for target, row in stands.items() if row[index]} == said
    alike = read_yaml(collection_file("chexpert"))["target_columns"]
    assert read_yaml(collection_file("mimic-cxr-jpg"))["target_columns"] == alike
    kaggle = read_yaml(collection_file("vindr-cxr-kaggle"))["word_list"]["words"]
    for target, (word,) in kaggle.items():
        assert word == read_yaml(collection_file("vindr-cxr"))["target_columns"][target]


def test_who_else_is_there_changes_nothing_of_an_image(src: Path) -> None:
    """With tables joined, and with several readers: one patient's rows taken out of all tables."""
    mimic(src)
    chosen = ("targets=[cardiomegaly, atelectasis]", "only={}")
    whole = {one.path: one for one in listed(src, "mimic-cxr-jpg", *chosen).patches}
    for name in ("metadata", "chexpert", "split"):
        table = src / f"mimic-cxr-2.0.0-{name}.csv"
        kept = [line for line in table.read_text().splitlines() if "11000011" not in line]
        table.write_text("\n".join([*kept, ""]))
    without = listed(src, "mimic-cxr-jpg", *chosen).patches
    assert [whole[one.path] for one in without] == list(without)
    assert len(without) == len(whole) - 1


def test_readers_of_another_image_change_nothing(src: Path) -> None:
    for index, name in enumerate("ab"):
        picture(src / f"{name}.png", index)
    rows = ["a,p1,R1,1", "a,p1,R2,0", "b,p2,R1,1", "a,p1,R3,1"]
    asked = (
        *(
            "like=table",
            f"src={src}",
            f"out={src.parent / 'out'}",
            "name=read",
            "target_columns={}",
        ),
        *("tables=[r.csv]", "file_column={image}.png", "patient_column=person", "targets=[mass]"),
        "gather={reader_column: reader}",
    )
    told = []
    for kept in (rows, [rows[0], rows[1], rows[3]]):
        write_table(src / "r.csv", "image,person,reader,mass", *kept)
        listing = list_patches(load_settings(PatchesSettings, None, asked))
        assert listing.problems == ()
        told.append([one for one in listing.patches if one.patient == "p1"])
    assert told[0] == told[1]
    assert told[0][0].targets == (1.0,)
