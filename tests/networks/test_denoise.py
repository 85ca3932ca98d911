"""Noise taken out of one image at a time: what shows none stays, and nobody else matters."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from synthdp.data.phantoms.phantoms import draw_patient
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.networks.backbone import build_backbone
from synthdp.networks.denoise import (
    LARGEST_PX,
    LEAST_NOISE,
    SMALLEST_PX,
    denoised,
    noise_level,
    preparation,
    resampled_for,
)
from synthdp.networks.settings import FeatureSettings

PLAIN = FeatureSettings(name="test_efficientnet", size_px=32, precision="float32")
AUTO = PLAIN.model_copy(update={"denoise": "auto"})


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    settings = PhantomSettings(out=tmp_path_factory.mktemp("none"), size_px=64)
    patches = [draw_patient(settings, index).patches[0].pixels for index in range(6)]
    return torch.from_numpy(np.stack(patches)).float()[:, None] / 127.5 - 1


def noisy(images: Tensor, sd: float) -> Tensor:
    """With white noise of so much of the range, in whole greys."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(7))
    greys = ((images + 1 + 2 * sd * noise) * 127.5).round().clamp(0, 255)
    return greys / 127.5 - 1


@pytest.mark.parametrize("sd", [0.02, 0.04, 0.08])
def test_the_level_is_that_of_the_noise(phantoms: Tensor, sd: float) -> None:
    assert noise_level(noisy(phantoms, sd)).numpy() == pytest.approx(sd, rel=0.25)


def test_clean_images_stay_as_they_are_to_the_bit(phantoms: Tensor) -> None:
    assert noise_level(phantoms).max() < LEAST_NOISE
    assert torch.equal(denoised(phantoms), phantoms)
    prepare = preparation(AUTO)
    assert prepare is not None
    image = phantoms[0, 0].numpy()
    assert prepare(image) is image
    assert preparation(PLAIN) is None


@pytest.mark.parametrize(("sd", "left"), [(0.02, 0.7), (0.04, 0.5), (0.08, 0.4)])
def test_noisy_images_come_nearer_to_clean_ones(phantoms: Tensor, sd: float, left: float) -> None:
    before = noisy(phantoms, sd)
    after = denoised(before)
    far, near = ((one - phantoms).square().mean().sqrt() for one in (before, after))
    assert near < left * far


@torch.inference_mode()
def test_features_come_nearer_too(phantoms: Tensor) -> None:
    network = build_backbone(AUTO, seed=0)

    def features(settings: FeatureSettings, images: Tensor) -> Tensor:
        seen = [resampled_for(settings, image) for image in images[:, 0].numpy()]
        return network(torch.from_numpy(np.stack(seen))[:, None])

    clean = features(PLAIN, phantoms)
    assert torch.equal(features(AUTO, phantoms), clean)
    with_noise = noisy(phantoms, 0.06)
    far, near = ((features(one, with_noise) - clean).norm() for one in (PLAIN, AUTO))
    assert near < 0.8 * far


def test_nothing_jumps_where_the_filter_sets_in(phantoms: Tensor) -> None:
    noise = torch.randn(phantoms[:1].shape, generator=torch.Generator().manual_seed(3))
    images = torch.cat([phantoms[:1] + 2 * sd * noise for sd in np.linspace(0.005, 0.02, 40)])
    moved = (denoised(images) - images).square().mean(dim=(1, 2, 3)).sqrt()
    assert moved[0] == 0
    assert moved[-1] > 0.01
    assert (moved[1:] - moved[:-1]).abs().max() < 0.005


def test_an_image_is_filtered_by_itself(phantoms: Tensor) -> None:
    images = noisy(phantoms, 0.04)
    whole = denoised(torch.cat([images, phantoms]))
    for index, image in enumerate(images):
        torch.testing.assert_close(whole[index], denoised(image[None])[0], atol=1e-5, rtol=0)
        alone = resampled_for(AUTO, image[0].numpy())
        assert np.array_equal(alone, resampled_for(AUTO, image[0].numpy().copy()))


def test_padding_hides_no_noise_and_is_none() -> None:
    grey = noisy(torch.zeros(1, 1, 64, 64), 0.04)
    padded = torch.full((1, 1, 96, 96), -1.0)
    padded[:, :, 16:80, 16:80] = grey
    assert noise_level(padded).item() == pytest.approx(0.04, rel=0.12)
    inside = denoised(padded)[:, :, 24:72, 24:72]
    assert inside.std() < 0.6 * grey.std()
    black = torch.full((2, 1, 32, 32), -1.0)
    assert noise_level(black).tolist() == [0, 0]
    assert torch.equal(denoised(black), black)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_that_is_no_number_changes_no_other(phantoms: Tensor, value: float) -> None:
    images = noisy(phantoms, 0.04)
    known = denoised(images)
    images[0, 0, 5, 5] = value
    assert torch.equal(denoised(images)[1:], known[1:])


def test_large_images_are_filtered_at_a_side_that_networks_take() -> None:
    side, prepare = LARGEST_PX + 88, preparation(AUTO)
    assert prepare is not None
    ramp = np.tile(np.linspace(-0.5, 0.5, side, dtype=np.float32), (side, 1))
    assert prepare(ramp) is ramp
    rough = ramp + 0.2 * np.random.default_rng(0).standard_normal(ramp.shape, dtype=np.float32)
    assert prepare(rough).shape == (LARGEST_PX, LARGEST_PX)
    small = rough[: SMALLEST_PX - 1, : SMALLEST_PX - 1]
    assert prepare(small) is small


def test_what_it_is_not_for_is_refused() -> None:
    with pytest.raises(InputError, match="denoise: is for a head on a frozen network"):
        build_backbone(FeatureSettings(name="test_vit", size_px=32, denoise="auto"), seed=0,
                       trainable_blocks=1)  # fmt: skip
    with pytest.raises(ValidationError, match="denoise: is of flat images"):
        FeatureSettings(name="test_vit", size_px=32, denoise="auto", axes=(0,))


def test_features_kept_before_it_keep_their_name() -> None:
    assert "denoise" not in PLAIN.model_dump(mode="json")
    assert FeatureSettings.model_validate(AUTO.model_dump()).denoise == "auto"
    plain, auto = build_backbone(PLAIN, seed=0), build_backbone(AUTO, seed=0)
    assert plain.identity() != auto.identity()
    assert plain.trunk_identity() != auto.trunk_identity()
