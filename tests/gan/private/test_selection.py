import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from gan.audit import subject_of
from gan.auditing.replay import broken_release
from gan.export import run_export
from gan.generate import run_generate
from gan.library.exported import run_export_model
from gan.library.generator import Generator
from gan.methods.release import SUMS_FILE
from gan.network.medigan import generate
from gan.plans.sets import plan_generate
from gan.plans.train import gan_plan, plan_train_gan
from gan.private.condition_means import ConditionPart, value_vectors
from gan.private.embedding import image_vectors, patient_rows, patient_vectors
from gan.private.pool import refuse_missing_conditions
from gan.private.selection import ReleasedConditions, patients_vectors, select
from gan.private.tilting import Groups
from gan.private.wide_map import RawMap, WideMap, fit_wide_map
from gan.settings.finished import ExportSettings, GenerateSettings
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training.examples import Examples
from synthdp.checkpoint import load_weights
from synthdp.data.dataset import load_images, open_dataset
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.networks.exported.settings import ExportModelSettings
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.mechanism import Mechanism
from synthdp.releases.release import release

NETS = {
    "features": {"name": "test_efficientnet", "size_px": 32},
    "tokens": {"name": "test_vit", "size_px": 32},
}
CPU = torch.device("cpu")
MakeSet = Callable[..., Path]
Select = Callable[..., TrainGanSettings]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pool") / "phantoms"
    settings = {"patients": 30, "size_px": 32, "val_fraction": 0, "test_fraction": 0}
    return run_phantoms(PhantomSettings(out=out, malignant_fraction=0.5, **settings))


@pytest.fixture(scope="module")
def selecting(pool: Path) -> Select:
    def settings(data: Path, out: Path, **changes: Any) -> TrainGanSettings:
        recipe = {"pool": pool, "images": 8, "components": 6, **changes.pop("selection", {})}
        privacy = {"epsilon": 6.0, "population": 20, "delta": 1e-3, **changes.pop("privacy", {})}
        values = {"data": data, "out": out, "method": "selection", "size_px": 32,
                  "privacy": privacy,
                  "selection": {**NETS, **recipe}, **changes}  # fmt: skip
        return TrainGanSettings.model_validate(values)

    return settings


@pytest.fixture(scope="module")
def wide(pool: Path) -> WideMap:
    settings = TrainGanSettings.model_validate(
        {"data": pool, "out": pool / "run", "method": "selection", "size_px": 32,
         "selection": {**NETS, "pool": pool}}
    )  # fmt: skip
    assert settings.selection is not None
    raw = RawMap.of(settings.selection, 32, CPU)
    dataset = open_dataset(pool)
    with torch.no_grad():
        features = raw(torch.from_numpy(load_images(dataset, dataset.rows, 32)))
    return fit_wide_map(raw, features.numpy(), components=6, constant=0.25)


@pytest.fixture(scope="module")
def run(selecting: Select, discs_as_real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_train_gan(selecting(discs_as_real, tmp_path_factory.mktemp("selected") / "run"))


def test_vectors_have_norm_one_at_most_and_lead_with_the_constant(wide: WideMap) -> None:
    images = 2 * torch.rand(9, 1, 32, 32, generator=torch.Generator().manual_seed(0)) - 1
    odd = torch.cat([images, torch.full((1, 1, 32, 32), 50.0), -images[:1] * 1e6])
    with torch.no_grad():
        seen = wide(odd)
    assert seen.shape == (11, 7)
    assert seen.norm(dim=1).max() <= 1 + 1e-6
    assert torch.allclose(seen[:, 0], torch.full((11,), 0.25))


def test_a_row_is_of_its_own_patient_alone(wide: WideMap) -> None:
    """A patient's row does not change in a bit when others come, or theirs are no numbers."""
    images = 2 * torch.rand(7, 1, 32, 32, generator=torch.Generator().manual_seed(1)) - 1
    labels, units = torch.tensor([0, 1, 1, 0, 1, 0, 1]), torch.tensor([0, 0, 0, 1, 1, 2, 3])
    images[5] = math.nan

    def rows_of(kept: torch.Tensor) -> torch.Tensor:
        codes = torch.empty(len(labels[kept]), 0, dtype=torch.int64)
        _, own = torch.unique(units[kept], return_inverse=True)
        examples = Examples(images[kept], labels[kept], codes)
        return patient_rows(wide, examples, own, int(own.max()) + 1)

    everybody = rows_of(torch.ones(7, dtype=torch.bool))
    assert torch.equal(rows_of(units == 0)[0], everybody[0])
    assert torch.equal(rows_of(units != 2)[2], everybody[3])
    assert everybody[[0, 1, 3]].norm(dim=1).max() <= 1 + 1e-6


def test_what_is_kept_of_patients_is_what_each_image_gives_alone(
    wide: WideMap, discs_as_real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors by the cache are those of `image_vectors`, to the bit, whoever else is kept."""
    root = tmp_path / "patients"
    shutil.copytree(discs_as_real, root)
    dataset = open_dataset(root)
    everybody = dataset.split("train")
    some = everybody[3:8]
    known = image_vectors(wide, torch.from_numpy(load_images(dataset, some, 32)))
    assert torch.equal(patients_vectors(wide, dataset, some, some, 32), known)
    assert torch.equal(patients_vectors(wide, dataset, some, everybody, 32), known)
    assert patients_vectors(wide, dataset, (), (), 32).shape == (0, 7)
    monkeypatch.setattr(RawMap, "__call__", None)  # a second run asks no network
    assert torch.equal(patients_vectors(wide, dataset, some, everybody, 32), known)


def test_a_run_releases_once_states_it_and_keeps_images_of_the_pool(
    run: Path, selecting: Select, discs_as_real: Path, pool: Path
) -> None:
    assert plan_train_gan(selecting(discs_as_real, run)).epsilon == pytest.approx(6, rel=2e-3)
    record = open_dataset(discs_as_real).ledger_path
    ids = [release.id for release in recorded_releases(record)]
    assert run_train_gan(selecting(discs_as_real, run)) == run  # nothing is spent again
    assert [release.id for release in recorded_releases(record)] == ids
    kept = load_weights(run / "model" / "generator.safetensors")["images"]
    assert kept.shape == (2, 8, 32, 32)
    dataset = open_dataset(pool)
    rows = list(dataset.split("train"))
    greys = np.rint((load_images(dataset, rows, 32)[:, 0] + 1) * 127.5).astype(np.uint8)
    for value in (0, 1):
        own = {grey.tobytes() for grey, row in zip(greys, rows, strict=True)
               if row.targets[0] == value}  # fmt: skip
        taken = [image.numpy().tobytes() for image in kept[value]]
        assert len(set(taken)) == 8
        assert set(taken) <= own
    line = json.loads((run / "private" / "metrics.jsonl").read_text())
    assert line["candidates"] == len(rows)
    assert 1 <= line["effective_with"] <= len(rows)
    card = (run / "card.md").read_text()
    assert "images that were kept of a public pool" in card
    assert "- selection: " in card
    assert "kimg" not in card  # it trains no network


def test_a_synthetic_set_is_drawn_from_it_under_its_promise(run: Path, tmp_path: Path) -> None:
    settings = GenerateSettings(run=run, out=tmp_path / "set", per_class=5)
    assert plan_generate(settings).epsilon == pytest.approx(6, rel=2e-3)
    drawn = open_dataset(run_generate(settings))
    assert len(drawn.rows) == 10
    assert drawn.info.kind == "synthetic"
    assert drawn.info.lineage.releases
    network = {"data": drawn.root, "out": tmp_path / "gan", "size_px": 32,
               "channels": (8, 8, 8), "privacy": {"epsilon": None, "delta": 1e-3}}  # fmt: skip
    later = plan_train_gan(TrainGanSettings.model_validate(network))  # at no further cost
    assert later.epsilon == pytest.approx(6, rel=2e-3)
    with pytest.raises(InputError, match="no styles"):
        plan_generate(settings.model_copy(update={"truncation": 0.5}))


def test_a_release_that_its_noise_hid_is_told(
    selecting: Select,
    discs_as_real: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for least, told in ((-100.0, False), (1e9, True)):
        monkeypatch.setattr("gan.methods.selection.LEAST_Z", least)
        run_train_gan(selecting(discs_as_real, tmp_path / str(told)))
        assert ("the patients have added nothing" in caplog.text) is told


def test_sets_of_smaller_images_than_are_drawn_are_named(
    selecting: Select, discs_as_real: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patients, small = "data: discs has images of 32 px", "selection.pool: phantoms has images of"
    run_train_gan(selecting(discs_as_real, tmp_path / "same"))
    assert patients not in caplog.text
    run_train_gan(selecting(discs_as_real, tmp_path / "larger", size_px=64))
    assert patients in caplog.text
    assert f"{small} 32 px, which are enlarged to 64 px" in caplog.text


def test_a_set_of_more_images_than_are_kept_says_so(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    again = "the generator keeps 8 images of each class, so that of 9 some come again"
    for per_class, said in ((8, False), (9, True)):
        out = tmp_path / str(per_class)
        card = run_generate(GenerateSettings(run=run, out=out, per_class=per_class)) / "README.md"
        assert (again in card.read_text()) is (again in caplog.text) is said
        assert "images of the generator's pool, such as phantoms" in card.read_text()


def test_without_a_promise_it_is_the_same_recipe_without_noise(
    selecting: Select, discs_as_real: Path, tmp_path: Path
) -> None:
    settings = selecting(discs_as_real, tmp_path / "run", privacy={"epsilon": None})
    assert plan_train_gan(settings).epsilon == math.inf
    kept = run_train_gan(settings)
    sums = load_weights(kept / "private" / SUMS_FILE)["sums"]
    shares = sums[:, 0] / 0.25  # of twelve patients, half of either class
    assert shares.tolist() == pytest.approx([0.5, 0.5])


def test_the_audit_finds_the_noise_of_its_release_as_declared(
    run: Path, selecting: Select, discs_as_real: Path
) -> None:
    subject = subject_of(run, selecting(discs_as_real, run))
    released = load_weights(run / "private" / SUMS_FILE)["sums"]
    assert broken_release(subject, released, 1e-9) == []
    assert broken_release(subject, torch.zeros_like(released), 1e-9)


def test_it_leaves_as_one_file_and_as_a_package(run: Path, tmp_path: Path) -> None:
    released = tmp_path / "released"
    release(run, released)
    asked = ExportModelSettings(run=released, out=tmp_path / "file", format="torch-export")
    assert (run_export_model(asked) / "model.pt2").is_file()
    package = run_export(ExportSettings(run=released, out=tmp_path / "packages"))
    weights = next(package.rglob("weights.pt"))
    pairs = generate(weights, 6, tmp_path, False, seed=1)
    assert pairs is not None
    assert len({image.tobytes() for image, _ in pairs}) == 6


def test_what_comes_after_the_release_reads_no_patient(
    run: Path, selecting: Select, discs_as_real: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A run that was killed behind its release goes on without opening an image of a patient."""
    stopped = selecting(discs_as_real, tmp_path / "run", privacy={"fixed_noise_key": 5})

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gan.methods.selection.select", killed)
        with pytest.raises(KeyboardInterrupt):
            run_train_gan(stopped)
    released = (stopped.out / "private" / SUMS_FILE).read_bytes()
    monkeypatch.setattr("gan.methods.selection.patients_vectors", None)  # not to be called
    run_train_gan(stopped)
    assert (stopped.out / "private" / SUMS_FILE).read_bytes() == released
    whole = selecting(discs_as_real, tmp_path / "whole", privacy={"fixed_noise_key": 5})
    monkeypatch.undo()
    run_train_gan(whole)
    kept = [load_weights(out / "model" / "generator.safetensors")["images"]
            for out in (stopped.out, whole.out)]  # fmt: skip
    assert torch.equal(*kept)


def test_a_pool_that_cannot_serve_is_refused_before_anything_is_spent(
    selecting: Select, discs_as_real: Path, pool: Path, tmp_path: Path
) -> None:
    benign = run_phantoms(
        PhantomSettings(
            out=tmp_path / "benign", patients=20, size_px=32, malignant_fraction=0,
            val_fraction=0, test_fraction=0, seed=3,
        )
    )  # fmt: skip
    rows = [row for row in open_dataset(benign).rows if row.targets[0] == 1]
    spent = recorded_releases(open_dataset(discs_as_real).ledger_path)
    for pools, images, words in (
        ([benign], 1 + len(rows), "candidate.* malignant 1"),
        ([pool], 10_000, "candidates have malignant 0, and 10,000 are to be kept"),
        ([pool, discs_as_real], 8, "holds patients"),
        ([pool, pool], 8, "a set is named twice"),
    ):
        asked = {"pool": pools, "images": images}
        with pytest.raises(InputError, match=words):
            plan_train_gan(selecting(discs_as_real, tmp_path / "run", selection=asked))
    assert recorded_releases(open_dataset(discs_as_real).ledger_path) == spent


def test_a_release_that_noise_would_drown_is_refused_before_it_is_made(
    selecting: Select, discs_as_real: Path, tmp_path: Path
) -> None:
    settings = selecting(discs_as_real, tmp_path / "run", privacy={"epsilon": 0.05})
    spent = recorded_releases(open_dataset(discs_as_real).ledger_path)
    with pytest.raises(
        InputError, match=r"an epsilon of about .*, or about .* patients"
    ) as refused:
        run_train_gan(settings)
    assert recorded_releases(open_dataset(discs_as_real).ledger_path) == spent
    words = str(refused.value).split("about ")
    enough = {"epsilon": 1.05 * float(words[1].split(",")[0])}
    run_train_gan(selecting(discs_as_real, tmp_path / "more", privacy=enough))


def test_a_release_that_says_nothing_leaves_equal_weights() -> None:
    """And refuses nobody, for the patients decide it."""
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(60, 3)), np.arange(60) % 2
    drowned = Mechanism(noise_multiplier=1e3, steps=1, normaliser=20)
    sums = torch.tensor([[0.125, 0.0, 0.0, 0.0], [0.125, 0.0, 0.0, 0.0]])
    selected = select(
        sums, drowned, vectors, labels, images=5, constant=0.25, class_prior=0.5, separation=1,
        seed=0,
    )  # fmt: skip
    assert selected.effective == pytest.approx((30, 30))
    assert selected.z < 0


def test_conditions_are_the_pools_own_and_drawn_by_public_shares(
    selecting: Select, discs_as_real: Path, pool: Path, tmp_path: Path
) -> None:
    """The patients have neither column, and nothing more is spent than without conditions."""
    shares = {"view": {"CC": 3, "MLO": 1}, "breast_density": {"1": 1, "2": 1}}
    settings = selecting(
        discs_as_real, tmp_path / "run", conditions=tuple(shares), condition_prior=shares
    )
    assert plan_train_gan(settings).epsilon == pytest.approx(6, rel=2e-3)
    kept = run_train_gan(settings)
    (line,) = map(json.loads, (kept / "private" / "metrics.jsonl").read_text().splitlines())
    dataset = open_dataset(pool)
    rows = [row for row in dataset.split("train") if row.attributes["breast_density"] in {"1", "2"}]
    assert line["candidates"] == len(rows)  # others are no candidates
    greys = np.rint((load_images(dataset, rows, 32)[:, 0] + 1) * 127.5).astype(np.uint8)
    known = {grey.tobytes(): (row.attributes["view"], row.attributes["breast_density"])
             for grey, row in zip(greys, rows, strict=True)}  # fmt: skip
    images = load_weights(kept / "model" / "generator.safetensors")["images"]
    expected = [("CC", "1")] * 3 + [("CC", "2")] * 3 + [("MLO", "1"), ("MLO", "2")]
    for value in (0, 1):
        assert [known[image.numpy().tobytes()] for image in images[value]] == expected
    assert "tells nothing of theirs" in (kept / "card.md").read_text()

    drawn = open_dataset(
        run_generate(GenerateSettings(run=kept, out=tmp_path / "set", per_class=8))
    )
    for row, image in zip(drawn.rows, load_images(drawn, drawn.rows, 32)[:, 0], strict=True):
        grey = np.rint((image + 1) * 127.5).astype(np.uint8)
        own = known.get(grey.tobytes()) or known[np.ascontiguousarray(grey[:, ::-1]).tobytes()]
        assert (row.attributes["view"], row.attributes["breast_density"]) == own
    of_class = [row.attributes["view"] for row in drawn.rows if row.targets[0] == 1]
    assert of_class.count("CC") in {5, 6, 7}  # of 8, an even number, one image may come twice
    asked = Generator.load(kept).sample(20, 1, conditions={"view": "MLO"})
    assert set(asked.conditions["view"]) == {"MLO"}
    release(kept, tmp_path / "released")
    left = {"run": tmp_path / "released"}
    exported = ExportModelSettings(**left, out=tmp_path / "file", format="torch-export")
    assert (run_export_model(exported) / "model.pt2").is_file()
    package = run_export(ExportSettings(**left, out=tmp_path / "packages"))
    assert generate(next(package.rglob("weights.pt")), 6, tmp_path, False, seed=1) is not None


def test_told_of_values_each_combination_has_a_mean_of_its_own() -> None:
    """Patients of a value lie elsewhere than the pool's: so do those that are kept of it."""
    rng = np.random.default_rng(4)
    size, count = 3, 4000
    combinations, labels = rng.integers(0, 4, count), np.arange(count) % 2
    vectors = rng.normal(0, 0.2, (count, size))
    values = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    patients = torch.from_numpy(rng.normal(0, 0.05, (500, size))).float()
    views, densities = (torch.from_numpy(rng.integers(0, 2, 500)) for _ in range(2))
    patients[:, 0] += torch.where(views == 1, 0.1, -0.1)
    patients[:, 1] += torch.where(densities == 1, 0.06, -0.06)
    rows = torch.cat([torch.full((500, 1), 0.25), patients], dim=1)
    classes, units = torch.arange(500) % 2, torch.arange(500)
    part = ConditionPart(0.5, (2, 2))
    codes = torch.stack([views + 1, densities + 1], dim=1)
    about = {"images": 200, "constant": 0.25, "class_prior": 0.5, "separation": 1, "seed": 0,
             "combinations": Groups(combinations, np.full(4, 0.25))}  # fmt: skip
    told = value_vectors(rows, classes, units, 500, codes=codes, part=part).mean(dim=0)
    plain = patient_vectors(rows, classes, units, 500).mean(dim=0).view(2, -1)
    about_values = ReleasedConditions(part, values)
    kept = select(told.view(6, -1), None, vectors, labels, **about, conditions=about_values).indices
    alike = select(plain, None, vectors, labels, **about).indices
    for indices, shifts in ((kept, (0.2, 0.12)), (alike, (0, 0))):
        for of_class in indices:
            assert np.bincount(combinations[of_class]).tolist() == [50] * 4
            own = values[combinations[of_class]]
            for condition, shift in enumerate(shifts):
                of_value = vectors[of_class][:, condition]
                apart = (
                    of_value[own[:, condition] == 1].mean()
                    - of_value[own[:, condition] == 0].mean()
                )
                assert apart == pytest.approx(shift, abs=0.05)


@pytest.fixture(scope="module")
def told(
    selecting: Select, phantoms_as_real: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("told") / "run"
    return run_train_gan(selecting(phantoms_as_real, out, **TELLING))


TELLING = {"conditions": ("view",), "selection": {"conditions_share": 0.4}}


@pytest.fixture(scope="module")
def phantoms_as_real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clinic") / "clinic"
    return run_phantoms(
        PhantomSettings(
            out=out, patients=15, size_px=32, as_real=True, seed=5, val_fraction=0, test_fraction=0
        )
    )


def test_a_run_that_is_told_of_conditions_spends_no_more_and_says_so(
    told: Path, selecting: Select, phantoms_as_real: Path
) -> None:
    asked = selecting(phantoms_as_real, told, **TELLING)
    assert plan_train_gan(asked).epsilon == pytest.approx(6, rel=2e-3)
    sums = load_weights(told / "private" / SUMS_FILE)["sums"]
    assert sums.shape == (4, 7)
    card = (told / "card.md").read_text()
    assert "how images of each value look" in card
    assert "tells nothing of theirs" not in card
    subject = subject_of(told, asked)
    assert broken_release(subject, sums, 1e-9) == []
    assert broken_release(subject, 20 * sums, 1e-9)


def test_without_a_promise_sums_count_patients_by_class_and_value(
    selecting: Select, phantoms_as_real: Path, tmp_path: Path
) -> None:
    settings = selecting(phantoms_as_real, tmp_path / "run", **TELLING, privacy={"epsilon": None})
    sums = load_weights(run_train_gan(settings) / "private" / SUMS_FILE)["sums"]
    assert float(sums[:2, 0].sum()) == pytest.approx(0.25 * 0.6**0.5)
    assert float(sums[2:, 0].sum()) == pytest.approx(0.25 * 0.4**0.5)


def test_a_cell_that_changes_before_the_release_is_refused(
    selecting: Select, phantoms_as_real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "clinic"
    shutil.copytree(phantoms_as_real, data)
    settings = selecting(data, tmp_path / "run", **TELLING)

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gan.methods.selection.patients_vectors", killed)
    with pytest.raises(KeyboardInterrupt):
        run_train_gan(settings)
    manifest = data / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",MLO,", ",CC,", 1))
    monkeypatch.undo()
    with pytest.raises(InputError, match="its manifest has other rows"):
        run_train_gan(settings)


def test_a_share_for_conditions_that_are_not_there_is_refused(
    selecting: Select, discs_as_real: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match=r"conditions_share: there are no conditions"):
        selecting(discs_as_real, tmp_path / "run", selection={"conditions_share": 0.4})
    with pytest.raises(InputError, match="conditions_share: discs has no column 'view'"):
        plan_train_gan(selecting(discs_as_real, tmp_path / "run", **TELLING))


def test_the_head_of_the_table_decides_whoever_stands_in_it(
    discs_as_real: Path, phantoms_as_real: Path
) -> None:
    for root, refused in ((discs_as_real, True), (phantoms_as_real, False)):
        everybody = open_dataset(root)
        for dataset in (everybody, replace(everybody, rows=())):
            if refused:
                with pytest.raises(InputError, match="no column 'view'"):
                    refuse_missing_conditions(dataset, ("view",))
            else:
                refuse_missing_conditions(dataset, ("view",))
            with pytest.raises(InputError, match="no column 'malignant'"):  # which is a target
                refuse_missing_conditions(dataset, ("malignant",))


def test_a_share_for_conditions_counts_where_noise_would_drown(
    selecting: Select, phantoms_as_real: Path, tmp_path: Path
) -> None:
    enough = []
    for share in (None, 0.9):
        selection = {"conditions_share": share}
        settings = selecting(
            phantoms_as_real, tmp_path / "run", conditions=("view",), selection=selection,
            privacy={"epsilon": 0.05},
        )  # fmt: skip
        with pytest.raises(InputError, match="an epsilon of about") as refused:
            run_train_gan(settings)
        words = str(refused.value)
        enough.append(
            float(words.split("or about ")[1].split(" patients", maxsplit=1)[0].replace(",", ""))
        )
    assert enough[1] == pytest.approx(enough[0] / 0.1**0.5, rel=0.02)


def test_without_shares_every_value_of_the_pool_is_drawn_as_often(
    selecting: Select, discs_as_real: Path, tmp_path: Path
) -> None:
    settings = selecting(discs_as_real, tmp_path / "run", conditions=("view",))
    conditions = gan_plan(settings).conditions
    assert conditions.levels == (("CC", "MLO"),)
    assert [one.share for one in conditions.prior[1]] == [0.5, 0.5]


def test_conditions_that_a_pool_cannot_serve_are_refused(
    selecting: Select, discs_as_real: Path, pool: Path, tmp_path: Path, make_set: MakeSet
) -> None:
    plain = make_set(tmp_path / "plain")  # no column beside the class
    for changes, words in (
        ({"conditions": ("film",)}, "the pool's set phantoms has no column 'film'.*view"),
        ({"conditions": ("view",), "selection": {"pool": [pool, plain]}},
         "the pool's set discs has no column 'view'.*attributes: none"),
        ({"conditions": ("view",), "condition_prior": {"view": {"CC": 1, "LAT": 1}}},
         "no candidate of selection.pool has 'LAT' .they have: CC, MLO"),
        ({"conditions": ("view",), "condition_prior": {"view": {}}}, "names no value"),
        ({"conditions": ("view", "breast_density", "site")},
         "of 8 images of each class, 8 of the 16 combinations of conditions get none"),
        ({"conditions": ("view",), "condition_prior": {"view": {"CC": 1, "MLO": 99}}},
         "1 of the 2 combinations"),
        ({"conditions": ("breast_density",), "condition_prior": {"breast_density": {"4": 1}}},
         r"candidates? ha.* breast_density 4 and malignant \d, and 8 are to be kept of these.*"
         "smaller share in condition_prior"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            plan_train_gan(selecting(discs_as_real, tmp_path / "run", **changes))


def test_settings_that_do_not_fit_are_refused(
    selecting: Select, discs_as_real: Path, tmp_path: Path
) -> None:
    for changes, words in (
        ({"selection": None}, "selection is missing"),
        ({"init": "pretrained:phantoms"}, "trains no network"),
        ({"minutes": 3}, "trains nothing"),
        ({"film": True}, "takes neither film"),
    ):
        values = selecting(discs_as_real, tmp_path / "run").model_dump() | changes
        with pytest.raises(ValidationError, match=words):
            TrainGanSettings.model_validate(values)
