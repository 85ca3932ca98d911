from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import clinic_set

from classify.features import extract
from classify.features.extract import (
    augmented_features,
    backbone_features,
    features_on_arrays,
    kept_views,
    on_arrays,
    seen_views,
)
from synthdp.data.dataset import Dataset, load_images, open_dataset
from synthdp.networks.alone import BATCH
from synthdp.networks.backbone import Backbone, TransformerBackbone, build_backbone
from synthdp.networks.denoise import preparation
from synthdp.networks.settings import FeatureSettings

VIT = FeatureSettings(name="test_vit", size_px=32)


@pytest.fixture
def clinic(tmp_path: Path) -> Dataset:
    return open_dataset(clinic_set(tmp_path / "clinic", "real", n_patients=15))


@pytest.mark.parametrize("blocks", [0, 2, "all"])
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_an_images_features_do_not_depend_on_who_else_is_there(
    clinic: Dataset, precision: str, blocks: object
) -> None:
    network = build_backbone(
        VIT.model_copy(update={"precision": precision}), seed=0, trainable_blocks=blocks
    )
    rows = clinic.split("train")
    assert len(rows) > BATCH
    whole = backbone_features(network, clinic, rows)
    without_first = backbone_features(network, clinic, rows[1:])
    assert torch.equal(whole[1:], without_first)
    alone = backbone_features(network, clinic, rows[-1:])
    assert torch.equal(whole[-1:], alone)


def test_an_image_without_noise_beside_noisy_ones_keeps_its_features(clinic: Dataset) -> None:
    """Patches of `clinic` are noise; what is taken out of one is nobody else's."""
    plain = build_backbone(VIT, seed=0)
    network = build_backbone(VIT.model_copy(update={"denoise": "auto"}), seed=0)
    rows = clinic.split("train")
    whole = backbone_features(network, clinic, rows)
    assert torch.equal(whole[2:], backbone_features(network, clinic, rows[2:]))
    assert not torch.allclose(whole, backbone_features(plain, clinic, rows))
    prepare = preparation(network.settings)
    images = load_images(clinic, rows, 32, prepare)
    assert torch.equal(whole, torch.from_numpy(on_arrays(network, network)(images)))
    views = augmented_features(network, clinic, rows, 2)
    assert torch.equal(views[:, 0], whole)
    assert torch.equal(views[3:], augmented_features(network, clinic, rows[3:], 2))


def test_every_batch_has_the_same_size() -> None:
    seen = []

    def module(batch: torch.Tensor) -> torch.Tensor:
        seen.append(len(batch))
        return batch.flatten(1).sum(dim=1, keepdim=True)

    compute = on_arrays(module, build_backbone(VIT, seed=0))
    values = compute(np.ones((3, 1, 4, 4), np.float32))
    assert set(seen) == {BATCH}
    np.testing.assert_allclose(values, np.full((3, 1), 16.0))


def test_augmented_views_begin_with_the_image_and_are_read_once(
    clinic: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_backbone(VIT, seed=0)
    rows = clinic.split("train")
    values = augmented_features(network, clinic, rows, 3)
    assert values.shape == (len(rows), 3, network.n_features)
    assert torch.equal(values[:, 0], backbone_features(network, clinic, rows))
    assert not torch.allclose(values[:, 1], values[:, 2])
    monkeypatch.setattr(Backbone, "forward", None)
    assert torch.equal(augmented_features(network, clinic, rows, 3), values)


def test_a_noisy_copy_comes_last_and_is_nobody_elses(clinic: Dataset) -> None:
    network, rows = build_backbone(VIT, seed=0), clinic.split("train")
    values = augmented_features(network, clinic, rows, 2, grain=0.1)
    assert torch.equal(values[:, :2], augmented_features(network, clinic, rows, 2))
    copies = augmented_features(network, clinic, rows[3:], 1, grain=0.1)
    assert torch.equal(values[3:][:, [0, 2]], copies)
    assert not torch.allclose(copies[:, 0], copies[:, 1])
    other = augmented_features(network, clinic, rows[3:], 1, grain=0.2)
    assert not torch.allclose(copies[:, 1], other[:, 1])


def test_a_patients_views_do_not_depend_on_other_patients(clinic: Dataset) -> None:
    network = build_backbone(VIT, seed=0)
    rows = clinic.split("train")
    whole = augmented_features(network, clinic, rows, 2)
    assert torch.equal(whole[3:], augmented_features(network, clinic, rows[3:], 2))


def test_the_first_view_is_the_image_and_views_do_not_depend_on_other_images(
    clinic: Dataset,
) -> None:
    rows = clinic.split("train")
    backbone = build_backbone(VIT, seed=0, trainable_blocks="all")
    values = seen_views(backbone, clinic, rows, 3)
    assert values.shape == (len(rows), 3, 1, 32, 32)
    np.testing.assert_allclose(values[:, 0], load_images(clinic, rows, 32), atol=1e-3)
    np.testing.assert_array_equal(seen_views(backbone, clinic, rows[3:5], 3), values[3:5])
    assert not np.array_equal(values[:, 1], values[:, 2])


def test_tokens_of_views_are_cached(clinic: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clinic.split("train")
    backbone = build_backbone(VIT, seed=0, trainable_blocks=1)
    values = kept_views(backbone, clinic, rows, 3)
    assert [one.shape for one in values if one is not None] == [
        (len(rows), 5, 64),
        (len(rows), 2, 5, 64),
    ]
    monkeypatch.setattr(TransformerBackbone, "trunk", None)
    for again, value in zip(kept_views(backbone, clinic, rows, 3), values, strict=True):
        np.testing.assert_array_equal(again, value)


@pytest.mark.parametrize("order", [None, "turns"])
def test_several_views_of_a_trained_end_are_those_in_one_piece_and_share_their_trunk(
    clinic: Dataset, monkeypatch: pytest.MonkeyPatch, order: str | None
) -> None:
    settings = FeatureSettings(name="test_vit", size_px=32, views=2, view_order=order)
    first, second = (build_backbone(settings, seed=0, trainable_blocks=2) for _ in range(2))
    for parameter in second.trained_state().values():
        parameter.mul_(1.1)
    n_trunks = 0
    trunk = type(first).trunk

    def counted(self: Backbone, images: torch.Tensor) -> torch.Tensor:
        nonlocal n_trunks
        n_trunks += len(images) > 1
        return trunk(self, images)

    expected = [
        features_on_arrays(one)(load_images(clinic, clinic.rows, 32)) for one in (first, second)
    ]
    monkeypatch.setattr(type(first), "trunk", counted)
    found = backbone_features(first, clinic, clinic.rows)
    assert n_trunks > 0
    n_trunks = 0
    assert torch.equal(
        backbone_features(second, clinic, clinic.rows), torch.from_numpy(expected[1])
    )
    assert torch.equal(found, torch.from_numpy(expected[0]))
    tokens, _ = kept_views(second, clinic, clinic.rows, 1)
    assert n_trunks == 0, "what one network's trunk gave was computed again for another"
    alone = settings.model_copy(update={"views": 1, "view_order": None})
    again = build_backbone(alone, seed=0, trainable_blocks=2)
    assert np.array_equal(tokens, kept_views(again, clinic, clinic.rows, 1)[0])


def test_tokens_of_many_images_are_not_kept(
    clinic: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FeatureSettings(name="test_vit", size_px=32, views=2)
    network = build_backbone(settings, seed=0, trainable_blocks=2)
    expected = features_on_arrays(network)(load_images(clinic, clinic.rows, 32))
    monkeypatch.setattr(extract, "_MOST_KEPT", 1)
    found = backbone_features(network, clinic, clinic.rows)
    assert torch.equal(found, torch.from_numpy(expected))
    assert len([*(clinic.private / "features").glob("*.safetensors")]) == 1
