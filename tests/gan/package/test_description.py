"""What `model/settings.json` says of a generator: read as it was written, byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gan.network.sampling import GENERATORS
from gan.package import model
from gan.package.conditions import Combination, Conditions
from gan.package.description import (
    DESCRIPTION,
    AnyShape,
    BankShape,
    DcganShape,
    Description,
    HaarShape,
    MixtureShape,
    read_description,
)
from gan.package.model import load_generator, write_generator
from gan.package.networks import build_generator
from gan.package.pretrained import FOLDER, known_names
from synthdp.config.settings import Settings
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.statement import make_statement
from synthdp.runs.folder import open_run
from synthdp.storage.files import read_json, write_json

VIEWS = Conditions(
    names=("view",),
    levels=(("CC", "MLO"),),
    prior=2 * ((Combination(codes=(1,), share=0.25), Combination(codes=(2,), share=0.75)),),
)
HAAR: dict[str, Any] = {"size_px": 32, "channels": (16, 8), "z_dim": 8, "haar_levels": 2}
DCGAN_KEYS = ["size_px", "channels", "z_dim", "norm", "unit_range"]
PLAIN = HaarShape(**HAAR)
WITH_VIEW = HaarShape(**HAAR, conditions=VIEWS, film=True)
DCGAN = DcganShape(size_px=32, channels=(16, 12, 8), z_dim=8, norm="batch", unit_range=True)
BANK = BankShape(size_px=32, images=4)
MIXED = MixtureShape(size_px=32, z_dim=8, conditions=VIEWS, members=(WITH_VIEW, WITH_VIEW))


@pytest.mark.parametrize(
    ("shape", "keys"),
    [
        (PLAIN, ["architecture", *HAAR, "target", "data"]),
        (WITH_VIEW, ["architecture", *HAAR, "conditions", "film", "target", "data"]),
        (DCGAN, ["architecture", *DCGAN_KEYS, "target", "data"]),
        (MIXED, ["architecture", "size_px", "z_dim", "target", "data", "conditions", "members"]),
    ],
)
def test_a_description_is_read_as_it_was_written(
    shape: AnyShape, keys: list[str], tmp_path: Path
) -> None:
    description = Description(shape, "malignant", "discs")
    write_generator(tmp_path, build_generator(shape).state_dict(), description)
    assert read_description(tmp_path) == description
    assert list(json.loads((tmp_path / DESCRIPTION).read_text())) == keys


def test_files_of_before_are_read_and_would_be_written_again_byte_for_byte(tmp_path: Path) -> None:
    for name in known_names():
        write_json(tmp_path / "again.json", read_description(FOLDER / name).as_json())
        written = (FOLDER / name / DESCRIPTION).read_bytes()
        assert (tmp_path / "again.json").read_bytes() == written


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "diffusion"}, "no generator .architecture 'diffusion'."),
        ({"architecture": None}, "no generator .architecture None."),
        ({"channels": "wide"}, "channels"),
        ({"haar_levels": True}, "haar_levels"),
        ({"target": 3}, "target"),
    ],
)
def test_another_kind_or_a_torn_description_is_refused_by_name(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    content = Description(PLAIN, "malignant", "discs").as_json()
    write_json(tmp_path / DESCRIPTION, {**content, **changes})
    with pytest.raises(InputError, match=words):
        read_description(tmp_path)


def test_every_shape_names_a_network() -> None:
    assert {shape.architecture for shape in (PLAIN, DCGAN, MIXED, BANK)} == set(GENERATORS)


def described_run(folder: Path, shape: HaarShape, **changes: object) -> Path:
    """A finished run of a random generator, whose settings then say something else."""
    with open_run(folder, "train-gan", Settings()) as run:
        weights = build_generator(shape).state_dict()
        write_generator(run.path, weights, Description(shape, "malignant", "set"))
        run.finish(make_statement(Lineage(), subject="generator"), "card")
    path = folder / "model" / "settings.json"
    write_json(path, {**read_json(path), **changes})
    return folder


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"channels": [2048, 2048, 2048]}, "does not fit"),
        ({"channels": [8, 8, 10**9]}, "less than or equal to 2048"),
        ({"channels": [8] * 9, "size_px": 1024}, "at most 8 items"),
        ({"channels": [8, 8, 8, 8], "size_px": 64}, "does not fit"),
        ({"size_px": 1024}, "don't lead up to 1024 px"),
        ({"size_px": 10**6}, "less than or equal to 1024"),
        ({"z_dim": 2048}, "does not fit"),
        ({"haar_levels": 30}, "haar_levels"),
    ],
)
def test_a_network_larger_than_its_weights_is_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], problem: str
) -> None:
    shape = HaarShape(size_px=32, channels=(8, 8, 8), z_dim=4, haar_levels=1)
    run = described_run(tmp_path / "gan", shape, **changes)

    def memory_taken(*_: object, **__: object) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr(model, "build_generator", memory_taken)
    with pytest.raises(InputError, match=problem):
        load_generator(run, torch.device("cpu"))
