from pathlib import Path

import pytest

from synthdp.networks.settings import FeatureSettings
from synthdp.networks.speed import seconds_a_view, training_speed


def test_what_a_network_takes_is_measured_once_and_grows_with_what_it_sees() -> None:
    small = FeatureSettings(name="vit_tiny_patch16_224", size_px=64)
    large = small.model_copy(update={"size_px": 160})
    assert 0 < 2 * seconds_a_view(small) < seconds_a_view(large)  # 16 patches, and 100
    elsewhere = small.model_copy(update={"weights": Path("hub"), "views": 8, "whiten": 0.5})
    assert seconds_a_view(elsewhere) == seconds_a_view(small)
    volumes = small.model_copy(update={"axes": (0, 2), "slices": 5})
    assert seconds_a_view(volumes) == pytest.approx(10 * seconds_a_view(small))


def test_a_gradient_takes_longer_than_a_view_and_counts_the_weights_that_move() -> None:
    network = FeatureSettings(name="vit_tiny_patch16_224", size_px=160)
    whole, blocks = training_speed(network, "all"), training_speed(network, 2)
    assert whole.seconds > seconds_a_view(network)
    assert whole.seconds > 2 * blocks.seconds  # of 12 blocks
    assert whole.millions == pytest.approx(5.5, rel=0.05)
    assert blocks.millions == pytest.approx(2 * 0.445, rel=0.05)
    assert (whole.keeps_tokens, blocks.keeps_tokens) == (False, True)
