from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gan import import_dcgan
from gan.generate import run_generate
from gan.import_dcgan import read_state, run_import_generator, shape_of
from gan.network.dcgan import DcganDiscriminator, DcganGenerator
from gan.package.model import load_generator
from gan.plans.generators import plan_import_generator
from gan.settings.finished import GenerateSettings, ImportGeneratorSettings
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training.losses import noisy_target_discriminator_loss
from synthdp.config.settings import load_settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.storage.files import sha256_file

WIDTHS = (1024, 512, 256, 128, 64)
TINY_WIDTHS = (16, 12, 8)


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_it_has_the_size_of_the_papers_networks() -> None:
    with torch.device("meta"):
        assert round(parameters_of(DcganGenerator(WIDTHS)) / 1e6, 2) == 14.42
        assert round(parameters_of(DcganDiscriminator(128, WIDTHS)) / 1e6, 2) == 25.94


def test_shapes_ranges_and_the_class() -> None:
    generator, discriminator = DcganGenerator(TINY_WIDTHS, 8), DcganDiscriminator(32, TINY_WIDTHS)
    z, none = torch.randn(4, 8), torch.empty(4, 0)
    benign, malignant = torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long)
    images = generator(z, none, benign)
    assert images.shape == (4, 1, 32, 32)
    assert images.abs().max() <= 1
    assert not torch.allclose(images, generator(z, none, malignant))
    logits = discriminator(images, benign)
    assert logits.shape == (4,)
    assert not torch.allclose(logits, discriminator(images, malignant))
    generator.unit_range = True
    torch.testing.assert_close(generator(z, none, benign), 2 * images - 1)


def test_noisy_targets_pay_for_saturation_up_to_torchs_limit() -> None:
    real, fake = torch.tensor([0.3, -2.0, 1.5]), torch.tensor([-1.0, 0.5, 0.0])
    targets = torch.tensor([0.7, 0.9, 1.0])
    expected = nn.BCELoss()(real.sigmoid(), targets) + nn.BCELoss()(fake.sigmoid(), 0 * fake)
    found = noisy_target_discriminator_loss(real, fake, targets)
    torch.testing.assert_close(found, expected)
    sure = noisy_target_discriminator_loss(real + 500, fake - 500, targets + 0.2)
    torch.testing.assert_close(sure, 100 * (1 - (targets + 0.2)).mean())


def test_the_baseline_trains_in_the_same_loop(
    discs: Path, tmp_path: Path, tiny_settings: Callable[..., TrainGanSettings]
) -> None:
    config = Path(__file__).parents[3] / "configs" / "gan" / "dcgan.yaml"
    overrides = [f"data={discs}", f"out={tmp_path / 'run'}", "size_px=32", "kimg=0.024"]
    settings = load_settings(TrainGanSettings, config, [*overrides, "channels=[16, 12, 8]"])
    run = run_train_gan(settings)
    generator = load_generator(run, torch.device("cpu"))
    assert isinstance(generator, DcganGenerator)
    made = run_generate(GenerateSettings(run=run, out=tmp_path / "set", per_class=2))
    assert len(open_dataset(made).rows) == 4
    with pytest.raises(InputError, match="leave conditions out"):
        load_settings(
            TrainGanSettings, config, [*overrides, "channels=[16, 12, 8]", "conditions=[view]"]
        )


def seed_state(norm: str, z_dim: int = 10) -> dict[str, Tensor]:
    """Tensors under the names that the seed's code gives, its doubled first layers among them."""
    generator = DcganGenerator(TINY_WIDTHS, z_dim, norm)  # type: ignore[arg-type]
    for layer in generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    own = dict(generator.state_dict())
    doubled = {
        name.replace("main", "first_layers"): tensor
        for name, tensor in own.items()
        if name.startswith(("main.0", "main.1."))
    }
    main = {name: tensor for name, tensor in own.items() if name.startswith("main")}
    rest = {name: tensor for name, tensor in own.items() if name.startswith("embed")}
    return {**doubled, **main, **rest}


def written(path: Path, content: Any) -> tuple[Path, str]:
    torch.save(content, path)
    return path, sha256_file(path)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("renamed", [False, True])
def test_a_seed_checkpoint_draws_the_same_images(tmp_path: Path, norm: str, renamed: bool) -> None:
    state = seed_state(norm)
    named = (
        {f"layer{n}": t for n, (k, t) in enumerate(state.items()) if not k.startswith("first")}
        if renamed
        else state
    )
    file, sha256 = written(tmp_path / "1400.pt", {"generator": named})
    settings = ImportGeneratorSettings(
        file=file, out=tmp_path / "run", sha256=sha256, trained_on="cbis-ddsm"
    )
    run = run_import_generator(settings)
    assert run_import_generator(settings) == run
    generator = load_generator(run, torch.device("cpu"))
    direct = DcganGenerator(TINY_WIDTHS, 10, norm).eval()  # type: ignore[arg-type]
    direct.load_state_dict(state, strict=False)
    z, malignant = torch.randn(3, 10), torch.ones(3, dtype=torch.long)
    is_benign = torch.zeros(3, dtype=torch.long)
    told = direct.embed_nn(is_benign)
    expected = direct.main(torch.cat([z, told], dim=1)[:, :, None, None]) * 2 - 1
    torch.testing.assert_close(generator(z, torch.empty(3, 0), malignant), expected)


def test_an_import_promises_nothing_and_counts_once(tmp_path: Path) -> None:
    file, sha256 = written(tmp_path / "a.pt", {"generator": seed_state("instance")})
    settings = ImportGeneratorSettings(
        file=file, out=tmp_path / "run", sha256=sha256, trained_on="cbis-ddsm"
    )
    planned = plan_import_generator(settings)
    assert np.isinf(planned.epsilon)
    run = run_import_generator(settings)
    made = open_dataset(run_generate(GenerateSettings(run=run, out=tmp_path / "set", per_class=1)))
    assert made.info.lineage == planned.lineage
    assert made.info.lineage.unprotected[0].data == "cbis-ddsm"


def test_other_files_are_refused(tmp_path: Path) -> None:
    runs = count()

    def read(path: Path, **changes: Any) -> None:
        given = {"sha256": sha256_file(path), **changes}
        run_import_generator(
            ImportGeneratorSettings(
                file=path, out=tmp_path / f"run-{next(runs)}", trained_on="x", **given
            )
        )

    good, sha256 = written(tmp_path / "good.pt", {"generator": seed_state("instance")})
    with pytest.raises(InputError, match=f"set sha256={sha256}"):
        read(good, sha256=None)
    with pytest.raises(InputError, match="was asked for"):
        read(good, sha256="0" * 64)
    text = tmp_path / "text.pt"
    text.write_text("nothing")
    with pytest.raises(InputError, match="not a torch file"):
        read(text)
    for name, content, message in (
        ("list", [1], "holds no"),
        ("linear", {"generator": nn.Linear(2, 2).state_dict()}, "not of a conditional DCGAN"),
        ("more", {"generator": {**seed_state("instance"), "x": torch.ones(3, 3, 3)}}, "1 tensors"),
    ):
        with pytest.raises(InputError, match=message):
            read(written(tmp_path / f"{name}.pt", content)[0])
    code = tmp_path / "code.pt"
    torch.save({"generator": nn.Linear(2, 2)}, code)  # an object: reading it would run its code
    with pytest.raises(InputError, match=r"asks for .*Linear., which is no tensor"):
        read(code)


def test_few_numbers_do_not_ask_for_a_giant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kernel has one input, so that a file of a megabyte names layers of gigabytes."""
    kernels = {f"main.{n}.weight": torch.zeros(2, 2048, 4, 4) for n in range(5)}
    path, sha256 = written(tmp_path / "x.pt", {**kernels, "last": torch.zeros(2048, 1, 4, 4)})

    def memory_taken(*_: object, **__: object) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr(import_dcgan, "build_generator", memory_taken)
    settings = ImportGeneratorSettings(
        file=path, out=tmp_path / "run", sha256=sha256, trained_on="set"
    )
    with pytest.raises(InputError, match="has no tensor of shape"):
        run_import_generator(settings)
    deep = {f"main.{n}.weight": torch.zeros(2, 2, 4, 4) for n in range(200)}
    path, sha256 = written(tmp_path / "y.pt", {**deep, "last": torch.zeros(2, 1, 4, 4)})
    with pytest.raises(InputError, match="the checkpoint's network:"):
        shape_of(read_state(path, sha256), unit_range=True)
