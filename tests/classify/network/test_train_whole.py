"""Training of a network whole, on images: what each patient adds, and how it stops and goes on."""

import os
import signal
from pathlib import Path

import pytest
import torch
from made_up import claimed_ledger
from torch import Tensor

from classify.network.gradients import PatientGradients
from classify.network.images import ImageExamples, step_views
from classify.network.top import TrainedNetwork, trained_network
from classify.network.train import train_private_network
from classify.settings.network import NetworkSettings
from synthdp.networks.backbone import build_backbone
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource
from tests.classify.network.test_images import SIDE, image_examples, without

CLIP = 0.05
RECIPE = NetworkSettings.model_validate(
    {
        "trainable_blocks": "all",
        "steps": 6,
        "sampling_rate": 0.5,
        "optimizer": "nadam",
        "lr": 0.02,
        "augment": {"flip": True},
        "max_images": 2,
        "average_decay": 0.9,
        "block_steps": 2,
    }
)
MECHANISM = Mechanism(
    sampling_rate=0.5, noise_multiplier=0.3, steps=6, normaliser=3, clip_norm=CLIP
)


def new_network() -> TrainedNetwork:
    """A small network of GroupNorm under a random head, all of it trained, in float32."""
    settings = FeatureSettings(name="test_efficientnet_gn", size_px=16, precision="float32")
    built = build_backbone(settings, seed=0, trainable_blocks="all")
    head = torch.randn(1, built.n_features + 1, generator=torch.Generator().manual_seed(5))
    return trained_network(built, head, scaling=None, scale=0.1, precision=torch.float32)


def summed(network: TrainedNetwork, data: ImageExamples) -> Tensor:
    drawn = torch.arange(len(data.tags))
    views = step_views(data, drawn, 3, fresh=True, max_images=3)
    return PatientGradients(network).clipped_sum(data, views, clip_norm=CLIP, batch=2)


def test_a_patient_moves_a_sum_by_the_clip_norm_and_nobody_elses_share() -> None:
    network, data = new_network(), image_examples()
    whole = summed(network, data)
    for gone in (1, 4):
        moved = whole - summed(network, without(data, gone))
        assert 0 < float(moved.norm()) <= CLIP
        alone = data
        for other in reversed([unit for unit in range(6) if unit != gone]):
            alone = without(alone, other)
        # but for one rounding of the sum to its lattice, the move is what the patient gives alone
        step = 2.0**-20 * CLIP
        assert float((moved - summed(network, alone)).abs().max()) <= 2 * step


def trained(folder: Path, stop_at: int | None = None) -> Tensor:
    network = new_network()

    def stop(step: int, weights: Tensor, released: Tensor) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    train_private_network(
        network,
        image_examples(),
        RECIPE,
        ledger=claimed_ledger(folder, MECHANISM, block_steps=2),
        noise_source=NoiseSource(bytes(range(32))),
        checkpoints=folder / "checkpoints",
        seed=1,
        observe=stop,
    )
    return network.flat()


def test_a_clean_stop_resumes_bit_exactly(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "torn", stop_at=3)
    assert torch.equal(trained(tmp_path / "torn"), whole)


def test_the_side_of_these_images_is_none_of_the_networks() -> None:
    """Convolutions take any side: tests are fast on a small one."""
    assert new_network()(torch.zeros(2, 1, SIDE, SIDE)).shape == (2, 1)
