"""A generator in the library draws the very images that the stage writes."""

import doctest
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import received_run

import gan.library.generator
from gan.generate import run_generate
from gan.library.generator import Generator
from gan.package.conditions import Conditions
from gan.package.description import Description, HaarShape
from gan.package.networks import build_generator
from gan.package.opened import GeneratorRun
from gan.package.pretrained import WEIGHTS
from gan.settings.finished import GenerateSettings
from synthdp.checkpoint import load_weights, save_weights
from synthdp.data.dataset import open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.errors import InputError, RunError
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.statement import make_statement

Finished = Callable[[Path], Path]


@pytest.fixture(scope="module")
def packaged() -> Generator:
    return Generator.load("pretrained:mcgan-cbis-dp6", device="cpu")


def test_the_example_of_the_class_runs() -> None:
    result = doctest.testmod(gan.library.generator)
    assert (result.failed, result.attempted) == (0, 3)


@pytest.mark.parametrize(("pixels", "bits"), [("uint8", 8), ("uint16", 16)])
def test_it_draws_the_images_that_the_stage_writes(
    pixels: str, bits: int, discs: Path, finished_run: Finished, tmp_path: Path
) -> None:
    run = finished_run(discs)
    settings = GenerateSettings(
        run=run, out=tmp_path / "set", per_class=4, seed=3, bits=bits, truncation=0.7
    )
    made = open_dataset(run_generate(settings))
    drawn = Generator.load(run).sample(8, seed=3, truncation=0.7, pixels=pixels)
    assert drawn.malignant.tolist() == [row.targets[0] for row in made.rows]
    for image, row in zip(drawn.images, made.rows, strict=True):
        assert np.array_equal(image, decode_pixels(made.root / row.image))
    whole = Generator.load(run).sample(8, seed=3, truncation=0.7)
    top = 2**bits - 1
    assert whole.images.dtype == np.float32
    assert np.abs(whole.images * top - drawn.images).max() <= 0.51


def test_a_longer_call_begins_with_the_shorter_one(packaged: Generator) -> None:
    short, long = packaged.sample(2, malignant=1, seed=5), packaged.sample(3, malignant=1, seed=5)
    assert np.abs(short.images - long.images[:2]).max() <= 1 / 255
    assert np.abs(long.images[0] - packaged.sample(1, malignant=1, seed=6).images[0]).max() > 0.1
    assert short.images.shape == (2, packaged.size_px, packaged.size_px)
    assert short.images.min() >= 0
    assert short.images.max() <= 1


def test_classes_are_given_for_all_or_for_each(packaged: Generator) -> None:
    assert packaged.sample(3).malignant.tolist() == [0, 1, 0]
    assert packaged.sample(2, malignant=0).malignant.tolist() == [0, 0]
    mixed = packaged.sample(2, malignant=[1, 0], seed=5)
    assert mixed.malignant.tolist() == [1, 0]
    first = packaged.sample(1, malignant=1, seed=5).images[0]
    assert np.abs(mixed.images[0] - first).max() <= 1 / 255


@pytest.fixture(scope="module")
def conditional() -> Generator:
    """An untrained generator of views and sites; site B has only ever been seen with MLO."""
    table = [
        {"codes": (1, 1), "share": 0.5},
        {"codes": (2, 1), "share": 0.25},
        {"codes": (2, 2), "share": 0.25},
    ]
    conditions = Conditions.model_validate(
        {"names": ("view", "site"), "levels": (("CC", "MLO"), ("A", "B")), "prior": (table, table)}
    )
    shape = HaarShape(
        size_px=32, channels=(16, 16, 8), z_dim=16, haar_levels=1, conditions=conditions
    )
    statement = make_statement(Lineage(), subject="generator")
    opened = GeneratorRun(Path("none"), Description(shape, "malignant", "made up"), statement)
    torch.manual_seed(0)
    return Generator(opened, build_generator(shape).eval())


def test_conditions_are_asked_for_and_the_others_drawn_beside_them(conditional: Generator) -> None:
    assert conditional.conditions == {"view": ("CC", "MLO"), "site": ("A", "B")}
    drawn = conditional.sample(12, seed=1, conditions={"site": "B"})
    assert drawn.conditions["site"].tolist() == ["B"] * 12
    assert drawn.conditions["view"].tolist() == ["MLO"] * 12  # as the prior has it beside B
    each = conditional.sample(2, seed=1, conditions={"view": ["CC", "MLO"], "site": ["A", "B"]})
    assert each.conditions["view"].tolist() == ["CC", "MLO"]
    assert np.abs(each.images[1] - drawn.images[1]).max() <= 1 / 255
    free = conditional.sample(60, seed=1).conditions
    assert set(zip(free["view"], free["site"], strict=True)) == {
        ("CC", "A"), ("MLO", "A"), ("MLO", "B"),
    }  # fmt: skip
    never = conditional.sample(30, seed=1, conditions={"view": "CC", "site": ["A", "B"] * 15})
    assert set(never.conditions["view"]) == {"CC"}


def test_a_received_generator_keeps_its_promise(
    discs_as_real: Path, finished_run: Finished, tmp_path: Path
) -> None:
    run = finished_run(discs_as_real)
    received = Generator.load(received_run(run, tmp_path / "received"))
    assert received.statement.epsilon == Generator.load(run).statement.epsilon == float("inf")
    assert "epsilon inf" in repr(received)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "whole number from 1 to 100,000"),
        ({"n": 10**7}, "larger sets with `synthdp generate`"),
        ({"n": 2, "malignant": 2}, "neither 0 nor 1"),
        ({"n": 2, "malignant": [1, 0, 1]}, "give one class, or 2"),
        ({"n": 2, "truncation": 0}, "above 0 and at most 1"),
        ({"n": 2, "seed": -1}, "whole number, 0 or above"),
        ({"n": 2, "pixels": "int8"}, "choose float32, uint8 or uint16"),
        ({"n": 2, "conditions": {"colour": "red"}}, "knows no 'colour' \\(it knows: none\\)"),
    ],
)
def test_arguments_out_of_range_are_refused(
    packaged: Generator, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        packaged.sample(**arguments)


def test_unknown_levels_are_refused_with_those_that_it_has(conditional: Generator) -> None:
    with pytest.raises(InputError, match=r"view has no level .XX. \(it has: CC, MLO\)"):
        conditional.sample(1, conditions={"view": "XX"})
    with pytest.raises(InputError, match="1 levels for 2 images"):
        conditional.sample(2, conditions={"view": ["CC"]})


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"known: cbis-selected1, .*phantoms"):
        Generator.load("pretrained:none-such")


def test_weights_that_have_diverged_are_told(
    discs: Path, finished_run: Finished, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished_run(discs), tmp_path / "run"))
    broken = {
        name: torch.full_like(t, torch.nan) for name, t in load_weights(run / WEIGHTS).items()
    }
    save_weights(run / WEIGHTS, broken)
    with pytest.raises(RunError, match="no numbers"):
        Generator.load(run).sample(1)
