import numpy as np
import pytest
import torch

from synthdp.config import BackboneSettings
from synthdp.errors import InputError
from synthdp.networks.extractors import build_extractor

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
    with pytest.raises(InputError, match="no model"):
        build_extractor(BackboneSettings(name="no_such_network"))
