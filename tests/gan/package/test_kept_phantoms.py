"""A bank of phantoms that holds which ones they are: what is drawn again is what was kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from gan.export import run_export
from gan.generate import run_generate
from gan.library.exported import run_export_model
from gan.library.generator import Generator
from gan.network.bank import Bank
from gan.network.medigan import generate
from gan.package import kept_phantoms
from gan.package.conditions import Combination, Conditions
from gan.package.description import (
    DESCRIPTION,
    BankShape,
    Description,
    HaarShape,
    PhantomBankShape,
    PhantomPool,
    read_description,
)
from gan.package.kept_phantoms import KeptPhantoms, PhantomBank, quarters
from gan.package.model import load_generator, write_generator
from gan.package.networks import build_generator
from gan.package.packing import package_generator
from gan.package.pretrained import WEIGHTS, resolve_run
from gan.plans.sets import plan_generate
from gan.settings.finished import ExportSettings, GenerateSettings
from synthdp.checkpoint import load_weights, save_weights
from synthdp.cli import EXIT_DONE, main
from synthdp.config.settings import Settings
from synthdp.data.dataset import load_images, open_dataset
from synthdp.data.phantoms import phantoms
from synthdp.data.phantoms.phantoms import Patient, draw_patient, drawn_masses, run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.networks.exported.settings import ExportModelSettings
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import make_statement
from synthdp.releases.release import Asked, release
from synthdp.runs.cards import model_card
from synthdp.runs.folder import open_run
from synthdp.runs.inputs import read_inputs, write_inputs
from synthdp.storage.files import read_json, write_json

CPU = torch.device("cpu")
IMAGES = 6
LEARNED = Release(id="ab" * 8, stage="train-gan", data="patients", mu=0.3)
STATEMENT = make_statement(Lineage(releases=(LEARNED,)), subject="generator", population=600)
CARD = model_card(title="A generator", summary="It draws.", statement=STATEMENT, settings={})
NONE = Conditions()
VIEWS = Conditions(
    names=("view",),
    levels=(("CC", "MLO"),),
    prior=2 * ((Combination(codes=(1,), share=0.5), Combination(codes=(2,), share=0.5)),),
)


def phantom_set(out: Path, **changes: Any) -> Path:
    values = {"out": out, "patients": 14, "size_px": 32, "malignant_fraction": 0.5, **changes}
    return run_phantoms(PhantomSettings.model_validate(values))


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("pools")
    return [
        phantom_set(root / "fibrous", seed=3),
        phantom_set(root / "mixed", seed=4, style="mixed", site_shift=0.5),
    ]


def kept_of(pools: list[Path], conditions: Conditions = NONE) -> NDArray[np.uint8]:
    """Six images of either class, taken from all over the pools; with views three of each."""
    kept: dict[tuple[int, str], list[NDArray[np.uint8]]] = {}
    for path in pools:
        dataset = open_dataset(path)
        greys = np.rint((load_images(dataset, dataset.rows)[:, 0] + 1) * 127.5).astype(np.uint8)
        for row, grey in list(zip(dataset.rows, greys, strict=True))[::-1]:
            view = row.attributes["view"] if conditions.names else ""
            kept.setdefault((int(row.targets[0]), view), []).append(grey)
    views, share = (("CC", "MLO"), 3) if conditions.names else (("",), IMAGES)
    chosen = [
        [image for view in views for image in _spread(kept[label, view], share)] for label in (0, 1)
    ]
    return np.array(chosen)


def _spread(images: list[NDArray[np.uint8]], count: int) -> list[NDArray[np.uint8]]:
    return images[:: len(images) // count][:count]


def bank_run(
    folder: Path,
    pools: list[Path],
    conditions: Conditions = NONE,
    kept: NDArray[np.uint8] | None = None,
) -> Path:
    """A finished run of `method: selection` that kept images of some pools."""
    with open_run(folder, "train-gan", Settings()) as run:
        shape = BankShape(size_px=32, images=IMAGES, conditions=conditions)
        images = torch.from_numpy(kept_of(pools, conditions) if kept is None else kept)
        write_generator(run.path, {"images": images}, Description(shape, "malignant", "patients"))
        named = {f"selection.pool.{number}": path for number, path in enumerate(pools)}
        write_inputs(run.path, read_inputs(named))
        run.finish(STATEMENT, CARD)
    return folder


@pytest.fixture(scope="module")
def run(pools: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bank_run(tmp_path_factory.mktemp("run") / "gan", pools)


@pytest.fixture(scope="module")
def compact(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("released") / "gan"
    assert main(["privacy", "--release", str(run), str(out), "--compact"]) == EXIT_DONE
    return out


@pytest.fixture
def undrawn() -> None:
    """As in a process that has drawn nothing yet."""
    kept_phantoms.read_kept.cache_clear()


@pytest.mark.parametrize("changes", [{}, {"style": "mixed", "site_shift": 0.5}, {"seed": 9}])
def test_a_set_says_by_which_settings_it_was_drawn(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = PhantomSettings(out=tmp_path / "set", patients=2, size_px=16, **changes)
    said = drawn_masses(open_dataset(run_phantoms(settings)).info)
    assert said == settings.model_copy(update={"out": Path("unused")})
    for other in ({"as_real": True}, {"subject": "chest"}):
        values = {"out": tmp_path / str(other), "patients": 2, "size_px": 32, **other}
        made = run_phantoms(PhantomSettings.model_validate(values))
        assert drawn_masses(open_dataset(made).info) is None


def test_the_first_patches_of_a_patient_are_those_of_all() -> None:
    settings = PhantomSettings(out=Path("unused"), size_px=16, seed=2)
    whole = next(p for i in range(40) if len((p := draw_patient(settings, i)).patches) > 2)
    some = draw_patient(settings, int(whole.patient_id[-6:]) - 1, patches=2)
    pairs = zip(some.patches, whole.patches[:2], strict=True)
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in pairs)


def test_what_leaves_is_small_and_promises_the_same(run: Path, compact: Path) -> None:
    shape = read_description(compact).shape
    assert isinstance(shape, PhantomBankShape)
    assert [pool.style for pool in shape.pools] == ["fibrous", "mixed"]
    file = compact / "model" / "generator.safetensors"
    assert file.stat().st_size < 2000
    assert load_weights(file)["patients"].max() > 7  # from all over the pools
    own, left = read_statement(run), read_statement(compact, sender=None)
    assert (left.epsilon, left.lineage) == (own.epsilon, own.lineage)
    assert main(["privacy", "--check", str(compact)]) == EXIT_DONE


@pytest.mark.usefixtures("undrawn")
def test_what_is_drawn_again_is_what_was_kept_to_the_bit(run: Path, compact: Path) -> None:
    drawn = load_generator(compact, CPU)
    assert isinstance(drawn, PhantomBank)
    assert torch.equal(drawn.whole().images, load_weights(run / WEIGHTS)["images"])
    series = [Generator.load(one, device="cpu").sample(17, seed=5) for one in (run, compact)]
    assert np.array_equal(series[0].images, series[1].images)


@pytest.mark.usefixtures("undrawn")
def test_only_what_is_asked_for_is_drawn_and_once(
    compact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()

    def counting(settings: PhantomSettings, index: int, **options: Any) -> Patient:
        asked.append(index)
        return draw_patient(settings, index, **options)

    monkeypatch.setattr(phantoms, "draw_patient", counting)
    settings = GenerateSettings(run=compact, out=tmp_path / "set", per_class=1)
    plan_generate(settings)
    assert not asked
    run_generate(settings)
    assert 1 <= len(asked) <= 2
    Generator.load(compact, device="cpu").sample(40)
    drawn = len(asked)
    assert 2 < drawn <= 2 * IMAGES
    Generator.load(compact, device="cpu").sample(40, seed=1)
    assert len(asked) == drawn  # this process has them


def test_conditions_are_drawn_as_from_the_bank_itself(pools: list[Path], tmp_path: Path) -> None:
    run = bank_run(tmp_path / "run", pools, VIEWS)
    release(run, tmp_path / "compact", Asked(compact=True))
    for asked in ({}, {"view": "MLO"}):
        own, drawn = (
            Generator.load(one, device="cpu").sample(9, conditions=asked)
            for one in (run, tmp_path / "compact")
        )
        assert np.array_equal(own.images, drawn.images)
        assert own.conditions["view"].tolist() == drawn.conditions["view"].tolist()


def test_it_leaves_as_a_package_and_as_one_file(run: Path, compact: Path, tmp_path: Path) -> None:
    release(run, tmp_path / "whole")
    pairs = []
    for source in (compact, tmp_path / "whole"):
        out = run_export(ExportSettings(run=source, out=tmp_path / f"package-{source.name}"))
        drawn = generate(next(out.rglob("weights.pt")), 6, tmp_path, False, seed=1)
        assert drawn is not None
        pairs.append(drawn)
    for (one, its_word), (other, word) in zip(*pairs, strict=True):
        assert np.array_equal(one, other)
        assert its_word == word
    asked = ExportModelSettings(run=compact, out=tmp_path / "file", format="torch-export")
    assert (run_export_model(asked) / "model.pt2").is_file()


def test_it_can_come_with_the_package(
    compact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_generator(compact, tmp_path / "data" / "kept")
    monkeypatch.setattr(resolve_run, "__defaults__", (tmp_path / "data",))
    own, packed = (
        Generator.load(one, device="cpu").sample(4) for one in (compact, "pretrained:kept")
    )
    assert np.array_equal(own.images, packed.images)
    card = (tmp_path / "data" / "kept" / "README.md").read_text()
    assert "synthdp generate pretrained:kept" in card
    assert "release.json" not in card


def test_truncation_is_refused(compact: Path, tmp_path: Path) -> None:
    settings = GenerateSettings(run=compact, out=tmp_path / "set", per_class=1, truncation=0.5)
    with pytest.raises(InputError, match="no styles"):
        plan_generate(settings)


@pytest.mark.usefixtures("undrawn")
def test_a_last_grey_level_is_let_pass_and_other_images_are_not(
    compact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As other versions of numpy and scipy may draw them."""

    def drawing(change: int, seed: int = 0) -> None:
        def draw(settings: PhantomSettings, index: int, **options: Any) -> Patient:
            settings = settings.model_copy(update={"seed": settings.seed + seed})
            patient = draw_patient(settings, index, **options)
            for patch in patient.patches:
                patch.pixels[...] = patch.pixels.clip(1, 254) + change
            return patient

        monkeypatch.setattr(phantoms, "draw_patient", draw)
        kept_phantoms.read_kept.cache_clear()

    drawing(1)
    rounded = Generator.load(compact, device="cpu").sample(40)
    drawing(0, seed=1)
    with pytest.raises(InputError, match=r"of \d+ phantoms .* other images .* status.json names"):
        Generator.load(compact, device="cpu").sample(40)
    monkeypatch.undo()
    kept_phantoms.read_kept.cache_clear()
    exact = Generator.load(compact, device="cpu").sample(40)
    assert 0 < abs(rounded.images - exact.images).max() <= 2.5 / 255


def test_two_phantoms_differ_by_far_more_than_is_let_pass(pools: list[Path]) -> None:
    of_each = np.array([[quarters(image) for image in own] for own in kept_of(pools)]).astype(int)
    flat = of_each.reshape(2 * IMAGES, 4)
    apart = abs(flat[:, None] - flat[None]).mean(axis=2)[np.triu_indices(2 * IMAGES, 1)]
    assert np.median(apart) > 4 * kept_phantoms.MAX_QUARTER_DIFFERENCE


def test_what_can_not_be_drawn_again_is_refused(
    pools: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(compact=True)
    smaller = phantom_set(tmp_path / "smaller", size_px=16)
    for name, made, words in (
        ("other", bank_run(tmp_path / "other", pools[:1], kept=kept_of(pools)), "holds . of"),
        ("side", bank_run(tmp_path / "side", [smaller], kept=kept_of(pools)), "no set of mass"),
        ("no-pool", bank_run(tmp_path / "no-pool", [], kept=kept_of(pools)), "bring it back"),
    ):
        with pytest.raises(InputError, match=words):
            release(made, tmp_path / f"from-{name}", asked)
        assert not (tmp_path / f"from-{name}").exists()
    with pytest.raises(InputError, match="--compact: goes with the run of a generator"):
        release(pools[0], tmp_path / "from-set", asked)
    shape = HaarShape(size_px=32, channels=(8, 8, 8), z_dim=4, haar_levels=1)
    with open_run(tmp_path / "network", "train-gan", Settings()) as run:
        described = Description(shape, "malignant", "patients")
        write_generator(run.path, build_generator(shape).state_dict(), described)
        run.finish(STATEMENT, CARD)
    with pytest.raises(InputError, match="keeps no images"):
        release(tmp_path / "network", tmp_path / "from-network", asked)

    def otherwise(settings: PhantomSettings, index: int, **options: Any) -> Patient:
        patient = draw_patient(settings, index, **options)
        patient.patches[0].pixels[0, 0] ^= 1
        return patient

    monkeypatch.setattr(phantoms, "draw_patient", otherwise)
    with pytest.raises(InputError, match=r"draws .* of the generator's images otherwise"):
        release(bank_run(tmp_path / "drawn", pools), tmp_path / "from-drawn", asked)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("patients", 14, "that its pools don't have"),
        ("patients", -1, "that its pools don't have"),
        ("pools", 2, "that its pools don't have"),
    ],
)
def test_a_damaged_file_is_refused(
    compact: Path, tmp_path: Path, name: str, value: int, words: str
) -> None:
    kept = load_weights(compact / WEIGHTS)
    kept[name][0, 0] = value
    save_weights(tmp_path / WEIGHTS, kept)
    write_json(tmp_path / DESCRIPTION, read_json(compact / DESCRIPTION))
    with pytest.raises(InputError, match=words):
        load_generator(tmp_path, CPU)
    save_weights(tmp_path / WEIGHTS, {**kept, "quarters": kept["quarters"][:1]})
    with pytest.raises(InputError, match="does not fit"):
        load_generator(tmp_path, CPU)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"style": "cubist"}, "style"), ({"patients": 0}, "patients"), ({"film": 1}, "film")],
)
def test_pools_that_nobody_draws_are_refused(
    compact: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    content = read_json(compact / DESCRIPTION)
    content["pools"][0] |= changes
    write_json(tmp_path / DESCRIPTION, content)
    with pytest.raises(InputError, match=words):
        read_description(tmp_path)


def test_the_whole_bank_is_a_plain_one(compact: Path) -> None:
    bank = load_generator(compact, CPU)
    assert isinstance(bank, PhantomBank)
    assert type(bank.whole()) is Bank
    assert bank.state_dict() == {}


def test_what_is_not_drawn_takes_no_memory(pools: list[Path]) -> None:
    """A small file may speak of more images than a machine holds."""
    largest = 0

    class Watched(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if function is torch.zeros and result.device == CPU:
                largest = max(largest, result.numel())
            return result

    settings = drawn_masses(open_dataset(pools[0]).info)
    assert settings is not None
    shape = PhantomBankShape(size_px=64, images=100, pools=(PhantomPool.of(settings),))
    kept = {name: torch.zeros(sides, dtype=torch.uint8) for name, sides in shape.tensors.items()}
    with Watched():
        bank = PhantomBank(shape, KeptPhantoms(shape, kept, "a file"))
    assert largest < 64 * 64
    assert bank.device == CPU
