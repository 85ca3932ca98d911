"""A set with a card loads in the `datasets` library, with pictures and labels."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hub import loaded_by_hub

from gan.generate import run_generate
from gan.settings.finished import GenerateSettings
from synthdp.data.check import check_dataset
from synthdp.data.dataset import open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.description import DatasetInfo
from synthdp.data.manifest.hub_form import hub_tables, is_of_hub_form
from synthdp.data.writer import create_dataset
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.statement import make_statement
from synthdp.releases.release import release
from synthdp.runs.cards import dataset_card

STATEMENT = make_statement(Lineage(), subject="data set")


def made(out: Path, *, splits: tuple[str, ...], bits: int, card: str | None = None) -> Path:
    """Six images of two targets, one of them unknown at times; every second has a view."""
    info = DatasetInfo(name="made", kind="synthetic", size_px=16, targets=("malignant", "edema"))
    text = card or dataset_card(title="T", summary="S", licence="", statement=STATEMENT)
    with create_dataset(out, info, card=text) as writer:
        for number in range(6):
            kind = np.uint8 if bits == 8 else np.uint16
            top = np.iinfo(kind).max
            writer.add(
                np.linspace(0, top - number, 256).astype(kind).reshape(16, 16),
                patient_id=f"synthetic-{number}",
                split=splits[number % len(splits)],
                targets=[number % 2, [1.0, 0.0, float("nan")][number % 3]],
                attributes={"view": ["CC", ""][number % 2], "scan_file_name": "01"},
            )
    return out


@pytest.mark.parametrize(("splits", "bits"), [(("train",), 16), (("train", "val"), 8)])
def test_pictures_labels_and_columns_load(
    splits: tuple[str, ...], bits: int, tmp_path: Path
) -> None:
    dataset = open_dataset(made(tmp_path / "set", splits=splits, bits=bits))
    loaded = loaded_by_hub(dataset.root, tmp_path / "cache")
    assert set(loaded) == set(splits)
    for split, content in loaded.items():
        assert content["columns"]["malignant"] == "ClassLabel(names=['benign', 'malignant'])"
        assert content["columns"]["edema"] == "ClassLabel(names=['no_edema', 'edema'])"
        rows = dataset.split(split)
        assert len(rows) == len(content["rows"])
        for row, read in zip(rows, content["rows"], strict=True):
            assert np.array_equal(read["pixels"], decode_pixels(dataset.root / row.image))
            assert read["mode"] == {8: "L", 16: "I;16"}[bits]
            assert (read["patient_id"], read["split"]) == (row.patient_id, split)
            assert read["malignant"] == row.targets[0]
            assert read["edema"] == (None if np.isnan(row.targets[1]) else row.targets[1])
            if len(splits) == 1:
                assert read["view"] == (row.attributes["view"] or None)
            else:  # empty throughout val, so the tables of several splits leave it out
                assert "view" not in read
            assert "scan" not in read
    assert check_dataset(dataset.root).problems == ()


def test_a_generated_set_loads_and_so_does_a_released_one(tmp_path: Path) -> None:
    settings = GenerateSettings(
        run=Path("pretrained:mcgan-cbis-dp6"), out=tmp_path / "set", per_class=2, seed=1
    )
    own = open_dataset(run_generate(settings))
    out = tmp_path / "released"
    release(own.root, out)
    (rows,) = (content["rows"] for content in loaded_by_hub(out, tmp_path / "cache").values())
    assert [row["malignant"] for row in rows] == [0, 1, 0, 1]
    assert all(
        np.array_equal(row["pixels"], decode_pixels(own.root / one.image))
        for row, one in zip(rows, own.rows, strict=True)
    )
    header = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
    assert header["privacy"]["epsilon"] == 6  # rounded up
    assert (out / "metadata.csv").read_text() == (own.root / "metadata.csv").read_text()
    assert not (out / "card.md").exists()


def test_a_set_of_an_earlier_version_opens_and_leaves_in_the_form(tmp_path: Path) -> None:
    root = made(tmp_path / "set", splits=("train",), bits=8)
    (root / "metadata.csv").unlink()
    (root / "README.md").rename(root / "card.md")
    assert len(open_dataset(root).rows) == 6
    assert not [one for one in check_dataset(root).problems if "metadata" in one]
    release(root, tmp_path / "out")
    assert {"README.md", "metadata.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert not (tmp_path / "out" / "card.md").exists()


def test_a_table_that_says_something_else_is_told(tmp_path: Path) -> None:
    root = made(tmp_path / "set", splits=("train",), bits=8)
    table = root / "metadata.csv"
    table.write_text(table.read_text().replace("train,0", "train,1", 1))
    assert any("metadata.csv: says something else" in one for one in check_dataset(root).problems)
    (root / "metadata-val.csv").write_text("file_name\n")
    assert any("metadata-val.csv: says" in one for one in check_dataset(root).problems)


def test_a_card_without_a_header_gets_one(tmp_path: Path) -> None:
    root = made(tmp_path / "set", splits=("train",), bits=8, card="# Mine\n")
    text = (root / "README.md").read_text()
    assert list(yaml.safe_load(text.split("---\n")[1])) == ["configs"]
    assert text.endswith("# Mine\n")


def test_sets_without_a_card_have_no_such_table(tmp_path: Path) -> None:
    info = DatasetInfo(name="clinic", kind="real", size_px=16)
    with create_dataset(tmp_path / "clinic", info) as writer:
        writer.add(np.zeros((16, 16), np.uint8), patient_id="p", split="train", targets=[0])
    assert not any(is_of_hub_form(path.name) for path in (tmp_path / "clinic").iterdir())


def test_columns_that_would_be_taken_for_pictures_stay_in_the_manifest() -> None:
    columns = ["image", "patient_id", "split", "file_name", "scan_file_names", "view"]
    (text,) = hub_tables(columns, [["images/1.png", "p", "train", "x", "y", "CC"]]).values()
    assert text == "file_name,patient_id,split,view\nimages/1.png,p,train,CC\n"
