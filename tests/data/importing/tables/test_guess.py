"""What `data import --guess` prints for folders of all kinds, and that it can be used as it is."""

from pathlib import Path

import pytest
from made_up_collections import FINDINGS, dicom, npz, picture, write_table

from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.config.settings import load_settings
from synthdp.config.yaml_core import read_yaml
from synthdp.data.dataset import open_dataset
from synthdp.data.importing.listing import list_patches
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.importing.tables.collection import collection_file, collection_names
from synthdp.data.importing.tables.guess import guess
from synthdp.errors import InputError


@pytest.fixture
def src(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    folder.mkdir()
    return folder


def guessed(src: Path) -> tuple[str, dict[str, object]]:
    """What is printed, and what it says as settings."""
    text = guess(src)
    file = src.parent / "mapping.yaml"
    file.write_text(text, encoding="utf-8")
    return text, dict(read_yaml(file))


def clinic(src: Path, *, malignant: str = "malignant") -> Path:
    """Three patients, two images each, in folders by patient, and a table with odd names."""
    for index in range(6):
        picture(src / f"images/{index // 2}/im{index}.png", index)
    write_table(
        src / "list.csv",
        "Clinic X;;;;",
        "Patient;Image;Pathology;Partition;Side",
        *(
            f"{index // 2};im{index};{malignant if index % 2 else 'benign'};"
            f"{'dev' if index > 1 else 'test'};L"
            for index in range(6)
        ),
    )
    return src


def test_a_table_is_guessed_with_the_reason_of_each_line(src: Path) -> None:
    text, mapping = guessed(clinic(src))
    assert mapping == {
        "src": str(src),
        "tables": ["list.csv"],
        "file_column": "images/{Patient}/{Image}.png",
        "patient_column": "Patient",
        "split_column": "Partition",
        "target_columns": {"malignant": "Pathology"},
        "attribute_columns": {"laterality": "Side"},
    }
    for reason in (
        "# 6 rows; cut at each semicolon, header in row 2",
        "# 100% of the rows lead to a file",
        "# 3 different ones in 6 rows",
        "# split_words: say which of train, val, test, external is meant by: dev",
        "# its words are understood: malignant: malignant; benign: benign",
    ):
        assert reason in text


def test_what_was_guessed_imports(src: Path) -> None:
    clinic(src)
    guessed(src)
    words = ["name=tiny", f"out={src.parent / 'out'}", "size_px=16", "split_words={dev: train}"]
    settings = load_settings(PatchesSettings, src.parent / "mapping.yaml", words)
    dataset = open_dataset(run_patches(settings))
    assert [row.split for row in dataset.rows] == ["test"] * 2 + ["train"] * 4
    assert [row.patient_id for row in dataset.rows] == ["0", "0", "1", "1", "2", "2"]
    assert [row.targets[0] for row in dataset.rows] == [0.0, 1.0] * 3


@pytest.mark.parametrize("boxes", [True, False])
def test_files_of_dicom_are_guessed_for_the_stage_that_reads_headers(
    src: Path, boxes: bool
) -> None:
    dicom(src / "mg/1.dcm", 1, PatientID="7")
    columns, cells = (",x,y,w,h", ",1,2,20,20") if boxes else ("", "")
    write_table(src / "list.csv", f"sop,patient,diagnosis{columns}", f"1,7,benign{cells}")
    _, mapping = guessed(src)
    assert mapping["file_column"] == "mg/{sop}.dcm"
    assert mapping["whole_images"] == (not boxes)
    assert ("region" in mapping) == boxes


def test_words_that_nobody_knows_are_left_to_the_user(src: Path) -> None:
    text, mapping = guessed(clinic(src, malignant="Ca."))
    assert "# put each of these words where it belongs: Ca." in text
    assert mapping["labels"] == {"malignant": [], "benign": ["benign"]}


def test_names_alone_are_guessed(src: Path) -> None:
    for index in range(4):
        label = "malignant" if index % 2 else "benign"
        picture(src / f"train/{label}/patient_{index // 2}_{index}.png", index)
    text, mapping = guessed(src)
    assert mapping["metadata"] == "none"
    assert "2 malignant, 2 benign" in text
    assert "finds 2 patients in 4 images" in text
    picture(src / "train/benign/other.png", 9)
    assert "# patient_pattern: names show no patient" in guess(src)


def test_a_table_that_names_no_file_is_said_to(src: Path) -> None:
    clinic(src)
    write_table(src / "list.csv", "when,what,mass,edema", "1,2,0,1", "2,3,1,0")
    text = guess(src)
    assert "# file_column: no column names the files here" in text
    assert "# patient_column: no column is called as one of patients" in text
    assert "# columns of 0 and 1 that may be targets: mass, edema" in text


def test_known_collections_are_known_again(src: Path) -> None:
    picture(src / "x.png", 1)
    write_table(src / "finding_annotations.csv", FINDINGS, *["s,x,i,,,,,,,,,1,1,2,2,test"])
    assert guess(src).startswith("# This looks like vindr-mammo:")
    (src / "finding_annotations.csv").unlink()
    npz(src / "breastmnist_224.npz", split_sizes={"train": 1})
    assert guess(src).startswith("# This looks like medmnist-breast:")


def numbered(src: Path, count: int = 6) -> None:
    for number in range(count):
        picture(src / f"{number}.png", number)


@pytest.mark.parametrize("column", ["label", "class", "target", "outcome"])
def test_what_one_means_is_left_to_the_user_where_no_name_says_it(src: Path, column: str) -> None:
    numbered(src)
    write_table(src / "t.csv", f"file,patient,{column}", "0.png,A,0", "1.png,B,1")
    text, mapping = guessed(src)
    assert "# put each of these words where it belongs: 0, 1" in text
    assert mapping["labels"] == {"malignant": [], "benign": []}
    write_table(src / "t.csv", f"file,patient,{column},is_benign", "0.png,A,0,1", "1.png,B,1,0")
    assert guessed(src)[1]["benign_column"] == "is_benign"


def test_ages_and_running_numbers_are_no_names_of_files(src: Path) -> None:
    numbered(src, 50)
    write_table(src / "t.csv", "age,no,patient,image_id,cancer", "40,1,A,0,0", "41,2,B,1,1")
    assert guessed(src)[1]["file_column"] == "{image_id}.png"
    write_table(src / "t.csv", "age,no,patient,scan,cancer", "40,1,A,0.png,0", "41,2,B,1.png,1")
    assert guessed(src)[1]["file_column"] == "scan"
    write_table(src / "t.csv", "age,no,patient,scan,cancer", "40,1,A,0,0", "41,2,B,1,1")
    text, mapping = guessed(src)
    assert "each of these leads to files; name the right one: {no}.png, {scan}.png" in text
    assert "file_column" not in mapping


def test_a_text_file_that_names_no_image_is_no_table_of_a_folder_of_classes(src: Path) -> None:
    picture(src / "benign/patient1.png", 1)
    picture(src / "malignant/patient2.png", 2)
    write_table(src / "README.txt", "Images of two women", "", "Kind regards", "The clinic")
    text, mapping = guessed(src)
    assert mapping["metadata"] == "none"
    assert "by their names: 1 malignant, 1 benign" in text


def test_masks_beside_images_are_left_out(src: Path) -> None:
    for name in ("benign/p1", "benign/p1_mask", "malignant/p2", "malignant/p2_mask"):
        picture(src / f"{name}.png", len(name))
    text, mapping = guessed(src)
    assert "by their names: 1 malignant, 1 benign" in text
    assert mapping["leave_out"] == ["mask"]


def test_all_tables_of_the_same_columns_are_named(src: Path) -> None:
    numbered(src)
    for number, name in enumerate(("site [a]", "site b")):
        write_table(src / f"{name}.csv", "file,patient,cancer", f"{number}.png,{number},1")
    write_table(src / "notes.csv", "day,weather", "1,fine")
    text, mapping = guessed(src)
    assert "# 1 further table(s) have other columns, and are not read" in text
    mapping |= {"out": src.parent / "out", "name": "ours", "val_fraction": 0.5, "size_px": 16}
    assert len(list_patches(PatchesSettings.model_validate(mapping)).patches) == 2


def test_tables_called_as_splits_are_their_splits(src: Path) -> None:
    numbered(src)
    for number, name in enumerate(("train", "validation")):
        write_table(src / f"{name}.csv", "file,patient,cancer", f"{number}.png,{number},1")
    assert guessed(src)[1]["tables"] == {"train.csv": "train", "validation.csv": "val"}


def test_a_folder_with_nothing_to_import_is_refused(src: Path) -> None:
    with pytest.raises(InputError, match="holds neither images nor a table"):
        guess(src)
    with pytest.raises(InputError, match="there is no folder"):
        guess(src / "none")


def test_the_command_prints_mappings_and_imports_nothing(
    src: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clinic(src)
    assert main(["data", "import", "--guess", "--src", str(src)]) == EXIT_DONE
    assert capsys.readouterr().out == guess(src)
    assert main(["data", "import", "--guess", "--like", "cmmd"]) == EXIT_DONE
    assert capsys.readouterr().out == collection_file("cmmd").read_text(encoding="utf-8")
    assert main(["data", "import", "--guess"]) == EXIT_BAD_INPUT
    assert "--guess needs --src DIR" in capsys.readouterr().err
    assert [path.name for path in src.parent.iterdir()] == ["src"]


def test_the_command_imports_by_a_mapping(src: Path, capsys: pytest.CaptureFixture[str]) -> None:
    npz(src / "breastmnist.npz", split_sizes={"train": 3, "val": 2})
    out = src.parent / "out"
    command = ["data", "import", "--like", "medmnist-breast", "--src", str(src), "--out", str(out)]
    assert main([*command, "--dry-run"]) == EXIT_DONE
    assert "patient_pattern: none" in capsys.readouterr().out
    assert main([*command, "size_px=16"]) == EXIT_DONE
    assert open_dataset(out).info.size_px == 16, "what the command line says counts"
    assert main([*command, "size_px=16"]) == EXIT_DONE, "it is there already"
    assert main([*command[:3], "medmnist-brest", *command[4:]]) == EXIT_BAD_INPUT
    assert "did you mean medmnist-breast?" in capsys.readouterr().err


def test_collections_of_dicom_are_held_against_their_headers(
    src: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are imported by the stage that reads headers and hashes ids."""
    command = ["data", "import", "--src", str(src), "--out", str(src / "out"), "--dry-run"]
    for name in collection_names():
        is_dicom = "whole_images" in read_yaml(collection_file(name))
        assert main([*command, "--like", name, "name=x"]) == EXIT_DONE
        assert ("ids: hashed" in capsys.readouterr().out) == is_dicom
        assert is_dicom == ("DICOM: headers" in collection_file(name).read_text(encoding="utf-8"))


def test_every_collection_stands_in_the_wheel() -> None:
    """Package data is what the list in pyproject.toml says it is."""
    text = (Path(__file__).parents[4] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"data/importing/tables/collections/*.yaml"' in text
    assert {"vindr-mammo", "inbreast", "bcdr", "cmmd", "rsna", "mini-mias"} < set(
        collection_names()
    )


def test_an_export_of_files_without_an_end_and_a_table_elsewhere(
    src: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(4):
        dicom(src / f"ST{index // 2}/SE{index}/MG{index:06d}", index)
    rows = (
        f"00{index // 2};ST{index // 2}\\SE{index}\\MG{index:06d};links;"
        f"{('bösartig', 'gutartig')[index % 2]};{index},5;4;1{index}"
        for index in range(4)
    )
    table = src.parent / "Befunde.csv"
    write_table(
        table, "Pseudonym;Bilddatei;Seite;Histologie;x;y oben;Höhe", *rows, encoding="cp1252"
    )
    assert main(["data", "import", "--guess", "--src", str(src), f"metadata={table}"]) == EXIT_DONE
    text = capsys.readouterr().out
    (src.parent / "mapping.yaml").write_text(text, encoding="utf-8")
    assert read_yaml(src.parent / "mapping.yaml") == {
        **{"src": str(src), "metadata": str(table), "file_column": "Bilddatei"},
        **{"patient_column": "Pseudonym", "target_columns": {"malignant": "Histologie"}},
        **{"attribute_columns": {"laterality": "Seite"}, "whole_images": False},
    }
    assert "name `region`, or say true to take images whole" in text
    assert "# 4 file(s) that may be images" in text
    assert "(of numbers: Pseudonym, x, Höhe)" in text
    for wrong in (f"metadata={table}x", "out=elsewhere"):
        arguments = ["data", "import", "--guess", "--src", str(src), wrong]
        assert main(arguments) == EXIT_BAD_INPUT
