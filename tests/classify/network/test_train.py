import dataclasses
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from made_up import claimed_ledger, token_examples
from torch import Tensor

from classify.features.scaling import plain_scaling
from classify.network.gradients import TokenExamples
from classify.network.top import TrainedTop, trained_network
from classify.network.train import train_network, train_private_network
from classify.settings.network import NetworkSettings, Tune
from synthdp.networks.backbone import build_backbone
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource

SOURCE = NoiseSource(bytes(range(32)))
CLIP = 0.5
RECIPE = NetworkSettings(
    trainable_blocks=1, steps=12, sampling_rate=0.5, lr=1.0, batch=4, block_steps=4, momentum=0.5
)
MECHANISM = Mechanism(
    sampling_rate=0.5, noise_multiplier=0.3, steps=12, normaliser=5, clip_norm=CLIP
)
SHAPE = (5, 64)
examples = partial(token_examples, SHAPE)


def new_top(tune: Tune = "blocks") -> TrainedTop:
    """The last block of a small ViT under a random head, in float32 on any processor."""
    settings = FeatureSettings(name="test_vit", size_px=32)
    built = build_backbone(settings, seed=0, trainable_blocks=1)
    head = torch.randn(2, built.n_features + 1, generator=torch.Generator().manual_seed(5))
    centre = torch.full((built.n_features,), 0.1)
    scaling = dataclasses.replace(plain_scaling(built), centre=centre)
    top = trained_network(built, head, scaling=scaling, precision=torch.float32, tune=tune)
    assert isinstance(top, TrainedTop)
    return top


def train(
    folder: Path,
    data: TokenExamples,
    observe: Callable[[int, Tensor, Tensor], None] = lambda step, weights, released: None,
    recipe: NetworkSettings = RECIPE,
    mechanism: Mechanism = MECHANISM,
) -> Tensor:
    top = new_top(recipe.tune)
    train_private_network(
        top,
        data,
        recipe,
        ledger=claimed_ledger(folder, mechanism, block_steps=RECIPE.block_steps),
        noise_source=SOURCE,
        checkpoints=folder / "checkpoints",
        observe=observe,
    )
    return top.flat()


def test_an_empty_sample_is_a_counted_step_of_noise(tmp_path: Path) -> None:
    data, released = examples(), []
    nobody = TokenExamples(data.tokens[:0], data.targets[:0], data.units[:0], [])
    train(tmp_path, nobody, lambda step, weights, out: released.append(out))
    assert Ledger(tmp_path / "ledger.jsonl").spent_steps == RECIPE.steps
    scale = MECHANISM.noise_scale / MECHANISM.normaliser
    for out in released:
        assert float(out.std()) == pytest.approx(scale, rel=0.05)


@pytest.mark.parametrize("tune", ["blocks", "lora"])
def test_a_clean_stop_resumes_bit_exactly(tmp_path: Path, tune: str) -> None:
    recipe = RECIPE.model_copy(update={"tune": tune})
    whole = train(tmp_path / "whole", examples(), recipe=recipe)

    def stop(step: int, weights: Tensor, released: Tensor) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "torn", examples(), stop, recipe=recipe)
    assert torch.equal(train(tmp_path / "torn", examples(), recipe=recipe), whole)


def test_a_crash_leaves_its_block_spent_and_reuses_no_noise(tmp_path: Path) -> None:
    taken: list[int] = []

    def dying(step: int, weights: Tensor, released: Tensor) -> None:
        taken.append(step)
        if step == 5:
            raise OSError("the machine died")

    with pytest.raises(OSError, match="died"):
        train(tmp_path, examples(), dying)
    train(tmp_path, examples(), lambda step, weights, released: taken.append(step))
    assert taken == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    assert Ledger(tmp_path / "ledger.jsonl").spent_steps == RECIPE.steps


@pytest.mark.parametrize("tune", ["blocks", "lora"])
def test_without_noise_or_clipping_both_trainings_are_the_same(tmp_path: Path, tune: Tune) -> None:
    data, recipe = examples(), RECIPE.model_copy(update={"tune": tune, "lr": 0.1})
    loose = MECHANISM.model_copy(update={"noise_multiplier": 0.0, "clip_norm": 100.0})
    private = train(tmp_path, data, recipe=recipe, mechanism=loose)
    top = new_top(tune)
    train_network(top, data, recipe, normaliser=loose.normaliser, noise_source=SOURCE)
    assert torch.allclose(top.flat(), private, atol=1e-4)  # the steps of the lattice
    n_head = top.head.weight.numel()
    assert (top.flat() - new_top(tune).flat())[:-n_head].norm() > 0.01


def test_noise_and_steps_reach_what_is_trained_and_nothing_else(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"tune": "lora"})
    top, start, released = new_top("lora"), new_top("lora"), []
    train_private_network(
        top,
        examples(),
        recipe,
        ledger=claimed_ledger(tmp_path, MECHANISM, block_steps=RECIPE.block_steps),
        noise_source=SOURCE,
        checkpoints=tmp_path / "checkpoints",
        observe=lambda step, weights, out: released.append(out),
    )
    assert {out.shape for out in released} == {start.flat().shape}
    before = start.state_dict()
    trained = {name for name, p in start.named_parameters() if p.requires_grad}
    moved = {k for k, tensor in top.state_dict().items() if not torch.equal(tensor, before[k])}
    assert moved == trained
    assert trained < before.keys()


def test_the_last_half_is_averaged_and_momentum_kept(tmp_path: Path) -> None:
    steps: list[tuple[Tensor, Tensor]] = []
    average = train(tmp_path, examples(), lambda step, weights, out: steps.append((weights, out)))
    velocity, weights, later = torch.zeros_like(average), steps[0][0], []
    for step, (before, released) in enumerate(steps):
        assert torch.allclose(before, weights, atol=1e-6)
        velocity = RECIPE.momentum * velocity + released
        weights = weights - RECIPE.lr * velocity
        if step >= RECIPE.steps // 2:
            later.append(weights)
    assert torch.allclose(average, torch.stack(later).mean(dim=0), atol=1e-5)
