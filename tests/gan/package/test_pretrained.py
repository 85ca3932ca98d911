import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import gan.package.packing
import gan.package.pretrained
from gan.generate import run_generate
from gan.package.conditions import Conditions
from gan.package.description import PhantomBankShape, read_description
from gan.package.kept_phantoms import PhantomBank, quarters
from gan.package.model import load_generator
from gan.package.opened import generator_description, open_generator
from gan.package.packing import package_generator
from gan.package.pretrained import WEIGHTS, known_names, resolve_run
from gan.plans.sets import plan_generate
from gan.settings.finished import GenerateSettings
from gan.settings.train import TrainGanSettings
from synthdp.checkpoint import load_weights
from synthdp.cli import EXIT_DONE, main
from synthdp.config.settings import load_settings
from synthdp.data.dataset import load_images, open_dataset
from synthdp.errors import InputError, RunError
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import make_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.releases.release import Asked, release
from synthdp.storage.files import read_json, write_json

Finished = Callable[[Path], Path]


@pytest.fixture
def packed(
    discs_as_real: Path, finished_run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setattr(resolve_run, "__defaults__", (tmp_path / "data",))
    release(finished_run(discs_as_real), tmp_path / "released", Asked(without_protection=True))
    return package_generator(tmp_path / "released", tmp_path / "data" / "discs")


def test_a_packed_generator_is_float16_and_holds_nothing_private(packed: Path) -> None:
    assert known_names(packed.parent) == ["discs"]
    assert not (packed / "private").exists()
    stored = safetensors.torch.load_file(packed / "model/generator.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    loaded = load_generator(Path("pretrained:discs"), torch.device("cpu"))
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}


def test_its_set_has_the_images_and_the_releases_of_the_run(
    packed: Path, discs_as_real: Path, finished_run: Finished, tmp_path: Path
) -> None:
    run = finished_run(discs_as_real)
    stated, of_run = read_statement(packed, sender=None), read_statement(run)
    assert stated.lineage == of_run.lineage
    # the patients' record, which other tests have added to, stays at home
    promised = ("epsilon", "delta", "unit", "neighbours", "not_covered")
    for name in promised:
        assert getattr(stated, name) == getattr(of_run, name), name
    sets = []
    for name, drawn_from in (("own", run), ("packed", Path("pretrained:discs"))):
        settings = GenerateSettings(run=drawn_from, out=tmp_path / name, per_class=4)
        sets.append(open_dataset(run_generate(settings)))
    own, from_packed = sets
    assert from_packed.info.lineage.releases == own.info.lineage.releases
    difference = load_images(own, own.rows) - load_images(from_packed, from_packed.rows)
    assert abs(difference).max() <= 2 / 255 + 1e-6


def test_a_private_one_leaves_the_right_rest_to_a_classifier(packed: Path, tmp_path: Path) -> None:
    spent = Release(id="ab" * 8, stage="train-gan", data="patients", mu=0.314)
    statement = make_statement(
        read_statement(packed).lineage.model_copy(update={"releases": (spent,)}),
        subject="generator",
        population=600,
    )
    write_json(packed / "privacy.json", statement.model_dump(mode="json"))
    settings = GenerateSettings(run=Path("pretrained:discs"), out=tmp_path / "set", per_class=1)
    assert plan_generate(settings).population == 600
    made = open_dataset(run_generate(settings)).info.lineage
    assert made.releases == (spent,)
    own = Release(stage="finetune", data="patients", mu=1.426)
    total = made.joined([made]).with_release(own)  # a set used twice counts once
    assert total.loss.mu == pytest.approx(1.460, abs=1e-3)


def test_bad_names_and_weights_are_refused(
    packed: Path,
    discs: Path,
    finished_run: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match=r"no generator 'disc' \(known: discs\)"):
        plan_generate(GenerateSettings(run=Path("pretrained:disc"), out=tmp_path, per_class=1))
    with pytest.raises(InputError, match="no generator"):
        resolve_run(Path("pretrained:../data/discs"))
    assert resolve_run(packed) == packed
    with pytest.raises(InputError, match="--release"):
        package_generator(finished_run(discs), tmp_path / "data" / "refused")
    release(finished_run(discs), tmp_path / "free", Asked(without_protection=True))
    monkeypatch.setattr(gan.package.packing, "MAX_ROUNDING", 0.0)
    with pytest.raises(RunError, match="need float32"):
        package_generator(tmp_path / "free", tmp_path / "data" / "refused")
    assert known_names(packed.parent) == ["discs"]
    assert read_json(packed / "status.json")["state"] == "finished"


PACKAGED = {
    "cbis-selected1": 1.0,
    "cbis-selected6": 6.0,
    "mcgan-cbis": math.inf,
    "mcgan-cbis-dp1": 1.0,
    "mcgan-cbis-dp6": 6.0,
    "phantoms": 0.0,
}
#: Bytes of a generator, at most: of networks, and of phantoms that are named and not shown.
MAX_BYTES, MAX_COMPACT_BYTES = 4 * 2**20, 2**16


def test_the_package_holds_these_generators_and_no_others() -> None:
    assert known_names() == list(PACKAGED)


@pytest.mark.parametrize(("name", "epsilon"), PACKAGED.items())
def test_the_package_holds_its_generators(name: str, epsilon: float, tmp_path: Path) -> None:
    folder = gan.package.pretrained.FOLDER / name
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    selected = name.startswith("cbis-selected")
    assert files == {
        "README.md" if selected else "card.md",
        "config.yaml",
        "model/generator.safetensors",
        "model/settings.json",
        "privacy.json",
        "status.json",
    }
    size = sum((folder / file).stat().st_size for file in files)
    assert size < (MAX_COMPACT_BYTES if selected else MAX_BYTES)
    settings = GenerateSettings(run=Path(f"pretrained:{name}"), out=tmp_path / "set", per_class=8)
    assert plan_generate(settings).epsilon == pytest.approx(epsilon, rel=2e-3)
    images = load_images(made := open_dataset(run_generate(settings)), made.rows)
    assert images.shape == (16, 1, 128, 128)
    assert images.std(axis=0).mean() > 0.1  # no image is like another
    assert images.std(axis=(1, 2, 3)).min() > 0.005  # and none is blank


SELECTED = ["cbis-selected1", "cbis-selected6"]


def named_phantoms(name: str) -> set[tuple[int, ...]]:
    """Pool, patient and patch of all that a packaged generator keeps."""
    kept = load_weights(gan.package.pretrained.FOLDER / name / WEIGHTS)
    named = torch.stack([kept[key].long() for key in ("pools", "patients", "patches")], dim=-1)
    return {tuple(row) for row in named.reshape(-1, 3).tolist()}


@pytest.mark.parametrize("name", SELECTED)
def test_selected_phantoms_are_drawn_again(name: str) -> None:
    """A few, from both ends and the middle: next to what was kept, whatever processor draws."""
    folder = gan.package.pretrained.FOLDER / name
    shape = read_description(folder).shape
    assert isinstance(shape, PhantomBankShape)
    pools = [(pool.style, pool.patients, pool.seed) for pool in shape.pools]
    assert pools == [("fibrous", 5000, 21), ("varied", 5000, 21)]
    bank = load_generator(folder, torch.device("cpu"))
    assert isinstance(bank, PhantomBank)
    labels, places = torch.arange(6) % 2, torch.tensor([0, 0, 700, 701, 1499, 1499])
    drawn = [quarters(image.numpy()) for image in bank.kept(labels, places)]
    kept = load_weights(folder / WEIGHTS)["quarters"][labels, places].numpy()
    assert abs(np.array(drawn).astype(int) - kept).max() <= 1


def test_what_was_selected_is_not_what_chance_selects() -> None:
    """Each phantom is kept once, and two releases of the same patients keep much the same."""
    first, second = map(named_phantoms, SELECTED)
    assert len(first) == len(second) == 3000
    assert len(first & second) > 4 * 3000 * 3000 / 18_800


def test_a_classifier_at_6_keeps_what_the_generator_at_1_leaves() -> None:
    spent = read_statement(gan.package.pretrained.FOLDER / "cbis-selected1").lineage.loss
    left = Mechanism.reaching(epsilon=6, delta=1e-4, steps=1, normaliser=600, before=spent)
    assert left.mu == pytest.approx(1.426, abs=2e-3)


def test_generators_of_the_package_state_what_they_promise_jointly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    private = ["pretrained:cbis-selected1", "pretrained:cbis-selected6"]
    assert main(["privacy", private[1]]) == EXIT_DONE
    text = capsys.readouterr().out
    assert "epsilon = 6 for each patient" in text
    joint = "the private generators that come with synthdp:** 3 other releases; together epsilon "
    assert f"{joint}9.51 at delta 0.0001" in text
    assert "all generators that come with synthdp:** 5 other releases; together epsilon inf" in text
    assert "rests on the authors of synthdp" in text
    assert main(["privacy", *private]) == EXIT_DONE
    assert "epsilon = 6.17 for each patient" in capsys.readouterr().out
    assert "together epsilon 9.51" in statement_text(
        plan_generate(GenerateSettings(run=Path(private[1]), out=Path("unused"), per_class=1))
    )


CONFIGS = Path(__file__).parents[3] / "configs" / "gan"


@pytest.mark.parametrize(
    "config", ["cbis-ddsm-dp", "cbis-ddsm-dp-discriminator", "demo", "own-private-embedding"]
)
def test_recipes_start_from_the_packaged_phantoms(config: str) -> None:
    settings = load_settings(TrainGanSettings, CONFIGS / f"{config}.yaml")
    assert settings.init == Path("pretrained:phantoms")
    assert generator_description(settings.init).shape == settings.shape(Conditions())


def test_the_generator_of_phantoms_touches_no_patient() -> None:
    statement = open_generator(Path("pretrained:phantoms")).statement
    assert statement.epsilon == 0
    assert statement.lineage.releases == ()
    assert statement.on_record == ()
