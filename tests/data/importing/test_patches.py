import errno
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.config.settings import load_settings, validate_settings
from synthdp.data.dataset import Dataset, load_images, open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.images import encode_png, fit_square
from synthdp.data.importing.declared import imported_statement
from synthdp.data.importing.folders.names import name_label
from synthdp.data.importing.images import prepare
from synthdp.data.importing.listing import list_patches
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.people.cohorts import cohort_of, cohort_rows
from synthdp.errors import InputError, RunError
from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.plan import plan_privacy
from synthdp.privacy.promise.statement import make_statement
from synthdp.privacy.settings import PrivacySettings
from synthdp.privacy.units import Part
from synthdp.storage import files

Pixels = NDArray[np.uint8]
Texture = Callable[..., Pixels]
MakeFolder = Callable[[Mapping[str, Pixels | bytes]], Path]

CONFIGS = Path(__file__).parents[3] / "configs" / "data"
#: By it no split and no cohort of these tests is empty; by a new one some would be, now and then.
KEY = bytes(range(32))


def settings(src: Path, **changes: object) -> PatchesSettings:
    values = {"src": src, "out": src.parent / "set", "name": "tiny", **changes}
    return PatchesSettings.model_validate(values)


def imported(src: Path, **changes: object) -> Dataset:
    return open_dataset(run_patches(settings(src, **changes)))


def note(dataset: Dataset) -> dict[str, object]:
    found: dict[str, object] = json.loads((dataset.private / "import.json").read_text())
    return found


def refusal(src: Path, **changes: object) -> str:
    with pytest.raises(InputError) as error:
        run_patches(settings(src, **changes))
    assert [path.name for path in src.parent.iterdir() if "set" in path.name] == []
    return str(error.value)


@pytest.fixture
def folder(make_folder: MakeFolder, texture: Texture) -> Path:
    """Six patients in class folders, named as CBIS-DDSM patches are; no table."""
    names = {}
    for index in range(6):
        split, benign = ("val" if index == 5 else "train"), index % 2 == 0
        stem = f"{split}/is_benign_{str(benign).lower()}/patientP_{index:05d}"
        for view in range(2):
            name = f"{stem}_image{view}_is_benign_{int(benign)}.png"
            names[name] = texture(10 * index + view)
    return make_folder(names)


@pytest.fixture
def table(make_folder: MakeFolder, texture: Texture) -> Path:
    """Four patients with a table; `is_benign` is 1 for the first two."""
    names: dict[str, Pixels | bytes] = {f"all/{index}.png": texture(index) for index in range(4)}
    lines = ["split,file,patient_id,is_benign,view,secret"]
    splits = ["train", "train", "val", "train"]
    lines += [f"{splits[i]},all/{i}.png,P{i},{int(i < 2)},CC,x" for i in range(4)]
    return make_folder({**names, "metadata.csv": "\n".join(lines).encode()})


PATIENT = r"patient(P_\d+)"


def test_a_table_is_imported_and_benign_is_inverted_once(table: Path, texture: Texture) -> None:
    dataset = imported(table, size_px=32)
    assert [row.targets for row in dataset.rows] == [(0.0,), (0.0,), (1.0,), (1.0,)]
    assert [row.split for row in dataset.rows] == ["train", "train", "val", "train"]
    assert [row.patient_id for row in dataset.rows] == ["P0", "P1", "P2", "P3"]
    assert dataset.rows[0].attributes == {"view": "CC"}
    assert dataset.info.size_px == 32
    assert np.array_equal(decode_pixels(dataset.root / dataset.rows[3].image), texture(3))
    assert note(dataset)["source_rows"] == [2, 3, 4, 5]


def test_class_folders_are_imported_without_a_table(folder: Path) -> None:
    dataset = imported(folder, patient_pattern=PATIENT)
    assert Counter(row.targets[0] for row in dataset.rows) == {0.0: 6, 1.0: 6}
    assert len({row.patient_id for row in dataset.rows}) == 6
    assert {row.patient_id for row in dataset.split("val")} == {"P_00005"}
    assert dataset.info.unit == "patient"


def test_names_that_are_no_text_are_imported(folder: Path, texture: Texture) -> None:
    """As an archive of another encoding leaves them, or with a line break in them."""
    for number, name in enumerate((b"\xff.png", b"\xfe.png", b"\n.png")):
        with open(os.fsencode(folder) + b"/train/benign-" + name, "wb") as stream:
            stream.write(encode_png(texture(500 + number)))
    dataset = imported(folder, patient_pattern="none")
    assert len({row.patient_id for row in dataset.rows}) == len(dataset.rows) == 15
    ids = note(dataset)["ids"]
    assert isinstance(ids, dict)
    names = {"train/benign-\\xff.png", "train/benign-\\xfe.png", "train/benign-\n.png"}
    assert names <= set(ids)


def test_real_images_need_their_patient(folder: Path) -> None:
    text = refusal(folder)
    assert "patient_pattern: real images need their patient" in text
    assert "or the word none" in text


def test_each_image_a_patient_only_when_asked(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        dataset = imported(folder, patient_pattern="none")
    assert len({row.patient_id for row in dataset.rows}) == 12
    assert all(row.patient_id.startswith("image-") for row in dataset.rows)
    assert dataset.info.unit == "image"
    assert "each image counts as a patient of its own" in caplog.text


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("train/is_benign_true/x.png", 0),
        ("train/is_benign_false/x.png", 1),
        ("x_is_benign_0.png", 1),
        ("x_is_benign_1.png", 0),
        ("x_is_benign_1_3.png", 0),
        ("x_is_benign_10.png", None),
        ("batch_0_10_malignant.png", 1),
        ("batch_1_16_benign.png", 0),
        ("BENIGN_WITHOUT_CALLBACK/x.png", 0),
        ("Malignant/x.png", 1),
        ("is_malignant_0/x.png", 0),
        ("is_malignant_true/x.png", 1),
        ("non_malignant/x.png", None),
        ("nonmalignant/x.png", None),
        ("not-benign/x.png", None),
        ("benign_or_malignant/malignant/x.png", 1),
        ("malignant/benign/x.png", 0),
        ("a/b.png", None),
    ],
)
def test_the_default_patterns(name: str, label: int | None) -> None:
    conflict = name == "malignant/benign/x.png"  # the innermost is believed, and it is reported
    assert name_label(ListingSettings(src=Path()), name) == (label, conflict)


def test_folder_and_name_that_disagree_are_reported(
    make_folder: MakeFolder, texture: Texture, caplog: pytest.LogCaptureFixture
) -> None:
    src = make_folder({"benign/a_malignant.png": texture(0), "benign/b_benign.png": texture(1)})
    with caplog.at_level("INFO"):
        dataset = imported(src, patient_pattern=r"(\w)_")
    assert [row.targets for row in dataset.rows] == [(0.0,), (0.0,)]
    assert note(dataset)["rows_with_conflicting_sources"] == [1]
    assert "1 image(s) whose folder, name and table tell different classes" in caplog.text


def test_a_table_beats_the_folder_and_the_conflict_is_reported(
    make_folder: MakeFolder, texture: Texture
) -> None:
    rows = b"file,patient_id,malignant\nbenign/a.png,A,1\nbenign/b.png,B,0\n"
    src = make_folder(
        {"benign/a.png": texture(0), "benign/b.png": texture(1), "metadata.csv": rows}
    )
    dataset = imported(src)
    assert [row.targets for row in dataset.rows] == [(1.0,), (0.0,)]
    assert note(dataset)["rows_with_conflicting_sources"] == [2]


def test_own_patterns_see_the_whole_path(make_folder: MakeFolder, texture: Texture) -> None:
    src = make_folder({"k/1/s7.png": texture(0), "g/1/s8.png": texture(1)})
    dataset = imported(
        src, malignant_pattern="^k/1", benign_pattern="^g/1", patient_pattern=r"s(\d)"
    )
    assert {row.patient_id: row.targets for row in dataset.rows} == {"8": (0.0,), "7": (1.0,)}


@pytest.mark.parametrize("pattern", ["(", "patient", "(a)(b)"])
def test_patterns_are_checked(folder: Path, pattern: str) -> None:
    overrides = [f"src={folder}", "out=x", "name=x", f"patient_pattern={pattern}"]
    with pytest.raises(InputError, match="patient_pattern"):
        load_settings(PatchesSettings, None, overrides)


def test_several_targets_with_unknown_cells(make_folder: MakeFolder, texture: Texture) -> None:
    rows = b"file,patient_id,edema,mass\na.png,A,1,\nb.png,B,0.0,True\n"
    src = make_folder({"a.png": texture(0), "b.png": texture(1), "metadata.csv": rows})
    dataset = imported(src, targets=("edema", "mass"))
    assert dataset.rows[0].targets[0] == 1
    assert math.isnan(dataset.rows[0].targets[1])
    assert dataset.rows[1].targets == (0.0, 1.0)


def test_unsafe_ids_become_keyed_digests(make_folder: MakeFolder, texture: Texture) -> None:
    rows = "file,patient_id,malignant\na.png,Jane Doe,1\nb.png,Émile,0\nc.png,Jane-2,1\n"
    pictures = {f"{name}.png": texture(index) for index, name in enumerate("abc")}
    src = make_folder({**pictures, "metadata.csv": rows.encode()})
    dataset = imported(src)
    jane, emile, safe = [row.patient_id for row in dataset.rows]
    assert jane.startswith("patient-")
    assert jane != emile
    assert safe == "Jane-2"
    assert note(dataset)["ids"] == {"Jane Doe": jane, "Émile": emile}
    assert "Jane Doe" not in (dataset.root / "manifest.csv").read_text()
    (again,) = {row.patient_id for row in imported(src, out=src.parent / "b").rows[:1]}
    assert again != jane  # without the key, nobody can tell whose digest it is


def test_cohorts_of_one_key_share_out_the_patients(
    make_folder: MakeFolder, texture: Texture, tmp_path: Path
) -> None:
    names = [f"{n:02d}.png" for n in range(40)]
    rows = "".join(f"{name},p {n},{n % 2}\n" for n, name in enumerate(names))
    table = f"file,patient_id,malignant\n{rows}".encode()
    pictures = {name: texture(n) for n, name in enumerate(names)}
    src = make_folder({**pictures, "metadata.csv": table})

    key = tmp_path / "cohort.key"
    key.write_bytes(KEY)

    def part(name: str, cohort: str) -> Dataset:
        return imported(src, out=tmp_path / name, cohort=cohort, cohort_key=key)

    first, second = part("first", "1/2"), part("second", "2/2")
    held = [{row.patient_id for row in found.rows} for found in (first, second)]
    assert held[0].isdisjoint(held[1])
    assert len(held[0]) + len(held[1]) == 40
    cohorts = [cohort_of(found, None) for found in (first, second)]
    assert [str(cohort.part) for cohort in cohorts if cohort] == ["1/2", "2/2"]
    assert len({cohort.key_id for cohort in cohorts if cohort}) == 1
    quarter = cohort_of(first, Part(part=2, of=2))
    assert quarter is not None
    assert str(quarter.part) == "2/4"
    kept = cohort_rows(first, first.rows, Part(part=2, of=2))
    assert 0 < len(kept) < len(first.rows)


def test_parts_by_image_are_no_parts_of_patients(
    make_folder: MakeFolder, texture: Texture, tmp_path: Path
) -> None:
    """An image stands in the first part by its name, and in the second by its patient's id."""
    src = make_folder({f"benign/p{number}.png": texture(number) for number in range(24)})
    key, sets = tmp_path / "cohort.key", {}
    key.write_bytes(KEY)
    for pattern, cohort in (("none", "1/2"), (r"p(\d+)", "2/2")):
        sets[cohort] = imported(
            src, out=tmp_path / cohort[0], patient_pattern=pattern, cohort=cohort, cohort_key=key
        )
    by_image, by_patient = (
        {(found.root / row.image).read_bytes() for row in found.rows} for found in sets.values()
    )
    assert by_image & by_patient
    cohorts = [cohort_of(found, None) for found in sets.values()]
    assert len({cohort.key_id for cohort in cohorts if cohort is not None}) == 2


def test_a_cohort_needs_its_key() -> None:
    with pytest.raises(InputError, match="go together"):
        validate_settings(
            PatchesSettings,
            {"src": "a", "out": "b", "name": "c", "cohort": "1/2"},
            where="data patches",
        )


@pytest.fixture
def look_alikes(make_folder: MakeFolder, texture: Texture) -> Path:
    """Three patients, two of whom have nearly the same image, in train and in val."""
    copy = np.clip(texture(0).astype(int) + 3, 0, 255).astype(np.uint8)
    rows = b"file,patient_id,malignant,split\na.png,B,1,train\nb.png,A,1,val\nc.png,C,0,val\n"
    pictures = {"a.png": texture(0), "b.png": copy, "c.png": texture(2)}
    return make_folder({**pictures, "metadata.csv": rows})


def test_look_alikes_stay_apart_and_are_reported_with_what_to_do(
    look_alikes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        dataset = imported(look_alikes)
    written = [(row.patient_id, row.split) for row in dataset.rows]
    assert written == [("B", "train"), ("A", "val"), ("C", "val")]
    found = note(dataset)
    group = {"ids": ["A", "B"], "rows": [2, 3], "splits": ["train", "val"], "same_pixels": False}
    assert found["look_alikes"] == [group]
    assert "0 stand within one split and 1 across" in caplog.text
    assert "import into a new folder with links=FILE" in str(found["what_to_do"])
    assert found["linked_ids"] == []
    assert "nearly the same images under different ids: if these are one person" in caplog.text
    assert dataset.info.unit_from == "declared"
    assert dataset.info.linked == ""


def test_copies_within_a_split_under_two_ids_are_shown(
    make_folder: MakeFolder, texture: Texture, caplog: pytest.LogCaptureFixture
) -> None:
    table = b"file,patient_id,malignant\na.png,B,1\nb.png,A,1\nc.png,C,0\n"
    pictures = {"a.png": texture(0), "b.png": texture(0), "c.png": texture(2)}
    with caplog.at_level("INFO"):
        found = note(imported(make_folder({**pictures, "metadata.csv": table})))
    assert found["look_alikes"] == [
        {"ids": ["A", "B"], "rows": [2, 3], "splits": ["train"], "same_pixels": True}
    ]
    assert "1 stand within one split and 0 across" in caplog.text


def test_the_note_of_many_images_is_read_again(table: Path) -> None:
    dataset = imported(table)
    path = dataset.private / "import.json"
    many = {f"{index:07d}": f"patient-{index:024x}" for index in range(300_000)}
    whole = {**note(dataset), "ids": many, "source_rows": list(range(300_000))}
    path.write_text(json.dumps(whole, indent=2))
    assert run_patches(settings(table)) == dataset.root


def linked(src: Path, rows: str) -> Path:
    path = src.parent / "links.csv"
    path.write_text(f"patient_id,person\n{rows}")
    return path


def test_links_declare_that_ids_are_one_person(look_alikes: Path) -> None:
    text = refusal(look_alikes, links=linked(look_alikes, "A,B\nB,B\n"))
    assert "1 patient(s) stand in more than one split (train, val)" in text
    for person in ("B", "A", "somebody"):
        rows = "".join(f"{one},{person}\n" for one in "AB")
        links = linked(look_alikes, rows)
        out = look_alikes.parent / person
        dataset = imported(look_alikes, links=links, split="train", out=out)
        assert [row.patient_id for row in dataset.rows] == [person, person, "C"]
        assert note(dataset)["linked_ids"] == [["A", "B"]]
        assert note(dataset)["near_duplicates"] == []
        assert dataset.info.unit_from == "declared"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("A,B\nA,C\n", "row 3: row 2 gives this id another person"),
        ("A,B\nB,C\n", "row 2: its person is an id that row 3 gives to another person"),
        ("A,\n", "row 2: patient_id or person is empty"),
        ("A,B,C\n", "row 2: has 3 cells, more than the 2 columns"),
    ],
)
def test_links_that_cannot_be_followed(look_alikes: Path, rows: str, problem: str) -> None:
    assert problem in refusal(look_alikes, links=linked(look_alikes, rows))


def test_links_that_changed_are_not_taken_for_imported(look_alikes: Path) -> None:
    links = linked(look_alikes, "A,A\n")
    dataset = imported(look_alikes, links=links)
    assert run_patches(settings(look_alikes, links=links)) == dataset.root
    linked(look_alikes, "A,A\nB,B\n")
    with pytest.raises(InputError, match="the table of links has changed"):
        run_patches(settings(look_alikes, links=links))


def test_a_person_is_not_called_by_another_patients_id(look_alikes: Path) -> None:
    text = refusal(look_alikes, links=linked(look_alikes, "A,C\n"))
    assert "links: 1 person(s) are called by the id of a patient who has no row there" in text


def test_who_a_person_is_does_not_hang_on_which_ids_have_images(look_alikes: Path) -> None:
    links = linked(look_alikes, "A,B\nB,B\n")
    table = look_alikes / "metadata.csv"
    table.write_text("".join(line for line in table.open() if ",B," not in line))
    dataset = imported(look_alikes, links=links)
    assert [row.patient_id for row in dataset.rows] == ["B", "C"]


def test_other_links_make_other_cohorts(look_alikes: Path) -> None:
    key, names = look_alikes.parent / "one.key", {}
    ways: dict[str, dict[str, object]] = {
        "none": {},
        "links": {"links": linked(look_alikes, "A,B\nB,B\n"), "split": "train"},
        "looks": {"unit_from": "looks"},
    }
    for name, changes in ways.items():
        dataset = imported(look_alikes, out=look_alikes.parent / name, key=key, **changes)
        cohort = cohort_of(dataset, Part(part=1, of=2))
        assert cohort is not None
        names[name] = cohort.key_id
    # Where ids are one person in one set and two in another, nothing says that cohorts are disjoint
    assert len(set(names.values())) == 3


def test_units_by_looks_that_straddle_cohorts_are_refused(
    make_folder: MakeFolder, texture: Texture
) -> None:
    rows = "".join(f"{n}.png,P{n},{n % 2}\n" for n in range(12))
    table = f"file,patient_id,malignant\n{rows}".encode()
    same = {f"{n}.png": texture(0) for n in range(12)}
    src = make_folder({**same, "metadata.csv": table})
    key = src.parent / "c.key"
    text = refusal(src, unit_from="looks", cohort="1/2", cohort_key=key)
    assert "1 unit(s) that were found by looking have ids in different cohorts" in text
    assert "P1" not in text


def test_near_duplicates_make_one_unit_in_train_when_asked(
    look_alikes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        dataset = imported(look_alikes, unit_from="looks")
    assert [(row.patient_id, row.split) for row in dataset.rows] == [
        ("A", "train"),
        ("A", "train"),
        ("C", "val"),
    ]
    found = note(dataset)
    assert found["near_duplicates"] == [[2, 3]]
    assert found["linked_ids"] == [["A", "B"]]
    assert found["moved_images"] == [3]
    assert dataset.info.unit_from == "looks"
    assert "1 group(s) of ids that were made one unit" in caplog.text
    assert "b.png" not in caplog.text


def test_duplicates_with_other_labels_are_reported(
    make_folder: MakeFolder, texture: Texture
) -> None:
    rows = b"file,patient_id,malignant\na.png,A,1\nb.png,A,0\n"
    src = make_folder({"a.png": texture(0), "b.png": texture(0), "metadata.csv": rows})
    found = note(imported(src))
    assert found["duplicate_images"] == [[2, 3]]
    assert found["duplicates_with_other_labels"] == [[2, 3]]
    assert found["near_duplicates"] == []


def test_sixteen_bits_stay_and_other_sizes_are_fitted(
    make_folder: MakeFolder, texture: Texture
) -> None:
    deep = texture(0, side_px=40, bits=16)
    src = make_folder(
        {"malignant/1.png": deep, "benign/2.png": texture(1, side_px=48)[:, :24].copy()}
    )
    dataset = imported(src, patient_pattern=r"(\d)\.")
    assert dataset.info.size_px == 128
    pixels = {row.patient_id: decode_pixels(dataset.root / row.image) for row in dataset.rows}
    assert (pixels["1"].dtype, pixels["2"].dtype) == (np.uint16, np.uint8)
    assert pixels["1"].shape == pixels["2"].shape == (128, 128)
    assert pixels["1"].max() > 255
    found = note(dataset)
    assert found["padded_images"] == [1]
    assert found["resampled_images"] == [1, 2]
    small = imported(src, patient_pattern=r"(\d)\.", size_px=40, out=src.parent / "set40")
    first = next(row for row in small.rows if row.patient_id == "1")
    assert np.array_equal(decode_pixels(small.root / first.image), deep)


def test_fitting_pads_and_never_stretches() -> None:
    tall = np.full((40, 20), 200, dtype=np.uint8)
    fitted = fit_square(tall, 40)
    assert fitted[:, 10:30].min() == 200
    assert fitted[:, :10].max() == fitted[:, 30:].max() == 0
    top = np.full((10, 10), 65535, dtype=np.uint16)
    assert fit_square(top, 7).tolist() == [[65535] * 7] * 7


@pytest.fixture
def ward(make_folder: MakeFolder, texture: Texture) -> Path:
    """Forty patients of two images each, in class folders."""
    return make_folder(
        {
            f"{'malignant' if index % 2 else 'benign'}/p{index:02d}_{view}.png": texture(
                2 * index + view, side_px=8
            )
            for index in range(40)
            for view in range(2)
        }
    )


WARD = {"patient_pattern": r"p(\d+)_", "size_px": 8}


def test_val_fraction_splits_by_patient_about_so(ward: Path) -> None:
    shares = []
    for number in range(12):
        key = ward.parent / f"key-{number}"
        key.write_bytes(bytes([number]) * 32)
        how = {"val_fraction": 0.3, "key": key}
        dataset = imported(ward, out=ward.parent / str(number), **how, **WARD)
        shares.append(len({row.patient_id for row in dataset.split("val")}) / 40)
        assert note(dataset)["moved_images"] == []
    assert 0.2 < np.mean(shares) < 0.4  # 0.3 and 4.6 standard deviations
    assert len(set(shares)) > 1  # the count is chance, and no function of how many there are


def test_a_key_keeps_the_split_and_a_larger_share_keeps_val(ward: Path) -> None:
    held, key = [], ward.parent / "key"
    key.write_bytes(KEY)
    for number, fraction in enumerate((0.3, 0.3, 0.6)):
        out = ward.parent / str(number)
        dataset = imported(ward, out=out, val_fraction=fraction, key=key, **WARD)
        key = ward.parent / "0" / "private" / "key"
        held.append({row.patient_id for row in dataset.split("val")})
    assert held[0] == held[1]
    assert held[0] < held[2]


def test_a_split_that_stays_empty_is_refused_at_import(ward: Path) -> None:
    text = refusal(ward, val_fraction=1e-9, **WARD)
    assert "the keyed hash of their ids put no patient into val" in text


def test_a_seed_splits_synthetic_images_alone(ward: Path) -> None:
    with pytest.raises(ValueError, match="leave seed out"):
        settings(ward, val_fraction=0.3, seed=3, **WARD)
    dataset = imported(ward, kind="synthetic", val_fraction=0.25, seed=3, size_px=8)
    assert len(dataset.split("val")) == 20
    assert sum(row.targets[0] for row in dataset.split("val")) == 10


def test_no_other_file_is_taken_for_a_key(table: Path) -> None:
    for name in ("key", "cohort_key"):
        changes = {name: table / "metadata.csv", **({"cohort": "1/2"} if name != "key" else {})}
        before = (table / "metadata.csv").read_bytes()
        assert f"{name}: metadata.csv is no key" in refusal(table, **changes)
        assert (table / "metadata.csv").read_bytes() == before


def test_a_key_does_not_lie_in_the_set_that_is_made(table: Path) -> None:
    with pytest.raises(ValueError, match="key: lies inside `out`"):
        settings(table, key=table.parent / "set" / "private" / "key")


def test_a_cohort_without_its_key_is_refused(ward: Path) -> None:
    key = ward.parent / "c.key"
    dataset = imported(ward, cohort="1/2", cohort_key=key, **WARD)
    assert key.stat().st_mode & 0o777 == 0o600
    (dataset.private / "cohort.key").write_bytes(b"x" * 32)
    with pytest.raises(InputError, match=r"private/cohort.key is lost or another one"):
        cohort_rows(dataset, dataset.rows, None)


def test_a_set_of_an_earlier_version(ward: Path) -> None:
    dataset = imported(ward, val_fraction=0.5, **WARD)
    old, file = note(dataset), dataset.private / "import.json"
    old_settings: dict[str, object] = dict(old["settings"])  # type: ignore[call-overload]
    for name in ("key", "links", "unit_from"):
        del old_settings[name]
    del old["look_alikes"]
    file.write_text(json.dumps({**old, "settings": {**old_settings, "size_px": None}}))
    text = "imported by an earlier version, which split patients or made ids one by who else was"
    with pytest.raises(InputError, match=text):
        run_patches(settings(ward, val_fraction=0.5, **WARD))
    plan: dict[str, Any] = {"stage": "finetune", "subject": "classifier", "cohort": None}
    plan["ancestors"] = Lineage()
    promise = PrivacySettings(epsilon=6, delta=1e-3, population=50)
    assert plan_privacy(dataset, promise, n_units=50, **plan).mechanism is not None
    card = dataset.root / "dataset.json"
    fields = json.loads(card.read_text())
    card.write_text(json.dumps({k: v for k, v in fields.items() if k != "unit_from"}))
    with pytest.raises(InputError, match="one patient moves what others contribute"):
        plan_privacy(open_dataset(dataset.root), promise, n_units=50, **plan)
    nothing = PrivacySettings()  # without a promise there is none to break
    assert plan_privacy(open_dataset(dataset.root), nothing, n_units=50, **plan).mechanism is None
    old_settings["val_fraction"] = None
    file.write_text(json.dumps({**old, "settings": {**old_settings, "size_px": None}}))
    assert run_patches(settings(ward, **WARD)) == dataset.root
    for damaged in ("[]", "{}", '{"settings": 3}', '{"settings": {}, "linked_ids": 5}'):
        file.write_text(damaged)
        with pytest.raises(InputError, match=r"import\.json"):
            run_patches(settings(ward, **WARD))


def test_folders_and_files_that_cannot_be_read_are_findings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir, number = os.scandir, errno.EACCES

    def refused(path: object = ".") -> object:
        if "is_benign_true" in str(path):
            raise OSError(number, os.strerror(number))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refused)
    text = refusal(folder, patient_pattern=PATIENT)
    assert "1 folder(s) cannot be read, so what they hold would be left out" in text
    number = errno.EMFILE
    with pytest.raises(RunError, match="too many files are open"):
        run_patches(settings(folder, patient_pattern=PATIENT))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE])
def test_a_file_that_cannot_be_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object, **__: object) -> object:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("synthdp.data.decoding.open", refused, raising=False)
    if number == errno.EMFILE:
        with pytest.raises(RunError, match="too many files are open"):
            run_patches(settings(folder, patient_pattern=PATIENT))
    else:
        text = refusal(folder, patient_pattern=PATIENT)
        assert "image 1: the file cannot be read" in text


def test_val_fraction_beside_given_splits_is_refused(folder: Path) -> None:
    text = refusal(folder, patient_pattern=PATIENT, val_fraction=0.2)
    assert "val_fraction: folders or table split these images already" in text


def test_val_is_taken_out_of_a_given_train_where_there_is_none(
    tmp_path: Path, texture: Texture
) -> None:
    src = tmp_path / "src"
    for number in range(40):
        place = src / ("test" if number < 10 else "train") / ("malignant", "benign")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"patient_{number}.png").write_bytes(encode_png(texture(number)))
    (tmp_path / "key").write_bytes(KEY)
    how = {"patient_pattern": r"patient_(\d+)", "val_fraction": 0.3}
    given = imported(src, **how, key=tmp_path / "key")
    of_patient = {int(row.patient_id): row.split for row in given.rows}
    assert {of_patient[number] for number in range(10)} == {"test"}
    assert {of_patient[number] for number in range(10, 40)} == {"train", "val"}
    # Who is in val depends on the key alone, as without given splits.
    for place in list((src / "test").rglob("*.png")):
        place.unlink()
    key = given.private / "key"
    again = imported(src, **how, key=key, out=tmp_path / "again")
    assert {int(row.patient_id): row.split for row in again.rows} == {
        number: split for number, split in of_patient.items() if number >= 10
    }


def test_a_split_for_all_and_a_share_exclude_each_other(folder: Path) -> None:
    with pytest.raises(ValueError, match="leave it or val_fraction out"):
        settings(folder, patient_pattern=PATIENT, split="train", val_fraction=0.2)


def test_splits_are_chosen_and_overridden(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        dataset = imported(folder, patient_pattern=PATIENT, splits=("val",), split="external")
    assert "not used: 10 images of splits that `splits` leaves aside" in caplog.text
    assert [row.split for row in dataset.rows] == ["external"] * 2
    assert note(dataset)["moved_images"] == []


def test_rows_of_other_splits_are_counted(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert len(imported(table, splits=("train",)).rows) == 3
    assert "1 rows of splits that `splits` leaves aside" in caplog.text


def test_a_folder_named_validation_is_never_trained_on(
    make_folder: MakeFolder, texture: Texture
) -> None:
    src = make_folder(
        {"Validation/benign/1.png": texture(0), "training/malignant/2.png": texture(1)}
    )
    dataset = imported(src, patient_pattern=r"(\d)\.")
    assert {row.patient_id: row.split for row in dataset.rows} == {"1": "val", "2": "train"}


def test_images_beside_the_split_folders_are_refused(
    make_folder: MakeFolder, texture: Texture
) -> None:
    src = make_folder({"val/benign/1.png": texture(0), "malignant/2.png": texture(1)})
    text = refusal(src, patient_pattern=r"(\d)\.")
    assert "1 image(s) have no split while others do" in text


def test_a_patient_in_two_splits_is_refused(make_folder: MakeFolder, texture: Texture) -> None:
    src = make_folder({"val/benign/7a.png": texture(0), "train/benign/7b.png": texture(1)})
    text = refusal(src, patient_pattern=r"(\d)")
    assert "1 patient(s) stand in more than one split (train, val)" in text


def test_all_that_is_wrong_with_a_table_at_once(make_folder: MakeFolder, texture: Texture) -> None:
    whole = encode_png(texture(1))
    rows = (
        "file,patient_id,is_benign,split\n"
        "../secret.png,A,1,train\n"
        "b.png,B,2,train\n"
        "c.png,,1,train\n"
        "d.png,D,1,sometimes\n"
        "torn.png,E,1,train\n"
        "none.png,F,1,train\n"
        "c.png,C,1,train\n"
        "g.png,G,1,train,x\n"
        ",H,1,train\n"
        "link.png,I,1,train\n"
    )
    src = make_folder(
        {
            **{f"{name}.png": texture(index) for index, name in enumerate("bcdg")},
            "torn.png": whole[: len(whole) // 2],
            "metadata.csv": rows.encode(),
        }
    )
    (src.parent / "secret.png").write_bytes(whole)
    (src / "link.png").symlink_to(src.parent / "secret.png")
    text = refusal(src)
    for line in (
        "metadata.csv, row 2: file: the path leads outside the folder",
        "metadata.csv, row 3: is_benign: '2' is no word for a class; say what it means in `labels`",
        "metadata.csv, row 4: patient_id: no patient is given",
        "metadata.csv, row 5: split: is none of train, val, test, external",
        "metadata.csv, row 6: not a readable",
        "metadata.csv, row 7: file: the file is missing",
        "metadata.csv, row 8: file: the same file as row 4",
        "metadata.csv, row 9: has 5 cells, more than the 4 columns of the header",
        "metadata.csv, row 10: file: no file is named",
        "metadata.csv, row 11: file: the path leads outside the folder",
    ):
        assert line in text
    assert "secret" not in text
    assert "torn" not in text


def test_all_that_is_wrong_with_names_at_once(make_folder: MakeFolder, texture: Texture) -> None:
    whole = encode_png(texture(0))
    src = make_folder(
        {
            "benign/p1.png": whole[:300],
            "benign/x.png": texture(1),
            "other/p3.png": texture(2),
            "secret.png": b"text",
        }
    )
    (src / "linked").symlink_to(src / "benign")
    (src / "not mounted").symlink_to(src.parent / "disk" / "benign")
    (src / ".#lock").symlink_to("somebody@somewhere")
    text = refusal(src, patient_pattern=r"p(\d)")
    for line in (
        "image 1: not a readable",
        "image 2: patient_pattern finds no patient",
        "image 3: its path tells no class beyond doubt",
        "image 4: its path tells no class beyond doubt",
        "2 folder(s) are links, which are not followed or lead nowhere",
    ):
        assert line in text
    assert "secret" not in text


def test_missing_columns_name_what_there_is(make_folder: MakeFolder, texture: Texture) -> None:
    rows = b"picture,patient,edema\na.png,A,1\n"
    src = make_folder({"a.png": texture(0), "metadata.csv": rows})
    text = refusal(src, targets=("mass",), attributes=("age",))
    for key in ("file_column", "patient_column", "targets", "attributes"):
        assert f"metadata.csv, {key}: the table has no column" in text
    assert "it has: picture, patient, edema" in text
    dataset = imported(
        src, targets=("edema",), file_column="picture", patient_column="patient", attributes=()
    )
    assert dataset.rows[0].targets == (1.0,)


def test_columns_that_would_stand_twice_are_refused(table: Path) -> None:
    for attributes in (("split",), ("view", "view"), ("malignant",)):
        with pytest.raises(ValueError, match="would name two columns"):
            settings(table, attributes=attributes)


def test_a_table_is_left_aside_on_request(folder: Path) -> None:
    (folder / "metadata.csv").write_text("nonsense\n1\n")
    assert "file_column" in refusal(folder, patient_pattern=PATIENT)
    assert len(imported(folder, patient_pattern=PATIENT, metadata="none").rows) == 12


def test_nothing_to_import(make_folder: MakeFolder, tmp_path: Path) -> None:
    src = make_folder({"a.gif": b"x", "b.nii": b"x", "._c.png": b"x", "d.P_00012": b"x"})
    text = refusal(src, patient_pattern="none")
    assert (
        "no image to take was found (1 .gif files, 1 .nii files, 1 hidden files, 1 other files)"
        in text
    )
    with pytest.raises(InputError, match="src: there is no folder"):
        run_patches(settings(tmp_path / "none"))
    with pytest.raises(InputError, match="metadata: there is no file"):
        run_patches(settings(src, metadata=tmp_path / "none.csv"))


def test_images_that_are_left_out_are_counted_aloud(
    make_folder: MakeFolder, texture: Texture, caplog: pytest.LogCaptureFixture
) -> None:
    pictures: dict[str, Pixels | bytes] = {
        "benign/1.png": texture(0),
        "malignant/2.png": texture(1),
    }
    src = make_folder({**pictures, "benign/3.gif": b"x", "benign/4.nii": b"x", "notes.txt": b"x"})
    with caplog.at_level("INFO"):
        imported(src, patient_pattern=r"(\d)")
    assert "not used: 1 .gif files, 1 .nii files, 1 .txt files" in caplog.text


def test_images_under_other_names_are_counted_aloud(
    make_folder: MakeFolder, texture: Texture, caplog: pytest.LogCaptureFixture
) -> None:
    pictures: dict[str, Pixels | bytes] = {
        "benign/1.png": texture(0),
        "malignant/2.png": texture(1),
    }
    others = {"benign/.3.png": encode_png(texture(2)), "benign/4.old": encode_png(texture(3))}
    others |= {"malignant/5.x": b"\0" * 128 + b"DICM", "malignant/._2.png": b"\0\5\x16", "6": b""}
    src = make_folder({**pictures, **others})
    os.mkfifo(src / "pipe")  # reading it would wait for ever
    with caplog.at_level("INFO"):
        assert len(imported(src, patient_pattern=r"(\d)").rows) == 2
    for words in (
        "1 hidden images",
        "1 hidden files",
        "2 images whose names do not end as an image's",
        "2 other files",
    ):
        assert words in caplog.text


def test_an_image_needs_no_ending_of_its_name(make_folder: MakeFolder, texture: Texture) -> None:
    """As scanners write them: none, or the number of a series behind the last dot."""
    names = ("benign/1", "malignant/2.840.113.7")
    src = make_folder({name: encode_png(texture(i)) for i, name in enumerate(names)})
    assert len(imported(src, patient_pattern=r"(\d)").rows) == 2


def test_a_table_takes_images_of_any_name(
    make_folder: MakeFolder, texture: Texture, caplog: pytest.LogCaptureFixture
) -> None:
    src = make_folder({name: encode_png(texture(i)) for i, name in enumerate(("1", "2", "3"))})
    (src / "metadata.csv").write_text("image,patient_id,malignant\n1,a,0\n2,b,1\n")
    with caplog.at_level("INFO"):
        assert len(imported(src, file_column="image").rows) == 2
    assert "not used: 1 images that no row asks for" in caplog.text


def test_a_folder_that_may_not_be_entered_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files have names, so that one would think that they are read."""
    for closed, told in ((folder, "may not be read and entered"), (None, "cannot be read, so")):
        below = str(closed or next(path for path in folder.iterdir() if path.is_dir()))
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda path, mode, below=below: str(path) != below)
            assert told in refusal(folder, patient_pattern=PATIENT)


def test_an_import_is_known_again_however_its_paths_are_spelled(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = imported(table).root
    written = out.stat().st_mtime_ns
    monkeypatch.chdir(table.parent)
    for src in (table.name, f"./{table.name}/", f"set/../{table.name}"):
        assert imported(Path(src), out=Path("set")).root == Path("set")
    assert out.stat().st_mtime_ns == written


def test_how_many_processes_work_decides_nothing(table: Path) -> None:
    dataset = imported(table, workers=1)
    before = (dataset.root / "dataset.json").stat().st_mtime_ns
    assert run_patches(settings(table, workers=2)) == run_patches(settings(table)) == dataset.root
    assert (dataset.root / "dataset.json").stat().st_mtime_ns == before


def test_an_import_is_not_repeated_and_not_overwritten(table: Path) -> None:
    dataset = imported(table)
    before = (dataset.root / "dataset.json").stat().st_mtime_ns
    assert run_patches(settings(table)) == dataset.root
    assert (dataset.root / "dataset.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="exists already, and not from these settings"):
        run_patches(settings(table, name="other"))
    assert (dataset.root / "dataset.json").stat().st_mtime_ns == before


def test_a_full_disk_and_ctrl_c_leave_nothing(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, fsync = 0, os.fsync

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(RunError, match="the disk is full"):
            run_patches(settings(table))
    with monkeypatch.context() as patch:
        patch.setattr(prepare.Prepared, "png", stop)
        with pytest.raises(KeyboardInterrupt):
            run_patches(settings(table))
    assert [path.name for path in table.parent.iterdir()] == ["src"]
    assert len(imported(table).rows) == 4


@pytest.fixture
def made(make_folder: MakeFolder, texture: Texture) -> Path:
    copies = {f"batch_0_{index}_malignant.png": texture(index) for index in range(3)}
    return make_folder({**copies, "batch_0_3_benign.png": texture(0)})


def test_synthetic_images_are_unprotected_by_default(made: Path) -> None:
    dataset = imported(made, kind="synthetic", lineage_data="cbis-ddsm", licence="Apache-2.0")
    (release,) = dataset.info.lineage.releases
    assert (release.stage, release.data, release.mu) == ("train-gan", "cbis-ddsm", math.inf)
    ids = [row.patient_id for row in dataset.rows]
    assert ids == [f"synthetic-{number:06d}" for number in range(1, 5)]
    assert not dataset.info.protects_patients
    found = note(dataset)
    assert found["linked_ids"] == []
    assert found["duplicates_with_other_labels"] == [[1, 4]]
    card = (dataset.root / "README.md").read_text()
    assert "epsilon = inf" in card
    assert "train-gan on cbis-ddsm had no protection" in card
    again = imported(made, kind="synthetic", lineage_data="cbis-ddsm", out=made.parent / "set2")
    assert again.info.lineage == dataset.info.lineage  # the same ancestor, counted once


def test_synthetic_images_of_no_patient(made: Path) -> None:
    dataset = imported(made, kind="synthetic", lineage="none")
    assert dataset.info.lineage.releases == ()
    card = (dataset.root / "README.md").read_text()
    assert "epsilon = 0 for each patient, as declared by the importer" in card
    assert "No patient's image went into it" not in card


def test_the_lineage_of_a_statement_is_taken_over(made: Path, tmp_path: Path) -> None:
    lineage = Lineage(releases=(Release(stage="train-gan", data="here", mu=0.5),))
    statement = make_statement(lineage, subject="generator", delta=1e-5, population=600)
    path = tmp_path / "privacy.json"
    path.write_text(statement.model_dump_json())
    dataset = imported(made, kind="synthetic", lineage=str(path))
    assert dataset.info.lineage.releases == lineage.releases
    assert "whose statement was given" in dataset.info.lineage.declared[-1]
    epsilon = epsilon_text(statement.epsilon)  # never below it
    assert f"epsilon: {float(epsilon)}\n" in (dataset.root / "README.md").read_text()


def test_lineages_that_cannot_be_believed(made: Path, tmp_path: Path) -> None:
    text = refusal(made, kind="synthetic", lineage="unprotectd")
    assert "lineage: unprotectd is not a file; give `unprotected`, `none`" in text
    (tmp_path / "p.json").write_text('{"epsilon": 3}')
    text = refusal(made, kind="synthetic", lineage=str(tmp_path / "p.json"))
    assert "not a statement, or a damaged one" in text
    lineage = Lineage(releases=(Release(stage="train-gan", data="here", mu=2),))
    statement = make_statement(lineage, subject="generator").model_dump(mode="json")
    statement["lineage"] = {"releases": []}
    (tmp_path / "p.json").write_text(json.dumps(statement))
    text = refusal(made, kind="synthetic", lineage=str(tmp_path / "p.json"))
    assert "states more than its releases spent" in text


def test_real_images_have_no_lineage(table: Path) -> None:
    assert "real images have none" in refusal(table, lineage="none")


def test_cbis_ddsm_is_imported_whole(real_data: Path, tmp_path: Path) -> None:
    overrides = [f"src={real_data / 'cbis-ddsm'}", f"out={tmp_path / 'set'}"]
    chosen = load_settings(PatchesSettings, CONFIGS / "cbis-ddsm.yaml", overrides)
    dataset = open_dataset(run_patches(chosen))
    train, val = dataset.split("train"), dataset.split("val")
    assert (len(train), len(val), len(dataset.rows)) == (1104, 192, 1296)
    assert len({row.patient_id for row in train}) == 578
    assert len({row.patient_id for row in dataset.rows}) == 680
    assert sum(row.targets[0] == 1 for row in train) == 525
    assert sum(row.targets[0] == 1 for row in val) == 102
    found = note(dataset)
    reported = ("duplicate_images", "near_duplicates", "linked_ids", "moved_images")
    assert [found[key] for key in reported] == [[], [], [], []]
    assert found["rows_with_conflicting_sources"] == []
    assert load_images(dataset, val[:2]).shape == (2, 1, 128, 128)


def test_the_baseline_is_listed_whole(real_data: Path, tmp_path: Path) -> None:
    overrides = [f"src={real_data / 'mcgan-baseline'}", f"out={tmp_path / 'set'}"]
    chosen = load_settings(PatchesSettings, CONFIGS / "mcgan-baseline.yaml", overrides)
    listing = list_patches(chosen)
    assert Counter(patch.targets[0] for patch in listing.patches) == {0.0: 1500, 1.0: 1500}
    assert not listing.problems
    statement = imported_statement(chosen)
    assert statement is not None
    assert math.isinf(statement.lineage.loss.mu)


def test_chest_radiographs_are_listed_with_several_targets(real_data: Path, tmp_path: Path) -> None:
    overrides = [f"src={real_data / 'nih-cxr'}", f"out={tmp_path / 'set'}"]
    listing = list_patches(load_settings(PatchesSettings, CONFIGS / "nih-cxr.yaml", overrides))
    splits = Counter(patch.split for patch in listing.patches)
    assert splits == {"train": 594, "val": 157, "test": 249}
    assert len({patch.patient for patch in listing.patches}) == 264
    assert sum(patch.targets[0] for patch in listing.patches) == 170
    assert set(listing.patches[0].attributes) == {"view", "age", "sex", "follow_up"}


@pytest.mark.parametrize(
    ("config", "target", "counts"),
    [
        ("nih-cxr-opacity", "opacity", (197, 499, 304)),
        ("kermany-cxr-opacity", "opacity", (4265, 1575, 0)),
        ("mhh-covid-cxr-opacity", "opacity", (243, 0, 0)),
        ("nih-cxr-view-sex", "ap", (363, 637, 0)),
        ("nih-cxr-view-sex", "female", (509, 491, 0)),
        ("mhh-covid-cxr-view-sex", "ap", (194, 49, 0)),
        ("mhh-covid-cxr-view-sex", "female", (63, 180, 0)),
    ],
)
def test_what_three_hospitals_share(
    real_data: Path, tmp_path: Path, config: str, target: str, counts: tuple[int, int, int]
) -> None:
    """Images that have it, have it not, and of which it is unknown."""
    src = real_data / config.removesuffix("-opacity").removesuffix("-view-sex")
    overrides = [f"src={src}", f"out={tmp_path / 'set'}"]
    settings = load_settings(PatchesSettings, CONFIGS / f"{config}.yaml", overrides)
    listing = list_patches(settings)
    assert not listing.problems
    place = settings.targets.index(target)
    labels = [patch.targets[place] for patch in listing.patches]
    known = Counter(label for label in labels if not math.isnan(label))
    assert (known[1.0], known[0.0], sum(map(math.isnan, labels))) == counts
