import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up import received_run
from torch import Tensor

from gan.generate import run_generate
from gan.mix import run_mix_generators
from gan.network.mixture import Mixture
from gan.network.sampling import Truncated
from gan.package.description import MixtureShape
from gan.package.model import load_generator
from gan.package.opened import generator_description
from gan.package.packing import package_generator
from gan.plans.generators import plan_mix_generators
from gan.settings.finished import GenerateSettings, MixGeneratorsSettings
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from synthdp.cli import EXIT_DONE, main
from synthdp.data.dataset import load_images, open_dataset
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import make_statement
from synthdp.releases.release import Asked, release
from synthdp.storage.files import read_json, write_json

TinySettings = Callable[..., TrainGanSettings]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def members(
    discs: Path, tiny_settings: TinySettings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two generators of other seeds, widths and, in one of them, a film."""
    root = tmp_path_factory.mktemp("members")
    first = tiny_settings(discs, root / "first", film=True)
    second = tiny_settings(discs, root / "second", seed=1, channels=(24, 16, 8))
    return run_train_gan(first), run_train_gan(second)


@pytest.fixture(scope="module")
def mixed(members: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mixed") / "run"
    return run_mix_generators(MixGeneratorsSettings(runs=members, out=out))


def batch(mixture: Mixture, count: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(count, mixture.z_dim, generator=rng)
    noise = torch.randn(count, mixture.noise_dim, generator=rng)
    return z, noise, torch.arange(count) % 2


def mixture_of(run: Path) -> Mixture:
    generator = load_generator(run, CPU)
    assert isinstance(generator, Mixture)
    return generator


@pytest.mark.parametrize("truncation", [1.0, 0.5])
def test_each_image_is_drawn_by_one_member_as_it_draws(
    mixed: Path, members: tuple[Path, Path], truncation: float
) -> None:
    mixture = mixture_of(mixed)
    z, noise, labels = batch(mixture, 12)
    images = Truncated(mixture, truncation).images(z, noise, labels)
    chosen = mixture.chosen(noise)
    assert set(chosen.tolist()) == {0, 1}
    for index, run in enumerate(members):
        rows = (chosen == index).nonzero()[:, 0]
        member = load_generator(run, CPU)
        own = noise[rows, 1 : 1 + member.noise_dim]
        expected = Truncated(member, truncation).images(z[rows], own, labels[rows])
        torch.testing.assert_close(images[rows], expected)
    if truncation == 1:
        torch.testing.assert_close(mixture(z, noise, labels), images)


def test_members_draw_as_often_and_the_choice_tells_nothing_of_the_rest(mixed: Path) -> None:
    mixture = mixture_of(mixed)
    _, noise, _ = batch(mixture, 4000)
    share = (mixture.chosen(noise) == 0).float()
    assert share.mean().item() == pytest.approx(0.5, abs=0.03)
    assert abs(float((share * noise[:, 1]).mean())) < 0.05
    assert int(mixture.chosen(torch.full((1, 1), math.inf))) == 1
    with pytest.raises(ValueError, match="empty batch"):
        mixture(*(one[:0] for one in batch(mixture, 2)))


def test_the_run_counts_the_releases_of_all_members_and_is_a_generator(
    mixed: Path, members: tuple[Path, Path], tmp_path: Path
) -> None:
    assert (
        main(["mix-generators", f"runs=[{members[0]},{members[1]}]", f"out={mixed}"]) == EXIT_DONE
    )
    statement = read_statement(mixed)
    assert statement.lineage == Lineage().joined(read_statement(run).lineage for run in members)
    shape = generator_description(mixed).shape
    assert isinstance(shape, MixtureShape)
    assert [member.channels for member in shape.members] == [(16, 16, 8), (24, 16, 8)]
    release(mixed, tmp_path / "released", Asked(without_protection=True))
    files = [path for path in (tmp_path / "released").rglob("*") if path.is_file()]
    texts = "".join(path.read_text() for path in files if path.suffix != ".safetensors")
    assert str(members[0].parent) not in texts
    packed = package_generator(tmp_path / "released", tmp_path / "packed")
    own, from_packed = (
        open_dataset(run_generate(GenerateSettings(run=run, out=out, per_class=8)))
        for run, out in ((mixed, tmp_path / "own"), (packed, tmp_path / "from-packed"))
    )
    assert own.info.lineage == statement.lineage
    assert from_packed.info.lineage.releases == statement.lineage.releases
    difference = load_images(own, own.rows) - load_images(from_packed, from_packed.rows)
    assert abs(difference).max() <= 2 / 255 + 1e-6


def test_promises_of_private_members_add_up(members: tuple[Path, Path], tmp_path: Path) -> None:
    runs = []
    for index, run in enumerate(members):
        copy = received_run(run, tmp_path / f"private-{index}")  # its record would say its cost
        spent = Release(id=f"{index}" * 16, stage="train-gan", data="patients", mu=0.3)
        statement = make_statement(
            Lineage(releases=(spent,)), subject="generator", population=600 + index
        )
        write_json(copy / "privacy.json", statement.model_dump(mode="json"))
        runs.append(copy)
    both = plan_mix_generators(MixGeneratorsSettings(runs=tuple(runs), out=tmp_path / "out"))
    assert both.lineage.loss.mu == pytest.approx(0.3 * math.sqrt(2))
    assert (both.population, both.smallest_population) == (601, 600)
    twice = plan_mix_generators(
        MixGeneratorsSettings(runs=(runs[0], runs[0]), out=tmp_path / "out")
    )
    assert twice.lineage.loss.mu == pytest.approx(0.3)  # one release, however often it is used


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "dcgan"}, "arch: haar"),
        ({"z_dim": 8}, "differ in z_dim"),
        ({"data": "others"}, "differ in data"),
        ({"conditions": {"names": ["view"], "levels": [["CC"]]}}, "conditions"),
    ],
)
def test_generators_that_do_not_fit_are_refused_before_a_folder_is_made(
    members: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(members[1], other)
    path = other / "model" / "settings.json"
    write_json(path, {**read_json(path), **changes})
    settings = MixGeneratorsSettings(runs=(members[0], other), out=tmp_path / "out")
    with pytest.raises(InputError, match=words):
        run_mix_generators(settings)
    assert not settings.out.exists()


def test_a_promise_by_image_does_not_join_one_by_patient(
    members: tuple[Path, Path], tmp_path: Path
) -> None:
    other = received_run(members[1], tmp_path / "other")  # its record would say what its unit is
    by_image = {"unit": "image", "neighbours": "add or remove one image"}
    write_json(other / "privacy.json", {**read_json(other / "privacy.json"), **by_image})
    settings = MixGeneratorsSettings(runs=(members[0], other), out=tmp_path / "out")
    with pytest.raises(InputError, match="single images"):
        plan_mix_generators(settings)
