"""A generator as one file draws the images of the original."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

from gan.library.exported import TOLERANCE, WholeGenerator, run_export_model
from gan.network.dcgan import DcganGenerator
from gan.network.generator import Generator
from gan.network.mixture import Mixture
from gan.network.sampling import AnyGenerator, draw_latents
from synthdp.errors import InputError
from synthdp.networks.exported.model_file import FILES
from synthdp.networks.exported.settings import ExportModelSettings
from synthdp.storage.files import read_json

SHAPE = {"size_px": 32, "channels": (8, 8, 8), "z_dim": 8, "haar_levels": 1}


def untrained(kind: str) -> AnyGenerator:
    """A random generator of each kind; those with a film draw marks on half of the images."""
    torch.manual_seed(0)
    if kind == "dcgan":
        return DcganGenerator(channels=(8, 8, 8), z_dim=8).eval()
    with_film = {**SHAPE, "film": True, "attribute_levels": [2, 3]}
    generator = (
        Mixture([with_film, SHAPE | {"attribute_levels": [2, 3]}])
        if (kind == "mixture")
        else Generator(**with_film)
    )
    for film in [one.film for one in generator.modules() if getattr(one, "film", None) is not None]:
        film.grain.copy_(torch.rand(film.grain.shape))
        film.grain_spread.fill_(0.3)
        film.mark_share.fill_(0.5)
        film.mark_more.fill_(0.6)
        film.mark_mean.copy_(torch.tensor([2.0, 1.0]))
        film.mark_root.copy_(torch.tensor([[0.7, 0.0], [0.2, 0.5]]))
        film.mark_stretch.fill_(0.4)
        film.white.fill_(1.0)
    return generator.eval()


def inputs_of(network: nn.Module, n: int) -> tuple[torch.Tensor, ...]:
    latents = draw_latents(7, range(n), network.z_dim + network.noise_dim)
    z, noise = latents.split([network.z_dim, network.noise_dim], dim=1)
    codes = torch.arange(2 * n).view(n, 2) % 3
    return z, noise, torch.arange(n) % 2, codes


@pytest.mark.parametrize("kind", ["haar with a film", "mixture", "dcgan"])
def test_what_is_exported_draws_what_the_generator_draws(kind: str) -> None:
    network = untrained(kind)
    z, noise, labels, codes = inputs_of(network, 40)
    with torch.no_grad():
        attributes = None if kind == "dcgan" else codes
        drawn = network(z, noise, labels, 1.0, attributes).clamp(-1, 1)
        again = WholeGenerator(network)(z, noise, labels, attributes)
    assert (again - (drawn + 1) / 2).abs().max() < 1e-4
    assert drawn.std() > 0.01
    if kind != "dcgan":
        assert network(z, noise, labels, 1.0, codes).shape == again.shape  # it was not changed


def test_a_mixture_without_its_film_is_told_apart() -> None:
    network = untrained("haar with a film")
    z, noise, labels, codes = inputs_of(network, 40)
    with torch.no_grad():
        drawn = network(z, noise, labels, 1.0, codes)
        network.film = None
        bare = network(z, noise, labels, 1.0, codes)
    assert (drawn - bare).abs().amax(dim=(1, 2, 3)).min() > 0.01  # the film shows on every image


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["onnx", "torch-export"])
def test_a_packaged_generator_leaves_as_one_file(
    file_format: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path("pretrained:mcgan-cbis-dp6")
    out = run_export_model(ExportModelSettings(run=run, out=tmp_path / "file", format=file_format))
    assert {path.name for path in out.iterdir()} == {
        FILES[file_format], "export.json", "privacy.json", "README.md",
    }  # fmt: skip
    about = read_json(out / "export.json")
    assert about["epsilon"] == "6"
    assert [one["name"] for one in about["inputs"]] == ["z", "noise", "labels"]
    assert about["checked"]["largest_difference"] <= TOLERANCE
    assert (
        run_export_model(ExportModelSettings(run=run, out=tmp_path / "file", format=file_format))
        == out
    )
    text = (out / "README.md").read_text()
    assert "Privacy of this generator: epsilon = 6" in text
    assert "synthdp generate" not in text
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "use.py").write_text(code)
    monkeypatch.chdir(out)
    capsys.readouterr()
    runpy.run_path(str(tmp_path / "use.py"))
    assert capsys.readouterr().out == "(2, 1, 128, 128)\n"


def test_its_side_can_not_be_chosen(tmp_path: Path) -> None:
    run = Path("pretrained:mcgan-cbis-dp6")
    with pytest.raises(InputError, match="images of its own side"):
        run_export_model(ExportModelSettings(run=run, out=tmp_path / "x", size_px=64))


def test_a_mixture_is_exported_for_any_batch() -> None:
    network = untrained("mixture")
    z, noise, labels, codes = inputs_of(network, 6)
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        WholeGenerator(network).eval(),
        (z[:2], noise[:2], labels[:2], codes[:2]),
        dynamic_shapes=({0: batch},) * 4,
        strict=False,
    )
    with torch.no_grad():
        drawn = network(z, noise, labels, 1.0, codes).clamp(-1, 1)
        given = program.module()(z, noise, labels, codes)
    assert (given - (drawn + 1) / 2).abs().max() < 1e-4
