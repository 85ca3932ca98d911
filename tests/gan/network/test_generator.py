import pytest
import torch
import torch.nn.functional as F

from gan.network.discriminator import Discriminator
from gan.network.generator import Generator
from gan.network.layers import (
    NoisyConvolution,
    append_batch_deviation,
    band_scales,
    stage_count,
)

CHANNELS = {32: (16, 12, 8), 64: (16, 12, 8, 8), 128: (16, 12, 8, 8, 8)}


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_generator_joins_the_bands_that_a_discriminator_splits_and_keeps_energy(
    levels: int,
) -> None:
    channels = CHANNELS[32][: stage_count(32, levels)]
    images = torch.rand(3, 1, 32, 32, generator=rng()) * 2 - 1
    bands = Discriminator(channels, levels).bands(images)
    assert bands.shape == (3, 4**levels, 32 // 2**levels, 32 // 2**levels)
    synthesis = Generator(32, channels, 8, levels).synthesis
    joined = F.conv_transpose2d(bands, synthesis, stride=2**levels)
    torch.testing.assert_close(joined, images, atol=1e-6, rtol=0)
    plain = bands / band_scales(levels)
    torch.testing.assert_close(plain.square().sum(), images.square().sum())


def test_a_flat_image_has_only_its_average_band() -> None:
    for levels, average in ((1, 1.0), (2, 2.0)):
        discriminator = Discriminator((8,) * stage_count(32, levels), levels)
        bands = discriminator.bands(torch.full((1, 1, 32, 32), 0.5)) / band_scales(levels)
        assert bool((bands[:, 0] == average).all())
        assert bands[:, 1:].abs().max() == 0
        assert band_scales(levels).shape == (1, 4**levels, 1, 1)


@pytest.mark.parametrize(("size_px", "levels"), [(32, 1), (64, 1), (128, 1), (32, 2), (128, 2)])
def test_shapes_and_gradients(size_px: int, levels: int) -> None:
    channels = CHANNELS[size_px][: stage_count(size_px, levels)]
    assert len(channels) == stage_count(size_px, 1) + 1 - levels
    generator = Generator(size_px, channels, z_dim=8, haar_levels=levels)
    discriminator = Discriminator(channels, levels)
    z = torch.randn(4, 8, generator=rng())
    noise = torch.randn(4, generator.noise_dim, generator=rng())
    labels = torch.tensor([0, 1, 0, 1])
    images = generator(z, noise, labels)
    assert images.shape == (4, 1, size_px, size_px)
    assert images.abs().max() < 10
    logits = discriminator(images, labels)
    assert logits.shape == (4,)
    logits.sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert bool(parameter.grad.isfinite().all()), name


def test_the_class_counts_only_as_far_as_it_is_told() -> None:
    generator, discriminator = Generator(32, CHANNELS[32], 8), Discriminator(CHANNELS[32])
    z = torch.randn(2, 8, generator=rng())
    noise = torch.randn(2, generator.noise_dim, generator=rng())
    benign, malignant = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.long)
    images = generator(z, noise, benign, 0.0)
    assert torch.equal(images, generator(z, noise, malignant, 0.0))
    assert not torch.allclose(images, generator(z, noise, malignant, 1.0))
    logits = discriminator(images, benign, 0.0)
    assert torch.equal(logits, discriminator(images, malignant, 0.0))
    assert not torch.allclose(logits, discriminator(images, malignant, 1.0))


def test_doubling_is_nearest_neighbour_then_convolution() -> None:
    layer = NoisyConvolution(4, 8, side=16, style_dim=8, doubles=True)
    features = torch.randn(2, 4, 8, 8, generator=rng())
    style = torch.randn(2, 8, generator=rng())
    enlarged = F.interpolate(features, scale_factor=2.0, mode="nearest")
    expected = layer.modulation(F.conv2d(enlarged, layer.kernel, padding=1), style)
    found = layer(features, torch.zeros(2, 256), style)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_batch_deviation_shows_sameness() -> None:
    same = append_batch_deviation(torch.ones(8, 3, 2, 2))
    varied = append_batch_deviation(torch.randn(8, 3, 2, 2, generator=rng()))
    assert same.shape == (8, 4, 2, 2)
    assert same[:, 3].max() < 1e-3
    assert varied[:, 3].min() > 0.1
    assert append_batch_deviation(torch.ones(6, 3, 2, 2)).shape == (6, 4, 2, 2)
