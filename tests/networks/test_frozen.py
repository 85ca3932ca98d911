from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from synthdp.checkpoint import save_weights
from synthdp.errors import InputError
from synthdp.networks.frozen import (
    FrozenPyramid,
    build_extractor,
    build_pyramid,
    refuse_large_network,
)
from synthdp.networks.settings import BackboneSettings

SETTINGS = BackboneSettings(name="test_vit", size_px=32)
IMAGES = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (4, 1, 48, 48))).float()


def test_seed_decides_a_random_start_and_moves_nothing_else() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (build_extractor(SETTINGS, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first(IMAGES), again(IMAGES))
    assert first.identity() == again.identity() != other.identity()


def test_bfloat16_is_part_of_the_identity_and_gives_float32() -> None:
    full = build_extractor(SETTINGS, seed=1)
    low = build_extractor(SETTINGS, seed=1, in_bfloat16=True)
    assert full.identity() != low.identity()
    features = [extractor(IMAGES) for extractor in (full, low)]
    assert features[1].dtype == torch.float32
    assert not torch.equal(*features)
    assert torch.allclose(*features, atol=0.1)


def test_layout_in_memory_is_no_part_of_the_identity() -> None:
    extractor = build_extractor(SETTINGS, seed=1)
    identity = extractor.identity()
    assert extractor.to(memory_format=torch.channels_last).identity() == identity


def test_features_let_gradients_through_to_the_images_alone() -> None:
    extractor = build_extractor(SETTINGS, seed=1)
    images = IMAGES.clone().requires_grad_(True)
    features = extractor(images)
    assert features.shape == (4, extractor.n_features)
    features.sum().backward()
    assert images.grad is not None
    assert all(weight.grad is None for weight in extractor.parameters())


def test_unknown_network_is_refused() -> None:
    unknown = BackboneSettings(name="no_such_network")
    with pytest.raises(InputError, match="no model"):
        build_extractor(unknown)
    with pytest.raises(InputError, match="no model"):
        build_pyramid(unknown, 32)


def test_a_network_for_images_of_one_side_is_no_pyramid() -> None:
    with pytest.raises(InputError, match="test_vit3 gives no feature maps of images of 48 px"):
        build_pyramid(BackboneSettings(name="test_vit3"), 48)


def test_the_pyramid_folds_without_a_change_and_passes_gradients() -> None:
    torch.manual_seed(0)
    plain = timm.create_model("test_efficientnet", num_classes=0).eval()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.running_mean)
    images = torch.rand(2, 1, 64, 64) * 2 - 1
    mean, std = (torch.tensor(plain.pretrained_cfg[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        before = plain.forward_intermediates(
            ((images + 1) / 2 - mean) / std, indices=4, intermediates_only=True
        )
    pyramid = FrozenPyramid(plain, BackboneSettings(name="test_efficientnet"), 64)
    images.requires_grad_()
    after = pyramid(images)
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    after[0].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_large_network_is_built_only_with_a_file_of_its_size(tmp_path: Path) -> None:
    refuse_large_network(BackboneSettings(name="vit_base_patch16_224"))
    giant = BackboneSettings(name="vit_giant_patch14_dinov2")
    with pytest.raises(InputError, match=r"has 1,13.,...,... parameters, more than the 100,000,00"):
        refuse_large_network(giant)
    save_weights(tmp_path / "small.safetensors", {"x": torch.zeros(10)})
    file = giant.model_copy(update={"weights": tmp_path / "small.safetensors"})
    with pytest.raises(InputError, match="put the file of its weights beside the model"):
        refuse_large_network(file)
    with pytest.raises(InputError, match="timm has no model"):
        refuse_large_network(BackboneSettings(name="hf-hub:someone/network"))
