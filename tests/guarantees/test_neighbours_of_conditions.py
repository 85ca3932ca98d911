"""Neighbours before import, of a generator by selection that is told of conditions."""

import csv
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch

from gan.methods.examples import protected_examples
from gan.plans.train import gan_plan
from gan.private.condition_means import condition_part
from gan.private.embedding import vectors_of_patients
from gan.private.pool import selected_pool
from gan.private.selection import patients_vectors, pool_features
from gan.private.wide_map import RawMap, WideMap, fit_wide_map
from gan.settings.train import TrainGanSettings
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.images import encode_png
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.people.folds import fold_of
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.privacy.noisy_sum.lattice import clipped_sum
from synthdp.privacy.units import Part
from tests.releases.test_release import PRIVACY, RANDOM

PATIENTS, SIDE_PX = 16, 32
#: First in every order, with the most images: of both classes and none, of all views and densities,
#: of values that no phantom has, and unknown ones; two of them are one image.
LOUD = "0 Loud, Mr"
LOUDS_CELLS = (
    ("1", "CC", "4"), ("0", "MLO", "1"), ("1", "XCCL", "9"), ("", "CC", ""), ("", "", "2"),
    ("1", "CC", "4"),
)  # fmt: skip


def imported(world: Path, gone: str = "") -> Dataset:
    """The patients' files and their table, perhaps without one, as a data set."""
    src = world / "src"
    src.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = [["file", "patient_id", "malignant", "view", "breast_density"]]

    def add(patient: str, pixels: np.ndarray, cells: tuple[str, ...]) -> None:
        name = f"{len(lines)}.png"
        if patient != gone:
            (src / name).write_bytes(encode_png(pixels))
            lines.append([name, patient, *cells])

    first = rng.integers(0, 256, (SIDE_PX, SIDE_PX), dtype=np.uint8)
    for cells in LOUDS_CELLS:
        of_image = rng.integers(0, 256, (SIDE_PX, SIDE_PX), dtype=np.uint8)
        add(LOUD, first if cells == LOUDS_CELLS[0] else of_image, cells)
    for patient in range(PATIENTS - 1):
        for image in range(1 + patient % 2):
            pixels = rng.integers(0, 256, (SIDE_PX, SIDE_PX), dtype=np.uint8)
            add(f"p{patient}", pixels, ("1", ("CC", "MLO")[image], "1234"[patient % 4]))
    with open(src / "metadata.csv", "w", newline="") as stream:
        csv.writer(stream).writerows(lines)
    (world / "the.key").write_bytes(bytes(range(32)))
    values = {"src": src, "out": world / "clinic", "name": "clinic", "size_px": SIDE_PX,
              "split": "train", "val_fraction": None, "key": world / "the.key",
              "attributes": ("view", "breast_density")}  # fmt: skip
    return open_dataset(run_patches(PatchesSettings.model_validate(values)))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("public") / "phantoms"
    drawn = PhantomSettings(
        out=out, patients=40, size_px=SIDE_PX, seed=9, malignant_fraction=0.5, val_fraction=0,
        test_fraction=0,
    )  # fmt: skip
    return run_phantoms(drawn)


def settings_of(data: Path, out: Path, pool: Path) -> TrainGanSettings:
    values = {
        "data": data, "out": out, "privacy": PRIVACY, "method": "selection", "size_px": SIDE_PX,
        "conditions": ("view", "breast_density"),
        "condition_prior": {"view": {"CC": 1, "MLO": 1}, "breast_density": {"1": 1, "2": 1}},
        "selection": {"features": RANDOM, "tokens": RANDOM, "pool": pool, "images": 8,
                      "components": 4, "conditions_share": 0.4},
    }  # fmt: skip
    return TrainGanSettings.model_validate(values)


def public_map(settings: TrainGanSettings) -> WideMap:
    assert settings.selection is not None
    raw = RawMap.of(settings.selection, SIDE_PX, torch.device("cpu"))
    features = pool_features(selected_pool(settings, "malignant"), raw, SIDE_PX)
    return fit_wide_map(raw, features, components=4, constant=0.25)


def rows_by_patient(data: Dataset, settings: TrainGanSettings) -> dict[str, torch.Tensor]:
    """What each patient brings to the release, by the code that a run takes."""
    plan = gan_plan(settings)
    part = condition_part(settings, plan.conditions)
    examples, units = protected_examples(plan, SIDE_PX, part)
    vectors = patients_vectors(public_map(settings), data, plan.rows, plan.among, SIDE_PX)
    names = sorted(set(plan.units))
    rows = vectors_of_patients(
        vectors, examples.labels, units, len(names), None, codes=examples.attributes, part=part
    )
    return dict(zip(names, rows, strict=True))


def test_nobody_elses_vector_moves_and_sums_by_one_at_most(pool: Path, tmp_path: Path) -> None:
    brought = []
    for name, gone in (("with", ""), ("without", LOUD)):
        world = imported(tmp_path / name, gone)
        brought.append(rows_by_patient(world, settings_of(world.root, tmp_path / "run", pool)))
    everybody, fewer = brought
    (own,) = everybody.keys() - fewer.keys()
    assert len(everybody[own]) == (2 + 2 + 2) * 5
    assert all(torch.equal(everybody[one], row) for one, row in fewer.items())  # to the last bit
    assert 0.1 < float(everybody[own].double().norm()) <= 1 + 1e-6
    sums = [clipped_sum(torch.stack(list(rows.values())), 1.0) for rows in brought]
    moved = float((sums[0] - sums[1]).norm())
    assert 0.1 < moved <= 1
    assert all(float(row.double().norm()) <= 1 + 1e-6 for row in everybody.values())


def test_an_image_of_who_is_left_out_is_not_needed(pool: Path, tmp_path: Path) -> None:
    """Vectors of all folds are kept together; one that can't be read stops those that need it."""
    data = imported(tmp_path / "with")
    ((loud, _),) = Counter(row.patient_id for row in data.rows).most_common(1)
    asked = settings_of(data.root, tmp_path / "run", pool)
    own, other = (Part(part=1 + (fold_of(loud, 2) - 1 + far) % 2, of=2) for far in (0, 1))
    leaving_out = asked.model_copy(update={"leave_out": own})
    whole = rows_by_patient(data, leaving_out)
    for row in data.rows:
        if row.patient_id == loud:
            (data.root / row.image).write_bytes((data.root / row.image).read_bytes()[:60])
    damaged = rows_by_patient(data, leaving_out)
    assert loud not in damaged
    assert damaged.keys() == whole.keys()
    assert all(torch.equal(damaged[name], row) for name, row in whole.items())  # to the last bit
    with pytest.raises(InputError, match=r"manifest\.csv, row \d+"):
        rows_by_patient(data, asked.model_copy(update={"leave_out": other}))


def test_values_that_patients_alone_have_move_no_public_list(pool: Path, tmp_path: Path) -> None:
    conditions = []
    for name, gone in (("with", ""), ("without", LOUD)):
        world = imported(tmp_path / name, gone)
        conditions.append(gan_plan(settings_of(world.root, tmp_path / "run", pool)).conditions)
    assert conditions[0] == conditions[1]
    assert conditions[0].levels == (("CC", "MLO"), ("1", "2"))


WARD = ("p0", "p1", "loud", "p3")


def imported_of_folders(world: Path, pool: Path, patients: Collection[str]) -> TrainGanSettings:
    """Patients who have a folder and a table each, one of whom has a column of her own."""
    for number, patient in enumerate(WARD):
        if patient in patients:
            (world / "src" / patient).mkdir(parents=True)
            of_patient = np.random.default_rng(number)
            pixels = of_patient.integers(0, 256, (SIDE_PX, SIDE_PX), dtype=np.uint8)
            (world / "src" / patient / "1.png").write_bytes(encode_png(pixels))
            head, cells = ["file", "patient_id", "malignant", "view"], ["1.png", patient, "1", "CC"]
            if patient == "loud":
                head, cells = [*head, "breast_density"], [*cells, "2"]
            with open(world / "src" / patient / "meta.csv", "w", newline="") as stream:
                csv.writer(stream).writerows([head, cells])
    (world / "the.key").write_bytes(bytes(range(32)))
    values = {"src": world / "src", "out": world / "clinic", "name": "clinic", "size_px": SIDE_PX,
              "split": "train", "val_fraction": None, "key": world / "the.key",
              "tables": ["*/meta.csv"], "paths_from": "table"}  # fmt: skip
    return settings_of(run_patches(PatchesSettings.model_validate(values)), world / "run", pool)


@pytest.mark.parametrize(
    ("everybody", "gone"),
    [(WARD, "loud"), (("p0", "loud"), "loud"), (("p0", "loud"), "p0")],
    ids=["one of four", "one of two, whose column it is", "one of two, who lacks the column"],
)
def test_a_column_of_one_patients_own_table_decides_no_refusal(
    everybody: tuple[str, ...], gone: str, pool: Path, tmp_path: Path
) -> None:
    """Nor where the pattern finds one table alone without somebody: it is of whoever is left."""
    fewer = [name for name in everybody if name != gone]
    asked = [
        imported_of_folders(tmp_path / folder, pool, patients)
        for folder, patients in (("with", everybody), ("without", fewer))
    ]
    sets = [open_dataset(one.data) for one in asked]
    assert [len(one.rows) for one in sets] == [len(everybody), len(fewer)]
    assert sets[0].rows[0].attributes.keys() == sets[1].rows[0].attributes.keys()
    plans = [gan_plan(one) for one in asked]  # neither is refused
    assert plans[0].conditions == plans[1].conditions
    assert plans[0].privacy.statement.epsilon == plans[1].privacy.statement.epsilon
