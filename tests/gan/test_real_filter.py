import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import give_even_key

from gan.config import GenerateSettings, TrainGanSettings
from gan.generate import plan_generate, run_generate
from gan.real_filter import drawn_for, nearest_places
from gan.train import run_train_gan
from synthdp.checkpoint import save_weights
from synthdp.config import BackboneSettings
from synthdp.data.dataset import load_images, open_dataset
from synthdp.errors import InputError
from synthdp.files import sha256_file, write_json
from synthdp.networks.frozen import build_extractor
from synthdp.privacy.ledger import recorded_releases
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.statement import make_statement
from synthdp.release import release

Finished = Callable[[Path], Path]
MakeSet = Callable[..., Path]
TinySettings = Callable[..., TrainGanSettings]
RANDOM = BackboneSettings(name="test_vit", size_px=32)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> BackboneSettings:
    weights = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_weights(weights, build_extractor(RANDOM, seed=1).network.state_dict())
    changes = {"weights": weights, "sha256": sha256_file(weights)}
    return RANDOM.model_copy(update=changes)


def asked(
    run: Path, out: Path, real: Path, features: BackboneSettings, **changes: object
) -> GenerateSettings:
    values = {"per_class": 6, "filter_share": 0.5, "filter_neighbours": 2, **changes}
    values |= {"run": run, "out": out, "filter_real": real, "filter_features": features}
    return GenerateSettings.model_validate(values)


def test_the_far_images_of_each_class_are_dropped(
    discs_as_real: Path, finished_run: Finished, features: BackboneSettings, tmp_path: Path
) -> None:
    run = finished_run(discs_as_real)
    settings = asked(run, tmp_path / "set", discs_as_real, features)
    made = open_dataset(run_generate(settings))
    every = open_dataset(
        run_generate(GenerateSettings(run=run, out=tmp_path / "all", per_class=drawn_for(6, 0.5)))
    )
    assert [row.targets[0] for row in made.rows].count(1.0) == 6
    images, candidates = (load_images(one, one.rows)[:, 0] for one in (made, every))
    kept = [int(np.abs(candidates - image).max(axis=(1, 2)).argmin()) for image in images]
    assert kept == sorted(kept)
    assert len(set(kept)) == 12
    extractor = build_extractor(features)
    patients = open_dataset(discs_as_real)
    real = extractor(torch.from_numpy(load_images(patients, patients.split("train"))))
    drawn = extractor(torch.from_numpy(candidates[:, None]))
    distances = torch.cdist(drawn, real).sort(dim=1).values[:, 1].numpy()
    for label in (0, 1):
        places = [place for place, row in enumerate(every.rows) if row.targets[0] == label]
        inside = [distances[place] for place in places if place in kept]
        outside = [distances[place] for place in places if place not in kept]
        assert max(inside) < min(outside) + 1e-3


def test_the_lineage_and_the_ledger_name_the_patients_again(
    discs_as_real: Path, finished_run: Finished, features: BackboneSettings, tmp_path: Path
) -> None:
    settings = asked(finished_run(discs_as_real), tmp_path / "set", discs_as_real, features)
    statement = plan_generate(settings)
    assert [one.stage for one in statement.lineage.releases] == ["train-gan", "generate"]
    assert all(one.data == "discs" for one in statement.lineage.unprotected)
    made = open_dataset(run_generate(settings))
    assert made.info.lineage == statement.lineage
    own = made.info.lineage.releases[1]
    patients = open_dataset(discs_as_real)
    assert own in recorded_releases(patients.ledger_path)
    assert run_generate(settings) == made.root  # the same release again, not another one
    assert sum(one.stage == "generate" for one in recorded_releases(patients.ledger_path)) == 1
    assert "filter: of each class, the 50 % least like" in (made.root / "card.md").read_text()


def with_statement(run: Path, out: Path, *releases: Release) -> Path:
    """A copy of a run's public part, of another lineage."""
    release(run, out)
    statement = make_statement(Lineage(releases=releases), subject="generator")
    write_json(out / "privacy.json", statement.model_dump(mode="json"))
    return out


def test_a_promise_to_these_patients_is_not_broken(
    discs: Path,
    discs_as_real: Path,
    finished_run: Finished,
    features: BackboneSettings,
    tmp_path: Path,
) -> None:
    run = finished_run(discs)
    finite = Release(stage="train-gan", data="discs", mu=0.5)
    strangers = Release(stage="train-gan", data="another hospital", mu=float("inf"))
    for name, releases, epsilon in (
        ("finite", (finite,), r"1\.69|1\.\d+"),
        ("free", (), "0"),
        ("strangers", (strangers,), "0"),
    ):
        other = with_statement(run, tmp_path / name, *releases)
        with pytest.raises(InputError, match=rf"keeps a promise to them \(epsilon ({epsilon})\)"):
            run_generate(asked(other, tmp_path / "set", discs_as_real, features))
    assert not (tmp_path / "set").exists()


def test_comparing_with_phantoms_costs_nothing(
    discs: Path, finished_run: Finished, features: BackboneSettings, tmp_path: Path
) -> None:
    settings = asked(finished_run(discs), tmp_path / "set", discs, features)
    assert plan_generate(settings).lineage.releases == ()
    assert len(open_dataset(run_generate(settings)).rows) == 12


def test_only_the_cohort_that_the_generator_saw_is_read(
    make_set: MakeSet, tiny_settings: TinySettings, features: BackboneSettings, tmp_path: Path
) -> None:
    data = give_even_key(make_set(tmp_path / "patients", as_real=True))
    run = run_train_gan(tiny_settings(data, tmp_path / "run", cohort="1/2", kimg=0.016))
    settings = asked(run, tmp_path / "set", data, features)
    first, again = plan_generate(settings).lineage.releases
    assert again.cohort == first.cohort
    assert again.cohort is not None
    run_generate(settings)
    cached = list((data / "private" / "features").glob("*.safetensors"))
    (seen,) = [n for path in cached for n in [safetensors_rows(path)]]
    assert 0 < seen < 12
    moved = Path(shutil.copytree(data, tmp_path / "moved"))
    (moved / "private" / "key").write_bytes(b"k" * 32)
    with pytest.raises(InputError, match="has another key"):
        plan_generate(asked(run, tmp_path / "other", moved, features))


def safetensors_rows(path: Path) -> int:
    from safetensors.numpy import load_file  # noqa: PLC0415

    return len(load_file(path)["values"])


def test_ties_and_counts() -> None:
    labels = torch.tensor([0, 1, 0, 1, 0])
    distances = torch.tensor([3.0, 1.0, 1.0, 1.0, 2.0])
    assert nearest_places(distances, labels, (2, 1)).tolist() == [1, 2, 4]
    assert (drawn_for(95, 0.05), drawn_for(96, 0.05), drawn_for(1, 0.5)) == (100, 102, 2)


def test_too_few_images_are_refused(
    discs: Path, finished_run: Finished, features: BackboneSettings, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="fewer images to compare with"):
        plan_generate(
            asked(finished_run(discs), tmp_path / "s", discs, features, filter_neighbours=13)
        )
