"""The label tables of radiograph collections themselves, with counts that are known of them.

`SYNTHDP_LABEL_TABLES` names the folder of tables that come with PyPI's torchxrayvision 1.5.7
(`torchxrayvision/data` in the unpacked wheel); without it these tests skip. NIH's own also stands
among the real data.
"""

import math
import os
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from synthdp.data.importing.tables.collection_table import CollectionTable, read_collection

PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"


@pytest.fixture(scope="session")
def label_tables() -> Path:
    folder = Path(os.environ.get("SYNTHDP_LABEL_TABLES", "none"))
    if not folder.is_dir():
        pytest.skip("no label tables here: set SYNTHDP_LABEL_TABLES")
    return folder


def patients(table: CollectionTable) -> int:
    return len({row.patient_id for row in table.rows})


def counts(table: CollectionTable, target: str) -> tuple[int, int, int]:
    """How many images have a finding, have it not, and of how many it is unknown."""
    values = [row.targets[table.targets.index(target)] for row in table.rows]
    positive, known = values.count(1.0), len(values) - sum(map(math.isnan, values))
    return positive, known - positive, len(values) - known


def attribute(table: CollectionTable, name: str) -> Counter[str]:
    return Counter(row.attributes[name] for row in table.rows)


@pytest.mark.slow
def test_nih(real_data: Path) -> None:
    table = read_collection("nih-cxr14", real_data / "nih-labels/Data_Entry_2017_v2020.csv.gz")
    assert (len(table.rows), patients(table)) == (112_120, 30_805)
    assert max(Counter(row.patient_id for row in table.rows).values()) == 184
    assert counts(table, "effusion") == (13_317, 98_803, 0)
    assert counts(table, "hernia") == (227, 111_893, 0)
    assert counts(table, "no_finding") == (60_361, 51_759, 0)
    assert attribute(table, "view") == {"PA": 67_310, "AP": 44_810}
    assert attribute(table, "sex") == {"M": 63_340, "F": 48_780}
    assert attribute(table, "age")[""] == 0


@pytest.mark.slow
def test_chexpert(label_tables: Path) -> None:
    """All views: 33,739 rows are uncertain of atelectasis, and 32,387 are lateral."""
    chosen = "targets=[atelectasis, effusion, no_finding]"
    table = read_collection("chexpert", label_tables / "chexpert_train.csv.gz", "only={}", chosen)
    assert (len(table.rows), patients(table)) == (223_414, 64_540)
    nothing = 12  # rows that mention no finding at all
    assert counts(table, "atelectasis") == (33_376, 1_328 + 154_971 - nothing, 33_739 + nothing)
    assert counts(table, "effusion") == (86_187, 35_396 + 90_203 - nothing, 11_628 + nothing)
    assert counts(table, "no_finding")[0] == 22_381
    assert attribute(table, "age")[""] == 3, "0 stands for none"
    assert attribute(table, "sex") == {"M": 132_636, "F": 90_777, "": 1}
    frontal = [row for row in table.rows if row.attributes["view"] in ("AP", "PA", "LL", "RL")]
    assert len(frontal) == 191_027


@pytest.mark.slow
def test_padchest(label_tables: Path) -> None:
    chosen = ("only={}", "targets=[no_finding, effusion]", "word_list.leave_open=[]")
    table = read_collection("padchest", label_tables / PADCHEST, *chosen)
    assert (len(table.rows), patients(table)) == (160_861, 67_625)
    assert attribute(table, "view")["L"] == 49_579
    assert attribute(table, "sex") == {"M": 80_920, "F": 79_919, "O": 18, "": 4}
    assert attribute(table, "age")[""] == 6
    without = 103 + 777  # rows without a list of words, and with an empty one
    assert counts(table, "no_finding") == (50_616, 160_861 - 50_616 - without, without)


@pytest.mark.slow
def test_rsna(label_tables: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(label_tables / "kaggle_stage_2_train_labels.csv.zip") as packed:
        packed.extract("stage_2_train_labels.csv", tmp_path)
    headers = label_tables / "kaggle_stage_2_train_images_dicom_headers.csv.gz"
    table = read_collection("rsna-pneumonia", [tmp_path / "stage_2_train_labels.csv", headers])
    assert len(table.rows) == 26_684, "of 30,227 rows, one for each box"
    assert counts(table, "pneumonia") == (6_012, 20_672, 0)
    assert attribute(table, "age")[""] == 5, "148, 150, 151, 153 and 155 are nobody's ages"
    assert attribute(table, "view") == {"PA": 14_511, "AP": 12_173}


@pytest.mark.slow
@pytest.mark.parametrize(("agree", "positive"), [("majority", 1_817), ("any", 2_300)])
def test_vindr_on_kaggle(label_tables: Path, agree: str, positive: int) -> None:
    table = read_collection(
        "vindr-cxr-kaggle",
        label_tables / "vinbigdata-train.csv.gz",
        f"gather.agree={agree}",
        "targets=[cardiomegaly]",
    )
    assert len(table.rows) == 15_000
    assert counts(table, "cardiomegaly") == (positive, 15_000 - positive, 0)


def test_hannover(real_data: Path) -> None:
    table = read_collection("mhh-covid-cxr", real_data / "mhh-covid-cxr/data.csv")
    assert (len(table.rows), patients(table)) == (243, 71)
    assert counts(table, "icu") == (186, 57, 0)
    assert counts(table, "death") == (48, 195, 0)
    assert attribute(table, "view") == {"AP": 194, "PA": 49}
    assert attribute(table, "sex") == {"M": 180, "F": 63}
