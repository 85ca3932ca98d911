"""Neighbours end alike: no private stage stops, or prints, because of what one patient is.

One patient is the only one of a class, has no label, gives features that are no numbers, is one
more than was declared, or is the only one at all. With and without that patient a stage ends the
same way, prints the same lines, leaves the same files and writes the same lines into its ledger.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_up import random_run
from numpy.typing import NDArray

from classify.calibrate import run_calibrate
from classify.evaluate import run_evaluate
from classify.finetune import run_finetune
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import CalibrateSettings, EvaluateSettings
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training import examples as gan_examples
from synthdp.data.budget import change_budget
from synthdp.data.dataset import load_images as true_images
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.networks import cache
from synthdp.privacy.promise.plan import PrivacyPlan, record_of
from synthdp.storage.kept_digests import KeptDigests

BACKBONE = {"name": "test_vit", "size_px": 32}
KEY = bytes(range(32))
OTHERS = 7
PRIVACY = {"epsilon": 6, "delta": 1e-3, "population": 50, "noise": "philox"}


@dataclass(frozen=True)
class Special:
    """The patient who is there or not, and who else is.

    label: of the patient's images; white: whether they are, which stands for features that are no
    numbers; others: how many other patients there are, all benign; population: as declared.
    """

    label: float
    white: bool = False
    others: int = OTHERS
    population: int = 50


SPECIALS = {
    "only one of a class": Special(1),
    "unlabelled": Special(math.nan),
    "not finite": Special(0, white=True),
    "one more than declared": Special(0, population=OTHERS),
    "the only one of train": Special(1, others=0),
}


def make_clinic(out: Path, special: Special, *, there: bool) -> Path:
    """Benign patients of one to two images, and the special one at the end when `there`."""
    generator = np.random.default_rng(0)
    with create_dataset(out, DatasetInfo(name="clinic", kind="real", size_px=32)) as writer:
        writer.keep_key("key", KEY)

        def add(pixels: NDArray[np.uint8], patient: str, split: str, label: float) -> None:
            writer.add(
                pixels,
                patient_id=patient,
                split=split,
                targets=[label],
                attributes={"site": "A"},
            )

        def noise() -> NDArray[np.uint8]:
            return generator.integers(0, 200, (32, 32)).astype(np.uint8)

        add(noise(), "nobody-trains-on", "external", 0)
        for patient in range(special.others):
            for _ in range(1 + patient % 2):
                add(noise(), f"other-{patient}", "train", 0)
        if there:
            picture = np.full((32, 32), 255, np.uint8) if special.white else noise()
            add(picture, "special", "train", special.label)
    return out


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("public") / "phantoms"
    return run_phantoms(PhantomSettings(out=out, patients=12, size_px=32, name="phantoms"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_run(tmp_path_factory.mktemp("public") / "classifier")


@pytest.fixture
def world(phantoms: Path, classifier: Path) -> "World":
    return World(phantoms, classifier)


@pytest.fixture(autouse=True)
def white_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """What networks see of a white image is no number."""

    def images(*arguments: object, **named: object) -> NDArray[np.float32]:
        pixels: NDArray[np.float32] = true_images(*arguments, **named)  # type: ignore[arg-type]
        pixels[(pixels == 1).all(axis=(1, 2, 3))] = math.nan
        return pixels

    monkeypatch.setattr(cache, "load_images", images)
    monkeypatch.setattr(gan_examples, "load_images", images)


@pytest.fixture(autouse=True)
def nothing_is_said_of_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A selection says when noise hid the patients: of its release alone, each time another."""
    monkeypatch.setattr("gan.methods.selection.LEAST_Z", -math.inf)


@dataclass(frozen=True)
class World:
    """The public things that a stage is given beside the patients."""

    phantoms: Path
    classifier: Path


def finetune(changes: dict[str, object], world: World, data: Path, out: Path, people: int) -> Path:
    privacy = {**PRIVACY, "population": people}
    values = {"data": data, "out": out, "privacy": privacy, "backbone": BACKBONE, **changes}
    return run_finetune(FinetuneSettings.model_validate(values))


def calibrate(world: World, data: Path, out: Path, people: int) -> Path:
    privacy = {**PRIVACY, "population": people}
    return run_calibrate(
        CalibrateSettings(run=world.classifier, data=data, split="train", out=out, privacy=privacy)
    )


def evaluate(world: World, data: Path, out: Path, people: int) -> Path:
    return run_evaluate(
        EvaluateSettings(
            run=world.classifier,
            dataset=data,
            split="train",
            out=out,
            redraws=10,
            by={"attributes": {"site": None}},
            auroc_epsilon=6,
            auroc_delta=1e-3,
            population=people,
        )
    )


def train_gan(changes: dict[str, object], world: World, data: Path, out: Path, people: int) -> Path:
    tiny = {"size_px": 32, "channels": (8, 8, 8), "z_dim": 8, "batch": 8, "kimg": 0.02}
    values = {
        "data": data,
        "out": out,
        "privacy": {**PRIVACY, "population": people},
        **tiny,
        **changes,
    }
    if changes["method"] == "embedding":
        values["embedding"] = {
            "features": {"name": "test_efficientnet", "size_px": 32},
            "public": world.phantoms,
        }
    if changes["method"] == "selection":  # more noise would be refused, for any patients
        values["privacy"] = {**PRIVACY, "epsilon": 30, "population": people}
        values["selection"] = {
            "features": {"name": "test_efficientnet", "size_px": 32},
            "tokens": BACKBONE,
            "pool": world.phantoms,
            "images": 2,
            "components": 4,
            **({"conditions_share": 0.4} if changes.get("conditions") else {}),
        }
    return run_train_gan(TrainGanSettings.model_validate(values))


DISCRIMINATOR = {
    "method": "dp_discriminator",
    "loss": "non_saturating",
    "dp_discriminator": {"steps": 4, "sampling_rate": 0.9, "channels": (8, 8, 8), "fakes": 8,
                         "head_start": 0, "discriminator_steps_per_generator_step": 2},
}  # fmt: skip
NETWORK = {"trainable_blocks": 1, "steps": 4, "sampling_rate": 0.9, "block_steps": 2}
STAGES: dict[str, Callable[[World, Path, Path, int], Path]] = {
    "a head": partial(finetune, {"head": {"steps": 4, "views": 2}}),
    "a head with a hidden layer": partial(
        finetune, {"head": {"kind": "mlp", "hidden": 4, "steps": 4, "lr_times_steps": 1}}
    ),
    "a head on samples of a site": partial(
        finetune,
        {"head": {"steps": 4, "sampling_rate": 0.9}, "where": {"site": "A"}, "cohort": "1/1"},
    ),
    "a network": partial(finetune, {"network": {**NETWORK, "views": 2}}),
    "low-rank additions": partial(
        finetune, {"network": {**NETWORK, "tune": "lora", "lora_rank": 2}}
    ),
    "calibration": calibrate,
    "a noisy AUROC": evaluate,
    "an embedding": partial(train_gan, {"method": "embedding"}),
    "a selection": partial(train_gan, {"method": "selection"}),
    "a selection told of sites": partial(
        train_gan, {"method": "selection", "conditions": ("site",)}
    ),
    "a private discriminator": partial(train_gan, DISCRIMINATOR),
}


@dataclass(frozen=True)
class Ending:
    """All that can be seen of a stage without opening what is private.

    error: in words, of a refusal; printed: on both streams; files: names of those that it made;
    ledger: its events, and the steps that they count.
    """

    error: str
    printed: tuple[str, str]
    files: frozenset[str]
    ledger: tuple[str, ...]


def ending(
    stage: Callable[[World, Path, Path, int], Path],
    world: World,
    folder: Path,
    special: Special,
    capfd: pytest.CaptureFixture[str],
    *,
    there: bool,
) -> Ending:
    data, out = make_clinic(folder / "clinic", special, there=there), folder / "run"
    capfd.readouterr()
    error = ""
    try:
        stage(world, data, out, special.population)
    except Exception as refused:
        error = f"{type(refused).__name__}: {refused}".replace(str(folder), "")
    printed = capfd.readouterr()
    ledger = out / "private" / "ledger.jsonl"
    lines = ledger.read_text().splitlines() if ledger.is_file() else []
    return Ending(
        error=error,
        printed=(printed.out, printed.err),
        files=frozenset(
            path.relative_to(out).as_posix()
            for path in out.rglob("*")
            if path.is_file() and "private" not in path.parts and path.name != "fairness.json"
        ),
        ledger=tuple(_steps(line) for line in lines),
    )


def _steps(line: str) -> str:
    content = json.loads(line)
    return " ".join(str(content.get(key)) for key in ("event", "first", "steps", "block_steps"))


@pytest.mark.parametrize("special", SPECIALS)
@pytest.mark.parametrize("stage", STAGES)
def test_neighbours_end_alike(
    stage: str, special: str, tmp_path: Path, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    ends = [
        ending(STAGES[stage], world, tmp_path / str(there), SPECIALS[special], capfd, there=there)
        for there in (True, False)
    ]
    assert ends[0] == ends[1]
    assert ends[0].error == ""
    assert ends[0].files


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_beyond_the_budget_is_refused_before_an_image_is_opened(
    stage: str, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_clinic(tmp_path / "clinic", Special(1), there=True)
    change_budget(data, epsilon="1", delta=1e-3, because="tried")

    def digests(*_: object, **__: object) -> list[bytes]:
        raise AssertionError("image files are read for their digests")

    monkeypatch.setattr(KeptDigests, "of", digests)
    for image in (data / "images").iterdir():
        image.write_bytes(b"")
    with pytest.raises(InputError, match=r"clinic: its privacy\.budget is epsilon 1 at"):
        STAGES[stage](world, data, tmp_path / "run", 50)
    assert record_of(open_dataset(data)).releases == ()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["a head", "calibration", "a noisy AUROC", "an embedding"])
def test_a_run_goes_on_that_its_record_refused_before_the_budget_was_raised(
    stage: str, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release may be on record between the question and the claim."""
    data, out = make_clinic(tmp_path / "clinic", Special(1), there=True), tmp_path / "run"
    change_budget(data, epsilon="1", delta=1e-3, because="tried")
    with monkeypatch.context() as then:
        then.setattr(PrivacyPlan, "refuse_overspent", lambda *_: None)
        with pytest.raises(InputError, match="budget is epsilon 1 at"):
            STAGES[stage](world, data, out, 50)
    record = record_of(open_dataset(data))
    assert record.releases == ()
    change_budget(data, epsilon="6.1", delta=None, because="agreed")
    for _ in range(2):
        STAGES[stage](world, data, out, 50)
        assert len(record.releases) == 1


def test_what_is_not_refused_is_counted_for_the_owner_alone(tmp_path: Path) -> None:
    special = Special(math.nan, population=OTHERS)
    data, out = make_clinic(tmp_path / "clinic", special, there=True), tmp_path / "run"
    finetune({"head": {"steps": 4}}, World(out, out), data, out, special.population)
    counted = json.loads((out / "private" / "unrefused.json").read_text())
    assert counted == {"images_without_label": 1, "units_beyond_population": 1}


def test_an_import_of_more_than_its_population_makes_no_set(tmp_path: Path) -> None:
    info = DatasetInfo(name="clinic", kind="real", size_px=32, population=2)

    def made(out: Path, n_patients: int) -> Path:
        with create_dataset(out, info) as writer:
            for patient in range(n_patients):
                pixels = np.zeros((32, 32), np.uint8)
                writer.add(pixels, patient_id=f"p{patient}", split="train", targets=[0])
            writer.add(pixels, patient_id="other", split="val", targets=[0])
        return out

    with pytest.raises(InputError, match="population is 2, but train holds more patients") as told:
        made(tmp_path / "three", 3)
    assert "3" not in str(told.value)
    assert not (tmp_path / "three").exists()
    data = made(tmp_path / "two", 2)
    asked = {"data": data, "out": tmp_path / "run", "backbone": BACKBONE}
    fewer = {**asked, "privacy": {**PRIVACY, "delta": 0.1, "population": 1}}
    with pytest.raises(InputError, match="imported with a population of 2"):
        run_finetune(FinetuneSettings.model_validate(fewer))
