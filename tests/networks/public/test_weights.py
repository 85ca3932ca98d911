import os
import socket
from functools import partial
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthdp.checkpoint import save_weights
from synthdp.errors import InputError
from synthdp.networks.backbone import build_backbone
from synthdp.networks.frozen import build_extractor, build_pyramid
from synthdp.networks.public.weights import refuse_download
from synthdp.networks.settings import FeatureSettings
from synthdp.storage.files import sha256_file

VIT, SWIN = "test_vit", "swin_tiny_patch4_window7_224"
DINOV2 = FeatureSettings(
    name="vit_small_patch14_dinov2",
    weights=Path(os.environ.get("SYNTHDP_WEIGHTS", "../shared/weights"))
    / "vit_small_patch14_dinov2.fp16.safetensors",
    sha256="46b8f90f9ef25e6c94120dbd5f0ec5082ef76b264bf044b4340ff69c4b9f1278",
    size_px=126,
)


def images(side: int, n: int = 2) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def refused(settings: FeatureSettings) -> str:
    with pytest.raises(InputError) as caught:
        build_backbone(settings, seed=0)
    return str(caught.value)


def cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution with a = -0.75."""
    a, d = -0.75, np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def resampling_matrix(n_out: int, n_in: int) -> NDArray[np.float64]:
    """Bicubic, half-pixel centres, edges repeated, no antialias."""
    matrix = np.zeros((n_out, n_in))
    for row in range(n_out):
        centre = (row + 0.5) * n_in / n_out - 0.5
        for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            matrix[row, min(max(tap, 0), n_in - 1)] += cubic(np.array(centre - tap))
    return matrix


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of the test transformer at its native side, in float16."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = timm.create_model(VIT)
    path = tmp_path / "public.safetensors"
    save_weights(path, {name: t.half() for name, t in network.state_dict().items()})
    return path


def from_file(path: Path, **changes: object) -> FeatureSettings:
    values = {"name": VIT, "weights": path, "sha256": sha256_file(path), "size_px": 64}
    return FeatureSettings.model_validate({**values, **changes})


def test_the_position_embedding_is_resampled_without_antialias(weights: Path) -> None:
    native = build_backbone(from_file(weights, size_px=160), seed=0).network.pos_embed[0]
    small = build_backbone(from_file(weights), seed=0).network.pos_embed[0]
    matrix = resampling_matrix(4, 10)
    grid = native[1:].detach().numpy().reshape(10, 10, -1).astype(np.float64)
    expected = np.einsum("ai,bj,ijc->abc", matrix, matrix, grid).reshape(16, -1)
    np.testing.assert_allclose(small[1:].detach().numpy(), expected, atol=1e-6)
    assert torch.equal(small[0], native[0])
    assert small.dtype == torch.float32


def test_swin_weights_fit_another_side(tmp_path: Path) -> None:
    network = timm.create_model(SWIN, num_classes=0)
    save_weights(tmp_path / "swin.safetensors", network.state_dict())
    path = tmp_path / "swin.safetensors"
    settings = FeatureSettings(name=SWIN, weights=path, sha256=sha256_file(path), size_px=64)
    assert build_backbone(settings, seed=0)(images(64)).shape == (2, 768)


@torch.inference_mode()
def test_grey_weights_give_what_colour_weights_give(tmp_path: Path) -> None:
    colour = timm.create_model(VIT, num_classes=0, img_size=32)
    for key in ("mean", "std"):  # of three equal channels: then the sum is exact
        colour.pretrained_cfg[key] = (0.5, 0.5, 0.5)
    path = tmp_path / "colour.safetensors"
    save_weights(path, colour.state_dict())
    three, one = (
        build_backbone(from_file(path, size_px=32, channels=channels), seed=0)
        for channels in (3, 1)
    )
    for network in (three, one):
        network.mean.fill_(0.5)
        network.std.fill_(0.5)
    batch = images(32)
    torch.testing.assert_close(one(batch), three(batch), atol=1e-5, rtol=1e-4)


def test_weights_are_checked_before_they_are_used(weights: Path, tmp_path: Path) -> None:
    sha256 = sha256_file(weights)
    assert f"backbone.sha256={sha256}" in refused(from_file(weights, sha256=None))
    assert sha256 in refused(from_file(weights, sha256="0" * 64))
    for build in (build_extractor, partial(build_pyramid, size_px=32)):
        with pytest.raises(InputError, match=rf"selection\.tokens\.sha256={sha256}"):
            build(from_file(weights, sha256=None), setting="selection.tokens")
    missing = FeatureSettings(name=VIT, weights=tmp_path / "absent", size_px=32)
    assert "no such weights file" in refused(missing)
    said = refused(from_file(weights, name="test_vit3"))
    assert "missing: blocks.0.ls1.gamma" in said
    assert "of another shape: blocks.0" in said
    (tmp_path / "note.txt").write_text("not weights")
    assert "safetensors" in refused(from_file(tmp_path / "note.txt"))
    assert "belongs to a weights file" in refused(FeatureSettings(name=VIT, sha256="0" * 64))


def test_the_hub_is_asked_by_name_alone_and_its_failure_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: object) -> object:
        if pretrained:
            raise ConnectionError("no network")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    build_backbone(FeatureSettings(name=VIT, size_px=32), seed=0)
    said = refused(FeatureSettings(name=VIT, weights=Path("hub"), size_px=32))
    assert "hub" in said
    assert "local file" in said


def test_what_the_hub_gave_before_is_read_without_asking_it(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    with pytest.raises(InputError, match=r"asks for a download of test_vit .* fetch them once"):
        refuse_download(VIT)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(weights))
    refuse_download(VIT)
    from_hub = build_backbone(FeatureSettings(name=VIT, weights=Path("hub"), size_px=160), seed=0)
    own = build_backbone(from_file(weights, size_px=160), seed=0)
    torch.testing.assert_close(from_hub(images(160)), own(images(160)))


@torch.inference_mode()
def test_the_real_weights_load_and_give_features() -> None:
    if DINOV2.weights is None or not DINOV2.weights.is_file():
        pytest.skip("the public weights are not here")
    backbone = build_backbone(DINOV2, seed=0)
    features = backbone(images(126))
    assert features.shape == (2, 768)
    cut = build_backbone(DINOV2, seed=0, trainable_blocks=2)
    torch.testing.assert_close(cut(images(126)), features)
