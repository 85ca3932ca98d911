import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gan.generate import run_generate
from gan.network.discriminator import Discriminator
from gan.network.generator import Generator
from gan.network.sampling import draw_codes
from gan.package.conditions import Conditions, attribute_cells, encode, read_conditions
from gan.plans.train import plan_train_gan
from gan.settings.finished import GenerateSettings
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from synthdp.config.settings import load_settings
from synthdp.data.dataset import Row, open_dataset
from synthdp.errors import InputError

TinySettings = Callable[..., TrainGanSettings]
MakeSet = Callable[..., Path]


def row(label: int, **attributes: str) -> Row:
    return Row("images/1.png", "p", "train", (float(label),), attributes)


ROWS = [
    row(0, view="MLO", density="3"),
    row(0, view="CC", density="3"),
    row(0, view="CC", density=""),
    row(0, view="CC", density=""),
    row(1, view="MLO", density="1"),
]


def test_levels_are_sorted_and_an_empty_cell_is_unknown() -> None:
    conditions = read_conditions(ROWS, ("view", "density"))
    assert conditions.levels == (("CC", "MLO"), ("1", "3"))
    assert encode(conditions, ROWS).tolist() == [[2, 2], [1, 2], [1, 0], [1, 0], [2, 1]]
    assert attribute_cells(conditions, [1, 0]) == {"view": "CC", "density": ""}
    again = Conditions.model_validate(json.loads(conditions.model_dump_json()))
    assert again == conditions


def test_attributes_are_drawn_as_they_stand_with_each_class() -> None:
    prior = read_conditions(ROWS, ("view", "density")).tables
    labels = torch.arange(4000) % 2
    codes = draw_codes(prior, labels, seed=3)
    assert (codes[labels == 1] == torch.tensor([2, 1])).all()
    shares = Counter(map(tuple, codes[labels == 0].tolist()))
    assert set(shares) == {(2, 2), (1, 2), (1, 0)}
    assert abs(shares[1, 0] / 2000 - 0.5) < 0.05
    assert torch.equal(codes[:100], draw_codes(prior, labels[:100], seed=3))
    assert not torch.equal(codes, draw_codes(prior, labels, seed=4))
    assert draw_codes(Conditions().tables, labels, seed=3).shape == (4000, 0)


def test_a_public_prior_takes_the_place_of_the_counts() -> None:
    prior = {"view": {"CC": 1.0, "MLO": 3.0}, "density": {"3": 2.0}}
    conditions = read_conditions(ROWS, ("view", "density"), prior)
    expected = {(1, 2): 0.25, (2, 2): 0.75}
    for table in conditions.prior:
        assert {one.codes: one.share for one in table} == expected
    with pytest.raises(InputError, match=r"condition_prior.view: XCC is no level"):
        read_conditions(ROWS, ("view",), {"view": {"XCC": 1.0}})


def test_unusable_columns_are_refused_without_showing_their_values() -> None:
    with pytest.raises(InputError, match=r"no column 'vew' .*density, view"):
        read_conditions(ROWS, ("vew",))
    with pytest.raises(InputError, match="empty in every row"):
        read_conditions([row(0, view="")], ("view",))
    many = [row(0, name=f"secret-{number}") for number in range(17)]
    with pytest.raises(InputError, match="more than 16") as refused:
        read_conditions(many, ("name",))
    assert "secret" not in str(refused.value)
    overrides = ["data=d", "out=o", "conditions=[view, view]", "condition_prior={age: {a: 1}}"]
    with pytest.raises(InputError, match="stands twice"):
        load_settings(TrainGanSettings, None, overrides)
    with pytest.raises(InputError, match="name each column"):
        load_settings(TrainGanSettings, None, ["data=d", "out=o", "conditions=[a]", overrides[-1]])


def test_networks_are_told_the_attributes_as_far_as_the_class() -> None:
    generator = Generator(32, (16, 12, 8), 8, attribute_levels=(2, 3))
    discriminator = Discriminator((16, 12, 8), attribute_levels=(2, 3))
    z, labels = torch.randn(2, 8), torch.zeros(2, dtype=torch.long)
    noise = torch.randn(2, generator.noise_dim)
    one, other = torch.tensor([[1, 0], [2, 3]]), torch.tensor([[1, 1], [2, 3]])
    images = generator(z, noise, labels, 1.0, one)
    changed = generator(z, noise, labels, 1.0, other)
    assert not torch.allclose(images[0], changed[0])
    torch.testing.assert_close(images[1], changed[1])
    assert torch.equal(
        generator(z, noise, labels, 0.0, one), generator(z, noise, labels, 0.0, other)
    )
    logits = discriminator(images, labels, 1.0, one) - discriminator(images, labels, 1.0, other)
    assert logits[0] != 0
    with pytest.raises(ValueError, match="conditioned on attributes"):
        generator(z, noise, labels)


def with_views(data: Path) -> Path:
    manifest = data / "manifest.csv"
    head, *lines = manifest.read_text().splitlines()
    views = ("CC", "MLO", "")
    with_view = [f"{line},{views[number % 3]}" for number, line in enumerate(lines)]
    manifest.write_text("\n".join([f"{head},view", *with_view]) + "\n")
    return data


def test_a_conditioned_generator_writes_what_it_was_told(
    tmp_path: Path, tiny_settings: TinySettings, make_set: MakeSet
) -> None:
    data = with_views(make_set(tmp_path / "discs"))
    settings = tiny_settings(data, tmp_path / "run", conditions=("view",), kimg=0.016)
    plan_train_gan(settings)
    run = run_train_gan(settings)
    assert "given view" in (run / "card.md").read_text()
    made = open_dataset(run_generate(GenerateSettings(run=run, out=tmp_path / "set", per_class=20)))
    assert {made_row.attributes["view"] for made_row in made.rows} == {"CC", "MLO", ""}
    with pytest.raises(InputError, match="no column 'age'"):
        plan_train_gan(tiny_settings(data, tmp_path / "other", conditions=("age",)))


def test_changed_attributes_are_not_resumed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_settings: TinySettings,
    make_set: MakeSet,
) -> None:
    data = with_views(make_set(tmp_path / "discs"))
    settings = tiny_settings(data, tmp_path / "run", conditions=("view",), kimg=0.016)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("gan.train._finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_train_gan(settings)
    manifest = data / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("MLO", "XX").replace("CC", "MLO"))
    with pytest.raises(InputError, match="has changed"):
        run_train_gan(settings)
