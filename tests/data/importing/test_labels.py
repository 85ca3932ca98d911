"""Words for a class, in names and in cells: none is taken for its contrary."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from synthdp.config.settings import load_settings
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.importing.folders.names import folder_split, name_label
from synthdp.data.importing.labels import default_labels, names_mask
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.listing import FORMER_PATTERNS, ListingSettings
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.errors import InputError
from synthdp.storage.files import read_json, write_json

Pixels = NDArray[np.uint8]
Texture = Callable[..., Pixels]
MakeFolder = Callable[[Mapping[str, Pixels | bytes]], Path]
ISSUE_LABELS = {
    "malignant": ["MALIGNANT", "M", "yes", 1.0],
    "benign": ["BENIGN", "BENIGN_WITHOUT_CALLBACK", "B"],
}


def imported(src: Path, **changes: object) -> Dataset:
    values = {"src": src, "out": src.parent / "set", "name": "t", "patient_pattern": r"(\d+)\."}
    return open_dataset(run_patches(PatchesSettings.model_validate(values | changes)))


@pytest.fixture
def named(make_folder: MakeFolder, texture: Texture) -> Callable[..., Path]:
    """A folder of images of these names, each of a patient of its own."""

    def make(*folders: str) -> Path:
        return make_folder({f"{one}/{i}.png": texture(i) for i, one in enumerate(folders)})

    return make


@pytest.fixture
def table(make_folder: MakeFolder, texture: Texture) -> Callable[..., Path]:
    """A table with these cells in one column."""

    def make(column: str, *cells: str) -> Path:
        rows = [f'{i}.png,P{i},"{cell}"\n' for i, cell in enumerate(cells)]
        text = f"file,patient_id,{column}\n" + "".join(rows)
        images = {f"{i}.png": texture(i) for i in range(len(cells))}
        return make_folder({**images, "metadata.csv": text.encode()})

    return make


@pytest.mark.parametrize(
    "name",
    [
        *("no_malignant", "without malignant", "non-malignant", "not malignant", "pre-malignant"),
        *("isn't malignant", "isn\u2019t_malignant", "wasn't malignant"),
        *("malignant_0", "benign_0", "nonmalignant", "premalignant", "nonMalignant", "Non Benign"),
        *("is_malignant", "is_benign_10", "malignant-free", "no evidence of malignancy"),
        *(
            "suspected malignant",
            "malignant_no_3",
            "malignant=maybe",
            "malignant=0.7",
            "unmalignant",
        ),
        *(
            "negative for malignancy",
            "not a malignant",
            "ohne malign",
            "sans malin",
            "nicht-benigne",
        ),
        *(
            "sin_maligno",
            "не злокачественная",
            "non-be\u0301nigne",
            "malignant (excluded)",
            "NOTmalignant",
        ),
        *("malignant?", "? benign", "not yet malignant", "malignancy_1", "malignancy score 0.1"),
        *("absence of malignancy", "lack of malignancy", "wo_malignant", "w.o. malignant"),
        *("rule out malignancy", "malignancy ruled out", "Verdacht auf malignant", "V.a. maligne"),
        *("probablement bénin", "wahrscheinlich_benigne", "sospechoso maligno", "no_mass_benign"),
        *("equivocal benign", "other than malignant", "malignant_false_positive", "DD malignant"),
        *("predicted_malignant", "malignant_unconfirmed", "benign_controls", "prior_malignant"),
        *("nichtmaligne", "незлокачественная", "非恶性", "恶性可能", "malign_degil"),
        *("malignant_study/normal", "Malignant_Hyperthermia_Clinic/healthy", "malignant/control"),
        *("Malignant_Hyperthermia_Clinic/x", "Benigni_Hospital/x", "benign_to_malignant/x"),
        *("history_of_malignancy", "malignant mimic", "low malignant potential", "ex-malignant"),
    ],
)
def test_denials_and_doubts_are_findings(name: str, named: Callable[..., Path]) -> None:
    src = named("malignant", "benign", name)
    with pytest.raises(InputError, match="its path tells no class beyond doubt"):
        imported(src)
    dataset = imported(src, leave_out=("unknown_class",))
    assert len(dataset.rows) == 2


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("malignant=0", 0),
        ("malignant=1", 1),
        ("malignant: 0", 0),
        ("malignant_false", 0),
        ("malignant_true", 1),
        ("isMalignant=False", 0),
        ("is_malignant_no", 0),
        ("benign=0", 1),
        ("malignant_1", 1),
        ("malignant_00", 1),
        ("malignant_0012", 1),
        ("MALIGNANT", 1),
        ("Maligne", 1),
        ("bösartig", 1),
        ("bo\u0308sartig", 1),
        ("be\u0301nigne", 0),
        ("gutartig", 0),
        ("benigno", 0),
        ("ZŁOŚLIWY", 1),
        ("łagodny", 0),
        ("恶性", 1),
        ("良性", 0),
        ("BENIGN_WITHOUT_CALLBACK", 0),
        ("benign without callback", 0),
        ("MalignantMass", 1),
        ("malignancy", 1),
        ("malignant/false", 0),
        ("malignant/true", 1),
        ("benign_vs_malignant/malignant", 1),
        ("no_malignant/benign", 0),
        ("malignant/patient 0", 1),
        ("Benigni_Hospital/malignant", 1),
        ("malignant/Benigni_Hospital", 1),
        ("Malignant_Hyperthermia_Clinic/benign", 0),
        ("Malignant cases", 1),
        ("tumeur maligne", 1),
        ("train_malignant_mass_07_L", 1),
        ("1_benign", 0),
        ("masses bénignes", 0),
        ("lesiones malignas", 1),
    ],
)
def test_values_and_other_spellings(name: str, label: int, named: Callable[..., Path]) -> None:
    dataset = imported(named(name))
    assert [row.targets for row in dataset.rows] == [(label,)]


@pytest.mark.parametrize(
    "name",
    [
        *("malignant/0/x.png", "malignant/no/x.png", "malignant/premalignant/x.png"),
        *("benign_or_malignant/x.png", "benign/is_malignant/x.png", "malignants/x.png"),
    ],
)
def test_no_folder_further_out_is_believed(name: str) -> None:
    assert name_label(ListingSettings(src=Path()), name)[0] is None


def test_a_file_whose_name_denies_its_folder_is_reported(
    named: Callable[..., Path], texture: Texture, caplog: pytest.LogCaptureFixture
) -> None:
    src = named("malignant", "benign")
    (src / "malignant" / "0.png").rename(src / "malignant" / "no_malignant_0.png")
    with caplog.at_level("INFO"):
        imported(src)
    assert "1 image(s) whose folder, name and table tell different classes" in caplog.text


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        *(("1", 1), ("0", 0), ("1.0", 1), ("0.00", 0), ("TRUE", 1), ("False", 0), ("yes", 1)),
        *(("n", 0), ("Malignant", 1), ("BENIGN", 0), ("benign ", 0), ("\u200bbenign", 0)),
        *(("", None), ("nan", None), ("N/A", None), ("unknown", None), ("WAHR", 1), ("faux", 0)),
    ],
)
def test_cells(cell: str, label: int | None, table: Callable[..., Path]) -> None:
    (target,) = imported(table("malignant", cell), patient_pattern=None).rows[0].targets
    assert math.isnan(target) if label is None else target == label


@pytest.mark.parametrize("cell", ["2", "-1", "M", "no malignant", "0.7", "-", "premalignant", "10"])
def test_other_cells_are_findings_with_the_mend(cell: str, table: Callable[..., Path]) -> None:
    src = table("malignant", "1", "0", cell)
    with pytest.raises(InputError) as error:
        imported(src, patient_pattern=None)
    assert "row 4: malignant:" in str(error.value)
    assert "is no word for a class; say what it means in `labels`" in str(error.value)
    assert (repr(cell) in str(error.value)) == (len(cell) <= 4)  # a longer one may be an id
    dataset = imported(src, patient_pattern=None, leave_out=("unknown_class",))
    assert len(dataset.rows) == 2


def test_yes_and_no_change_places_for_benign_and_words_do_not() -> None:
    labels = default_labels()
    cells = ["1", "0.0", "true", "no", "benign", "MALIGNANT"]
    assert [labels.of_benign_cell(cell) for cell in cells] == [0, 1, 0, 1, 0, 1]


def test_labels_are_a_setting(table: Callable[..., Path]) -> None:
    cells = ["malignant", "m", "Yes", "1", "1.00", "benign", "benign without callback", "b"]
    src = table("malignant", *cells)
    dataset = imported(src, patient_pattern=None, labels=ISSUE_LABELS)
    assert [row.targets[0] for row in dataset.rows] == [1, 1, 1, 1, 1, 0, 0, 0]


def test_own_labels_are_all_that_have_a_meaning(table: Callable[..., Path]) -> None:
    src = table("malignant", "1", "2", "0", "malignant", "U", "true")
    own = {"malignant": [2], "benign": [1, True], "unknown": ["U"]}
    with pytest.raises(InputError) as error:
        imported(src, patient_pattern=None, labels=own)
    assert [row for row in range(2, 8) if f"row {row}:" in str(error.value)] == [4, 5]
    dataset = imported(src, patient_pattern=None, labels=own, leave_out=("unknown_class",))
    targets = [row.targets[0] for row in dataset.rows]
    assert targets[:2] == [0, 1]
    assert math.isnan(targets[2])
    assert targets[3] == 0


@pytest.mark.parametrize(
    ("cell", "label"), [("ER+", 1), ("ER-", 0), ("er +", 1), ("1.5", 0), ("1,5", 0), ("B_2", 0)]
)
def test_signs_that_say_something_are_kept(
    cell: str, label: int, table: Callable[..., Path]
) -> None:
    labels = {"malignant": ["ER+", "M"], "benign": ["ER-", "1.5", "B-2"]}
    dataset = imported(table("malignant", cell), labels=labels, patient_pattern=None)
    assert [row.targets for row in dataset.rows] == [(label,)]


@pytest.mark.parametrize("cell", ["ER", "-ER", "1 5", "1-5", "M-", "- M", "B-2-"])
def test_words_that_differ_by_such_a_sign_are_others(cell: str, table: Callable[..., Path]) -> None:
    labels = {"malignant": ["ER+", "M"], "benign": ["ER-", "1.5", "B-2"]}
    with pytest.raises(InputError, match="no word for a class"):
        imported(table("malignant", cell), labels=labels, patient_pattern=None)


def test_a_word_is_a_class_or_unknown() -> None:
    with pytest.raises(ValueError, match="-1 is a class and stands for an empty cell too"):
        ListingSettings.model_validate(
            {"src": ".", "unknown": [-1], "labels": {"malignant": [1], "benign": [-1]}}
        )


@pytest.mark.parametrize(
    ("name", "is_mask"),
    [
        *(
            ("benign (1)_mask.png", True),
            ("benign/1_mask_1.png", True),
            ("masks/benign/1.png", True),
        ),
        *(("benign/Masken/1.png", True), ("x-Segmentation.tif", True), ("lesionMask.png", True)),
        *(("benign/1.png", False), ("masked/1.png", False), ("BUSI_with_masks/1.png", False)),
        *(("unmasked_1.png", False), ("Maskell/1.png", False), ("mask_wearing_study/1.png", False)),
    ],
)
def test_names_of_masks(name: str, is_mask: bool) -> None:
    assert names_mask(name) is is_mask


def test_masks_beside_images_are_no_images(named: Callable[..., Path], texture: Texture) -> None:
    src = named("malignant", "benign")
    (src / "benign" / "2_mask.png").write_bytes((src / "benign" / "1.png").read_bytes())
    pattern = r"(\d+)(?:_mask)?\."
    with pytest.raises(InputError, match=r"image 2: its name says that it is a mask"):
        imported(src, patient_pattern=pattern)
    assert len(imported(src, patient_pattern=pattern, leave_out=("mask",)).rows) == 2


def test_labels_of_names(named: Callable[..., Path]) -> None:
    src = named("M", "b", "no_malignant", "MALIGNANT_CASES", "benign without callback", "CAM")
    labels = {"malignant": ["MALIGNANT", "M"], "benign": ["B", "benign", "no_malignant"]}
    with pytest.raises(InputError, match=r"image 1: its path tells no class"):
        imported(src, labels=labels)  # M in CAM is no word
    dataset = imported(src, labels=labels, leave_out=("unknown_class",))
    assert {row.patient_id: row.targets[0] for row in dataset.rows} == {
        **{"0": 1, "1": 0, "2": 0, "3": 1, "4": 0}
    }


def test_another_target_is_told_by_names_with_labels(named: Callable[..., Path]) -> None:
    src = named("PNEUMONIA", "NORMAL", "no pneumonia")
    labels = {"pneumonia": ["pneumonia"], "negative": ["normal"]}
    with pytest.raises(InputError, match="targets: names tell only `malignant`; give `labels`"):
        imported(src, targets=("pneumonia",))
    with pytest.raises(InputError, match="image 3: its path tells no class"):
        imported(src, targets=("pneumonia",), labels=labels)
    labels["negative"].append("no pneumonia")
    dataset = imported(src, targets=("pneumonia",), labels=labels)
    assert {row.patient_id: row.targets[0] for row in dataset.rows} == {"0": 1, "1": 0, "2": 0}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"malignant": ["M"]}, "give the words of benign or negative"),
        ({"malignant": ["M"], "benign": []}, "give the words of benign or negative"),
        ({"malignant": ["M", "x"], "benign": ["X"]}, "'X' stands under two meanings"),
        ({"malignant": [1], "benign": ["1.0"]}, "'1.0' stands under two meanings"),
        ({"malignant": ["M"], "benign": ["B"], "cancer": ["C"]}, "cancer is none of"),
        ({"malignant": ["M"], "positive": ["P"], "benign": ["B"]}, "malignant or positive, once"),
        ({"malignant": ["M"], "benign": ["  "]}, "an empty word"),
    ],
)
def test_labels_are_checked(labels: dict[str, list[object]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ListingSettings.model_validate({"src": ".", "labels": labels})


def test_labels_in_a_settings_file(tmp_path: Path) -> None:
    """Where words are numbers and booleans to YAML."""
    text = "src: x\nout: y\nname: z\nlabels: {malignant: [M, true, 1.0], benign: [B, false, 0]}\n"
    (tmp_path / "a.yaml").write_text(text)
    words = load_settings(PatchesSettings, tmp_path / "a.yaml").words
    cells = ("m", "True", "1", "b", "FALSE", "0.0", "yes")
    assert [words.of_cell(cell) for cell in cells] == [1, 1, 1, 0, 0, 0, None]


def test_a_set_of_former_patterns_is_found_finished(named: Callable[..., Path]) -> None:
    """What an earlier version imported with its default patterns, which its note names."""
    src = named("malignant", "benign")
    dataset = imported(src)
    note = read_json(dataset.private / "import.json")
    note["settings"] |= FORMER_PATTERNS
    for added in ("labels", "leave_out", "follow_links_into"):
        del note["settings"][added]
    write_json(dataset.private / "import.json", note)
    before = dataset.root.stat().st_mtime_ns
    assert imported(src).root.stat().st_mtime_ns == before


def test_the_import_prints_classes_by_split(
    make_folder: MakeFolder, texture: Texture, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("train/malignant/1", "train/benign/2", "train/benign/3", "val/malignant/4")
    src = make_folder({f"{name}.png": texture(i) for i, name in enumerate(names)})
    with caplog.at_level("INFO"):
        imported(src)
    assert "train: 3 images of 3 patients; malignant 1 yes, 2 no" in caplog.text
    assert "val: 1 images of 1 patients; malignant 1 yes, 0 no" in caplog.text
    assert "val has no image with malignant no, so that nothing can be learned" in caplog.text


def test_a_rare_class_that_val_lacks_is_said_with_the_mend(
    make_folder: MakeFolder, texture: Texture, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {f"benign/{i}.png": texture(i) for i in range(12)} | {"malignant/99.png": texture(99)}
    src = make_folder(files)
    (tmp_path / "key").write_bytes(bytes(32))
    with caplog.at_level("INFO"):
        imported(src, val_fraction=0.3, key=tmp_path / "key")
    assert "val has no image with malignant yes, so that nothing can be learned" in caplog.text
    for mend in ("another val_fraction", "another file for `key`", "give the splits"):
        assert mend in caplog.text


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("Training_set/x.png", "train"), ("01-train/x.png", "train"), ("VALID/x.png", "val")),
        *(("a/Test-Set/b/x.png", "test"), ("external/x.png", "external"), ("set/x.png", None)),
        *(("test_patient/x.png", None), ("contest/x.png", None), ("trains/x.png", None)),
        *(("train.png", None), ("train_val/x.png", None), ("train_images/x.png", None)),
    ],
)
def test_splits_in_names_of_folders(name: str, split: str | None) -> None:
    assert folder_split(name) == split


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    denial=st.sampled_from(["no", "non", "not", "without", "pre", "ohne", "sans", "sin", "bez"]),
    word=st.sampled_from(["malignant", "Benign", "maligne", "gutartig", "benigno", "malignancy"]),
    between=st.sampled_from(["_", "-", " ", "--", ". ", "_a_", " evidence of "]),
    before=st.text(alphabet="xyz019_- ", max_size=6),
    behind=st.sampled_from(["", "_01", ".png", " 3", "/", "_left", "-CC"]),
)
@example(denial="no", word="malignant", between="_", before="", behind="_1")
def test_no_denied_word_is_a_class(
    denial: str, word: str, between: str, before: str, behind: str
) -> None:
    name = f"{before} {denial}{between}{word}{behind}"
    assert default_labels().of_name(name) == "doubt"


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(max_size=30))
@example("is_malignant=")
@example("=malignant=")
@example("\udcff malignant")
def test_any_text_is_read(text: str) -> None:
    """Every text says one thing, and the same with blanks around it."""
    labels = default_labels()
    assert labels.of_name(text) == labels.of_name(f" {text} ")
    first, second = labels.of_cell(text), labels.of_cell(f" {text} ")
    assert first == second or (math.isnan(first or 0) and math.isnan(second or 0))
