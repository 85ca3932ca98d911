"""Neighbours before import: the same patients' files with and without one patient.

Both worlds are imported under one key. Whatever differs beside that patient's own rows would move
what others contribute, or tell of the patient in what leaves the house.
"""

import csv
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_files import mammogram, save
from made_up_mammograms import Image, Lesion, write_tcia
from pydicom import dcmread
from torch import Tensor

from classify.head.examples import private_sum
from classify.settings.finetune import FinetuneSettings
from classify.setup.head import set_up_head
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from synthdp.data.dataset import Dataset, Row, open_dataset, units_of
from synthdp.data.decoding import decode_pixels
from synthdp.data.images import encode_png
from synthdp.data.importing.cbis_ddsm import run_cbis_ddsm
from synthdp.data.importing.dicom import run_dicom
from synthdp.data.importing.listing import Listing
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.patients import assignment
from synthdp.data.importing.settings.cbis_ddsm import CbisDdsmSettings
from synthdp.data.importing.settings.dicom import DicomSettings
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.people.cohorts import cohort_of, cohort_rows, patient_tags
from synthdp.data.people.splits import split_by_patient
from synthdp.data.phantoms.phantoms import draw_patients, run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.ledger import run_ledger as ledgers
from synthdp.privacy.noisy_sum import noise
from synthdp.privacy.units import Part
from synthdp.releases.release import release
from synthdp.runs import folder as runs
from synthdp.storage.files import read_json, sha256_file
from tests.releases.test_release import ID, PRIVACY, RANDOM, files_in, finetuned, named_by

PATIENTS, SIDE_PX = 40, 32
KEY = bytes(range(32))
#: Whose images and cells are made to move others wherever they could: see `clinic_files`.
LOUD = "0 Loud, Mr"
GONE = (LOUD, "phantom-000003", "phantom-000024", "twin-b")

Contribution = tuple[str, tuple[float, ...], Mapping[str, str], bytes]


def clinic_files(src: Path) -> Path:
    """Patients' files and their table.

    One patient comes first in every order, has an id that is not safe, the largest image, the only
    one of 16 bits, the only one of other view and density, the only one without a label, and the
    same image as another patient and both twins, whom the hospital's links call one person.
    """
    src.mkdir(parents=True)
    lines = [["file", "patient_id", "malignant", "view", "breast_density"]]

    def add(name: str, pixels: np.ndarray, *cells: str) -> None:
        (src / name).write_bytes(encode_png(pixels))
        lines.append([name, *cells])

    first = None
    settings = PhantomSettings(out=src, patients=PATIENTS, size_px=SIDE_PX, seed=3)
    for patient in draw_patients(settings):
        for number, patch in enumerate(patient.patches):
            first = patch.pixels if first is None else first
            name = f"{patient.patient_id}-{number}.png"
            label = str(int(patch.malignant))
            add(name, patch.pixels, patient.patient_id, label, patch.view, str(patient.density))
    assert first is not None
    large = np.kron(first, np.ones((3, 3), dtype=np.uint16)).astype(np.uint16) * 257
    add("0-loud-1.png", large, LOUD, "1", "XCCL", "9")
    add("0-loud-2.png", first, LOUD, "", "CC", "")
    add("twin-a.png", first, "twin-a", "0", "CC", "2")
    add("twin-b.png", np.ascontiguousarray(first[::-1]), "twin-b", "1", "MLO", "2")
    write_table(src, lines)
    (src.parent / "links.csv").write_text("patient_id,person\ntwin-a,twin-b\ntwin-b,twin-b\n")
    return src


def write_table(src: Path, lines: list[list[str]]) -> None:
    with open(src / "metadata.csv", "w", newline="") as stream:
        csv.writer(stream).writerows(lines)


def without(src: Path, gone: str, out: Path) -> Path:
    """A copy of the files without one person: the twins are one."""
    shutil.copytree(src, out)
    ids = {gone, "twin-a"} if gone == "twin-b" else {gone}
    with open(src / "metadata.csv", newline="") as stream:
        lines = list(csv.reader(stream))
    for line in (line for line in lines if line[1] in ids):
        (out / line[0]).unlink()
    write_table(out, [line for line in lines if line[1] not in ids])
    return out


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clinic_files(tmp_path_factory.mktemp("files") / "src")


def imported(src: Path, world: Path, links: Path | None, **changes: object) -> Dataset:
    world.mkdir(parents=True, exist_ok=True)
    (world / "the.key").write_bytes(KEY)
    values = {
        "src": src,
        "out": world / "clinic",
        "name": "clinic",
        "size_px": SIDE_PX,
        "val_fraction": 0.3,
        "key": world / "the.key",
        "links": links,
        "attributes": ("view", "breast_density"),
        **changes,
    }
    return open_dataset(run_patches(PatchesSettings.model_validate(values)))


@pytest.fixture(scope="module")
def worlds(
    files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Dataset, Dataset]]:
    """The data set with everybody, and the one without the named person."""
    links = files.parent / "links.csv"
    everybody = imported(files, tmp_path_factory.mktemp("with"), links)
    made: dict[str, Dataset] = {}

    def worlds_of(gone: str) -> tuple[Dataset, Dataset]:
        if gone not in made:
            world = tmp_path_factory.mktemp("without")
            made[gone] = imported(without(files, gone, world / "src"), world, links)
        return everybody, made[gone]

    return worlds_of


def contributions(dataset: Dataset, rows: tuple[Row, ...]) -> dict[str, list[Contribution]]:
    """What each patient brings, by the id that the set knows; the names of its images aside."""
    brought: dict[str, list[Contribution]] = {}
    for row in rows:
        pixels = decode_pixels(dataset.root / row.image)
        content = f"{pixels.dtype}".encode() + pixels.tobytes()
        entry = (row.split, row.targets, row.attributes, content)
        brought.setdefault(row.patient_id, []).append(entry)
    return brought


def one_gone(more: Mapping[str, object], fewer: Mapping[str, object]) -> None:
    """One entry is missing in the second, and every other one is the same."""
    assert len(more) == len(fewer) + 1
    assert {one: more[one] for one in fewer} == fewer


@pytest.mark.parametrize("gone", GONE)
def test_nobody_else_moves(gone: str, worlds: Callable[[str], tuple[Dataset, Dataset]]) -> None:
    everybody, fewer = worlds(gone)
    marks = [world.info.model_copy(update={"ledger": None}) for world in (everybody, fewer)]
    assert marks[0] == marks[1]  # but for the random mark of each one's ledger
    keys = [(world.private / "key").read_bytes() for world in (everybody, fewer)]
    assert keys == [KEY, KEY]
    one_gone(contributions(everybody, everybody.rows), contributions(fewer, fewer.rows))
    splits = [{row.split for row in world.rows} for world in (everybody, fewer)]
    assert splits == [{"train", "val"}] * 2


@pytest.mark.parametrize("gone", GONE)
def test_nobody_else_changes_cohort_or_tag(
    gone: str, worlds: Callable[[str], tuple[Dataset, Dataset]]
) -> None:
    everybody, fewer = worlds(gone)
    tags = [
        dict(zip(ids, patient_tags(world, ids), strict=True))
        for world in (everybody, fewer)
        for ids in [sorted({row.patient_id for row in world.rows})]
    ]
    one_gone(*tags)
    moved = 0
    for number in (1, 2):
        part = Part(part=number, of=2)
        assert cohort_of(everybody, part) == cohort_of(fewer, part)
        held = [
            contributions(world, cohort_rows(world, world.rows, part))
            for world in (everybody, fewer)
        ]
        moved += len(held[0]) - len(held[1])
        assert {one: held[0][one] for one in held[1]} == held[1]
    assert moved == 1


def test_imported_cohorts_hold_the_same_but_for_the_one(files: Path, tmp_path: Path) -> None:
    links, kept = files.parent / "links.csv", []
    for world, src in (("with", files), ("without", without(files, LOUD, tmp_path / "src"))):
        parts = [
            imported(
                src, tmp_path / world, links, key=None, out=tmp_path / world / str(number),
                cohort=f"{number}/2", cohort_key=tmp_path / world / "the.key", val_fraction=0.5,
            )
            for number in (1, 2)
        ]  # fmt: skip
        assert len({part.info.cohort.key_id for part in parts if part.info.cohort}) == 1
        kept.append([contributions(part, part.rows) for part in parts])
        assert kept[-1][0].keys().isdisjoint(kept[-1][1])
    one_gone(kept[0][0] | kept[0][1], kept[1][0] | kept[1][1])
    for many, fewer in zip(*kept, strict=True):
        assert {one: many[one] for one in fewer} == fewer


def test_an_image_of_unit_image_moves_no_other(files: Path, tmp_path: Path) -> None:
    fewer = tmp_path / "src"
    shutil.copytree(files, fewer)
    with open(files / "metadata.csv", newline="") as stream:
        lines = list(csv.reader(stream))
    write_table(fewer, [lines[0], *lines[2:]])
    sets = [
        imported(src, tmp_path / name, None, patient_pattern="none")
        for name, src in (("with", files), ("without", fewer))
    ]
    one_gone(*(contributions(dataset, dataset.rows) for dataset in sets))
    ids = [[row.patient_id for row in dataset.rows] for dataset in sets]
    assert all(len(set(of_set)) == len(of_set) for of_set in ids)
    tags = []
    for dataset in sets:
        names = units_of(dataset.rows, "image")
        contents = [(dataset.root / row.image).read_bytes() for row in dataset.rows]
        of_images = patient_tags(dataset, names)
        tags.append(dict(zip(of_images, contents, strict=True)))
    one_gone(*tags)  # by tags samples are drawn, and augmentation


def test_merging_by_looks_moves_others_and_says_so(files: Path, tmp_path: Path) -> None:
    """What the test above would find if images decided who is one person."""
    sets = [
        imported(src, tmp_path / name, None, unit_from="looks", split="train", val_fraction=None)
        for name, src in (("with", files), ("without", without(files, LOUD, tmp_path / "src")))
    ]
    with_loud, others = (contributions(dataset, dataset.rows) for dataset in sets)
    assert {one: with_loud.get(one) for one in others} != others
    assert {dataset.info.unit_from for dataset in sets} == {"looks"}
    statement = read_json(finetuned(sets[0].root, tmp_path / "run") / "privacy.json")
    assert statement["lineage"]["releases"][0]["unit_from"] == "looks"
    assert "The unit was found by looking, in clinic" in (tmp_path / "run/card.md").read_text()


def rows_by_patient(dataset: Dataset, settings: FinetuneSettings) -> dict[str, list[list[float]]]:
    """The inputs and targets that each patient brings to a head."""
    head = set_up_head(settings, dataset)
    values: Tensor = head.examples.inputs
    brought: dict[str, list[list[float]]] = {}
    for row, inputs, targets in zip(head.rows, values, head.examples.targets, strict=True):
        brought.setdefault(row.patient_id, []).append([*inputs.tolist(), *targets.tolist()])
    return brought


@pytest.mark.parametrize("whiten", [0.0, 1.0])
def test_nobody_elses_inputs_move(
    whiten: float,
    worlds: Callable[[str], tuple[Dataset, Dataset]],
    public: Path,
    tmp_path: Path,
) -> None:
    """To the last bit: the lattice's proof starts from vectors of the patient's own."""
    gone = LOUD
    assert in_train(worlds(gone))
    brought = []
    for number, world in enumerate(worlds(gone)):
        values = {
            "data": world.root,
            "out": tmp_path / str(number),
            "privacy": PRIVACY,
            "backbone": RANDOM.model_copy(update={"whiten": whiten}),
            "centre": public,
        }
        brought.append(rows_by_patient(world, FinetuneSettings.model_validate(values)))
    one_gone(*brought)


def test_nobody_elses_inputs_or_fold_move_in_a_cross_validation(
    worlds: Callable[[str], tuple[Dataset, Dataset]], tmp_path: Path
) -> None:
    """Of some folds and shares the one who is gone was a part, of the others nobody is missing."""
    missing = []
    for index in (1, 2):
        brought = []
        for number, world in enumerate(worlds(LOUD)):
            values = {
                "data": world.root,
                "out": tmp_path / f"{index}-{number}",
                "privacy": PRIVACY,
                "backbone": RANDOM,
                "leave_out": f"{index}/2",
                "share": 0.9,
            }
            brought.append(rows_by_patient(world, FinetuneSettings.model_validate(values)))
        more, fewer = brought
        assert fewer
        assert {one: more[one] for one in fewer} == fewer
        missing.append(len(more) - len(fewer))
    assert sum(missing) <= 1
    assert in_train(worlds(LOUD))


@pytest.mark.parametrize("gone", GONE)
def test_a_sum_moves_by_the_clip_norm_at_most(
    gone: str, worlds: Callable[[str], tuple[Dataset, Dataset]], tmp_path: Path
) -> None:
    clip_norm, sums = 0.1, []
    for number, world in enumerate(worlds(gone)):
        values = {"data": world.root, "out": tmp_path / str(number), "privacy": PRIVACY}
        settings = FinetuneSettings.model_validate({**values, "backbone": RANDOM})
        examples = set_up_head(settings, world).examples
        weights = torch.linspace(-1, 1, examples.inputs.shape[1]).unsqueeze(0)
        sums.append(private_sum(weights, examples, clip_norm).double())
    moved = float((sums[0] - sums[1]).norm())
    assert moved <= clip_norm * (1 + 1e-4)
    assert (moved > 0.5 * clip_norm) == in_train(worlds(gone))


def in_train(worlds: tuple[Dataset, Dataset]) -> bool:
    everybody, fewer = worlds
    left = {row.patient_id for row in fewer.rows}
    return any(row.split == "train" and row.patient_id not in left for row in everybody.rows)


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("public") / "phantoms"
    return run_phantoms(PhantomSettings(out=out, patients=12, size_px=SIDE_PX, seed=9))


TINY_GAN = {"size_px": SIDE_PX, "channels": (8, 8, 8), "z_dim": 16, "batch": 8, "kimg": 0.02}
NETWORK = {"trainable_blocks": 1, "steps": 4, "sampling_rate": 0.5, "block_steps": 2}
WHOLE = {
    "trainable_blocks": "all",
    "steps": 2,
    "sampling_rate": 0.2,
    "block_steps": 1,
    "augment": {},
    "max_images": 1,
}
GAME = {
    "steps": 4,
    "sampling_rate": 0.5,
    "channels": (8, 8, 8),
    "fakes": 8,
    "block_steps": 2,
    "head_start": 1,
    "discriminator_steps_per_generator_step": 2,
}


def made_by(stage: str, data: Path, out: Path, public: Path) -> Path:
    """A run of each private stage and way of training."""
    if stage == "head":
        return finetuned(data, out)
    if stage == "started head":
        head = {"start": "centre", "clip_norm": 0.2, "steps": 8}
        return finetuned(data, out, head=head, centre=public)
    if stage == "sampled head":
        return finetuned(data, out, head={"sampling_rate": 0.5, "steps": 8})
    if stage == "network":
        return finetuned(data, out, network=NETWORK)
    if stage == "whole network":
        return finetuned(data, out, network=WHOLE)
    changes: dict[str, object] = {
        "method": "embedding",
        "embedding": {"features": RANDOM, "public": public},
    }
    if stage.startswith("selection"):
        recipe = {"features": RANDOM, "tokens": RANDOM, "pool": public, "images": 3,
                  "components": 4}  # fmt: skip
        changes = {"method": "selection", "selection": recipe}
        if stage.startswith("selection by view"):  # of which one patient alone has another
            changes["conditions"] = ("view",)
        if stage == "selection by view, told":
            recipe["conditions_share"] = 0.4
    if stage == "dp_discriminator":
        changes = {"method": stage, "loss": "non_saturating", "dp_discriminator": GAME}
    values = {"data": data, "out": out, "privacy": PRIVACY, **TINY_GAN, **changes}
    return run_train_gan(TrainGanSettings.model_validate(values))


@pytest.mark.parametrize(
    "stage",
    [
        *("head", "started head", "sampled head", "network", "whole network"),
        *("embedding", "selection", "selection by view", "selection by view, told"),
        "dp_discriminator",
    ],
)
def test_what_leaves_differs_in_the_noisy_weights_alone(
    stage: str,
    worlds: Callable[[str], tuple[Dataset, Dataset]],
    public: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "new_release_id", lambda: ID)
    monkeypatch.setattr(ledgers, "new_token", lambda: ID)
    monkeypatch.setattr(noise, "new_key", lambda: b"k" * KEY_BYTES)
    gone = LOUD
    assert in_train(worlds(gone))
    left = []
    for name, world in zip(("with", "without"), worlds(gone), strict=True):
        data = tmp_path / name / "clinic"
        shutil.copytree(world.root, data)
        left.append(tmp_path / name / "released")
        release(made_by(stage, data, tmp_path / name / "run", public), left[-1])
    assert files_in(left[0]) == files_in(left[1])
    weights = next(one for one in files_in(left[0]) if one.endswith(".safetensors"))
    assert (left[0] / weights).stat().st_size == (left[1] / weights).stat().st_size
    for one in files_in(left[0]) - {weights}:
        texts = [(folder / one).read_text() for folder in left]
        if one in ("model/settings.json", "release.json"):  # hashes are of what leaves anyway
            digests = [{sha256_file(folder / name): name for name in files_in(folder)}
                       for folder in left]  # fmt: skip
            texts = [named_by(text, own) for text, own in zip(texts, digests, strict=True)]
        assert texts[0] == texts[1], one


def test_a_split_that_hangs_on_who_is_there_is_noticed(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault that this file was written for, planted again."""

    def shuffled(
        settings: PatchesSettings, listing: Listing, persons: Sequence[str], key: bytes
    ) -> list[str]:
        labels = [patch.targets[0] for patch in listing.patches]
        split_of = split_by_patient(persons, labels, {"train": 0.7, "val": 0.3}, seed=0)
        return [split_of[person] for person in persons]

    monkeypatch.setattr(assignment, "_given_splits", shuffled)
    sets = [
        imported(src, tmp_path / name, files.parent / "links.csv")
        for name, src in (("with", files), ("without", without(files, LOUD, tmp_path / "src")))
    ]
    many, fewer = (contributions(dataset, dataset.rows) for dataset in sets)
    assert sum(many[one] != fewer[one] for one in fewer) > 5


def test_what_is_left_out_of_one_moves_nobody_else(files: Path, tmp_path: Path) -> None:
    """A person with torn images, without some files, of an unknown class, and of unclean ids."""
    everybody = tmp_path / "everybody"
    shutil.copytree(files, everybody)
    with open(everybody / "metadata.csv", newline="") as stream:
        lines = list(csv.reader(stream))
    (everybody / "a torn one.png").write_bytes(b"")
    lines += [
        ["a torn one.png", "\u200b1001 ", "1", "CC", "1"],
        ["not there.png", "1001", "1", "CC", "1"],
        ["twin-c.png", "1001", "perhaps", "CC", "1"],
        ["twin-d.png", "nan", "1", "CC", "1"],
        ["twin-e.png", "1001\n", "1", "CC", "1"],
    ]
    for name in ("twin-c.png", "twin-d.png", "twin-e.png"):
        shutil.copy(everybody / "twin-a.png", everybody / name)
    write_table(everybody, lines)
    reasons = ("unreadable", "missing_file", "unknown_class", "no_patient")
    worlds = [
        imported(src, tmp_path / name, files.parent / "links.csv", leave_out=reasons)
        for name, src in (("with", everybody), ("without", files))
    ]
    brought = [contributions(world, world.rows) for world in worlds]
    one_gone(*brought)
    assert len(brought[0]["1001"]) == 1


# Other ways in: DICOM files, the archive's own tables, several tables, tables that are torn.


def of_dicom(src: Path, world: Path, **changes: object) -> Dataset:
    """An import of the DICOM files and the table of a folder, under the one key."""
    world.mkdir(parents=True, exist_ok=True)
    (world / "the.key").write_bytes(KEY)
    values = {
        **{"src": src, "metadata": src / "t.csv", "out": world / "clinic", "size_px": SIDE_PX},
        **{"key": world / "the.key", "val_fraction": 0.3, "workers": 1},
    }
    return open_dataset(run_dicom(DicomSettings.model_validate({**values, **changes})))


def hospital_files(src: Path) -> Path:
    """Mammograms and a table of their lesions, each person with two.

    The first is the only one whose headers say view, side and spacing, has the largest image and
    the only one of 16 bits, and a lesion that nobody can find.
    """
    src.mkdir(parents=True)
    rng = np.random.default_rng(5)
    lines = [["file", "patient_id", "malignant", "xmin", "ymin", "xmax", "ymax"]]
    for number in range(24):
        person, loud = f"P{number // 2}" if number > 1 else LOUD, number < 2
        pixels = rng.integers(0, 4096, (300, 200) if loud else (90, 70)).astype(np.uint16)
        said: dict[str, object] = {"ImageLaterality": "", "ViewPosition": ""}
        if loud:
            pixels = np.clip(pixels * 16, 0, 65535).astype(np.uint16)
            said = {"BitsStored": 16, "HighBit": 15, "PixelSpacing": [0.1, 0.1]}
        said |= {"PatientID": person, "StudyInstanceUID": f"2.25.9{number}"}
        save(mammogram(pixels, SOPInstanceUID=f"2.25.{number + 1}", **said), src / f"{number}.dcm")
        corners = ["", "", "", ""] if number == 1 else ["10", "20", "40", "60"]
        lines.append([f"{number}.dcm", person, str(number % 2), *corners])
    write_rows(src / "t.csv", lines)
    return src


def write_rows(path: Path, lines: list[list[str]]) -> None:
    with open(path, "w", newline="") as stream:
        csv.writer(stream).writerows(lines)


def without_person(src: Path, person: str, out: Path) -> Path:
    """A copy of DICOM files and their table without one person."""
    shutil.copytree(src, out)
    with open(src / "t.csv", newline="") as stream:
        lines = list(csv.reader(stream))
    for line in lines:
        if line[1] == person:
            (out / line[0]).unlink()
    write_rows(out / "t.csv", [line for line in lines if line[1] != person])
    return out


@pytest.mark.parametrize("crop", [None, {"margin_px": 4, "least_side_px": 16, "extra_crops": 2}])
def test_nobody_else_moves_in_dicom_files(crop: dict[str, object] | None, tmp_path: Path) -> None:
    src = hospital_files(tmp_path / "src")
    worlds = (src, without_person(src, LOUD, tmp_path / "fewer"))
    how: dict[str, object] = {"crop": crop} if crop else {"whole_images": True}
    sets = [
        of_dicom(one, tmp_path / name, leave_out=("no_region",), **how)
        for name, one in zip(("with", "without"), worlds, strict=True)
    ]
    one_gone(*(contributions(dataset, dataset.rows) for dataset in sets))
    heads = [(one.root / "manifest.csv").read_text().splitlines()[0] for one in sets]
    assert heads[0] == heads[1] == "image,patient_id,split,malignant,laterality,view"


def of_archive(src: Path, world: Path, **changes: object) -> Dataset:
    (world / "the.key").write_bytes(KEY)
    values = {
        **{"src": src, "out": world / "set", "size_px": SIDE_PX, "workers": 1},
        **{"key": world / "the.key", "crop": {"margin_px": 10, "least_side_px": 16}},
    }
    return open_dataset(run_cbis_ddsm(CbisDdsmSettings.model_validate({**values, **changes})))


OTHERS = [
    *(Image(f"P_{n:05d}", "LR"[n % 2], "CC", [Lesion()]) for n in range(2, 6)),
    Image("P_00007", "R", "MLO", kind="calc"),
]


def test_nobody_else_moves_in_the_archive_s_own_tables(tmp_path: Path) -> None:
    """One is the only one of whom the table says what the calcification is."""
    loud, sets = Image("P_00001", "L", "MLO", kind="calc", density=4), []
    for name, images in (("with", [loud, *OTHERS]), ("without", OTHERS)):
        src = tmp_path / name / "src"
        write_tcia(src, images)
        table = src / "calc_case_description_train_set.csv"
        lines = table.read_text().split("\nP_00007")
        unsaid = lines[1].replace("PLEOMORPHIC,CLUSTERED", ",")
        table.write_text("\nP_00007".join([lines[0], unsaid]))
        sets.append(of_archive(src, tmp_path / name))
    one_gone(*(contributions(dataset, dataset.rows) for dataset in sets))


def test_files_of_two_persons_under_one_uid_leave_nobody_out_unseen(tmp_path: Path) -> None:
    """What may be left out is what an image's own files say; this is refused, with a row."""
    src = tmp_path / "src"
    write_tcia(src, OTHERS)
    assert len(of_archive(src, tmp_path, leave_out=("contradiction",)).rows) == len(OTHERS)
    one, other = (
        next(path for path in src.rglob("*.dcm") if dcmread(path).PatientID == OTHERS[n].case)
        for n in (0, 1)
    )
    dataset = dcmread(other)
    dataset.SeriesInstanceUID = dcmread(one).SeriesInstanceUID
    save(dataset, other)
    with pytest.raises(InputError, match=r"row 2 of mass_case\S* the full image: its series holds"):
        of_archive(src, tmp_path, leave_out=("contradiction", "missing_file"), out=tmp_path / "2")


def test_columns_are_those_of_tables_and_not_of_who_has_a_row(files: Path, tmp_path: Path) -> None:
    """The one whose table has a further column is left out for another reason."""
    sets = []
    for name, label in (("with", "1"), ("without", "perhaps")):
        src = tmp_path / name
        shutil.copytree(files, src)
        (src / "metadata.csv").rename(src / "most.csv")
        lines = [["file", "patient_id", "malignant", "site"], ["one.png", "one", label, "north"]]
        write_rows(src / "one.csv", lines)
        shutil.copy(src / "twin-a.png", src / "one.png")
        how = {"tables": ("most.csv", "one.csv"), "attributes": None}
        links, left_out = files.parent / "links.csv", ("unknown_class",)
        sets.append(imported(src, tmp_path / f"{name} set", links, leave_out=left_out, **how))
    one_gone(*(contributions(dataset, dataset.rows) for dataset in sets))


def test_no_table_that_one_patient_alone_may_have_counts_for_others(
    files: Path, tmp_path: Path
) -> None:
    """Beside hers, a column would be read of everybody that her table alone fills."""
    diagnosis = {"malignant": ("pathology", "malignant")}
    said = []
    for name in ("with", "without"):
        src = tmp_path / name
        shutil.copytree(files, src)
        if name == "with":
            write_rows(src / "seen-1.csv", [["patient_id", "pathology"], [LOUD, "benign"]])
        with pytest.raises(InputError, match="nothing was imported") as refused:
            imported(
                src, tmp_path / f"{name} set", None, target_columns=diagnosis,
                joined={"seen-*.csv": {"on": "patient_id", "optional": True}},
            )  # fmt: skip
        said.append(str(refused.value).replace(str(src), "src"))
    assert said[0] == said[1]
    assert "joined: seen-*.csv is optional, and may find a table that one patient" in said[0]
    beside = {"joined": {"seen.csv*": {"on": "patient_id", "optional": True}}}
    links = files.parent / "links.csv"
    assert imported(files, tmp_path / "named", links, **beside).rows


@pytest.mark.parametrize("column", [1, 2, 3])
def test_a_quote_too_many_takes_nobody_elses_rows(column: int, tmp_path: Path) -> None:
    """Between two quotes that somebody's rows do not close, others' rows would be one cell."""
    src = tmp_path / "src"
    src.mkdir()
    texture = np.random.default_rng(0).integers(0, 255, (8, SIDE_PX, SIDE_PX)).astype(np.uint8)
    lines = ["file,patient_id,malignant,view"]
    for number in range(8):
        (src / f"{number}.png").write_bytes(encode_png(texture[number]))
        cells = [f"{number}.png", "X" if number in (2, 5) else f"P{number}", "1", "CC"]
        if number == 2:
            cells[column] = f'"{cells[column]}'
        if number == 5:
            cells[column] = '"'
        lines.append(",".join(cells))
    (src / "metadata.csv").write_text("\n".join(lines) + "\n")
    anything = ("missing_file", "no_patient", "unknown_class", "contradiction")
    with pytest.raises(InputError, match="row 4: a cell holds line breaks and what looks like"):
        imported(src, tmp_path, None, attributes=None, leave_out=anything)


@pytest.mark.parametrize("extra", [0, 1])
def test_an_image_of_which_several_are_cut_is_no_unit(extra: int, tmp_path: Path) -> None:
    """Each crop would be promised what the image was: two lesions, or a lesion and its extra crop.

    A set that knows its patients may hold both, but promises nothing to each crop of one lesion.
    """
    src = hospital_files(tmp_path / "src")
    with open(src / "t.csv", newline="") as stream:
        head, _, _, *lines = csv.reader(stream)
    second = [*lines[0][:3], "5", "5", "30", "30"]
    write_rows(src / "t.csv", [head, *lines, *([] if extra else [second])])
    how = {"crop": {"margin_px": 4, "least_side_px": 16, "extra_crops": extra}, "split": "train"}
    how |= {"key": None, "val_fraction": None}
    with pytest.raises(InputError, match="image\\(s\\) several were cut"):
        of_dicom(src, tmp_path / "refused", patient_pattern="none", **how)
    dataset = of_dicom(src, tmp_path / "known", **how)
    by_image = PRIVACY.model_copy(update={"unit": "image"})
    if extra:
        with pytest.raises(InputError, match="one lesion is several images"):
            finetuned(dataset.root, tmp_path / "run", privacy=by_image)
    else:
        finetuned(dataset.root, tmp_path / "run", privacy=by_image)
