from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from classify.network.descent import Descent
from classify.settings.network import NetworkSettings
from synthdp.checkpoint import load_checkpoint, save_checkpoint

SIZE, STEPS = 7, 12
UNITS = torch.tensor([0.01] * 4 + [1.0] * 3)


def recipe(**changes: Any) -> NetworkSettings:
    values = {"steps": STEPS, "lr": 0.05, "average_from": 0.5, "optimizer": "nadam", **changes}
    return NetworkSettings.model_validate(values)


def gradients() -> Tensor:
    return torch.randn(STEPS, SIZE, generator=torch.Generator().manual_seed(1))


def start() -> Tensor:
    return torch.linspace(-1, 1, SIZE)


def descended(asked: NetworkSettings, steps: range = range(STEPS)) -> Descent:
    descent = Descent(start(), UNITS, asked)
    for step in steps:
        descent.take(gradients()[step], step)
    return descent


def test_nadam_is_that_of_torch_on_weights_over_their_units() -> None:
    scaled = torch.nn.Parameter(start() / UNITS)
    optimizer = torch.optim.NAdam([scaled], lr=0.05, betas=(0.9, 0.999))
    for gradient in gradients():
        scaled.grad = gradient.clone()
        optimizer.step()
    weights = descended(recipe()).weights
    assert torch.allclose(weights, (scaled * UNITS).detach(), rtol=1e-5, atol=1e-6)


def test_a_step_of_nadam_is_as_long_as_its_rate_whatever_the_gradient() -> None:
    for size in (1e-3, 1e3):
        descent = Descent(start(), UNITS, recipe())
        descent.take(size * torch.ones(SIZE), 0)
        moved = (descent.weights - start()) / UNITS
        assert 0.02 < float(moved.abs().min()) <= float(moved.abs().max()) < 0.1


def test_momentum_is_a_sum_of_gradients_that_fades() -> None:
    velocity, weights = torch.zeros(SIZE), start()
    for gradient in gradients():
        velocity = 0.9 * velocity + gradient
        weights = weights - 0.05 * UNITS * velocity
    for optimizer in (None, "sgd"):
        assert torch.equal(descended(recipe(optimizer=optimizer)).weights, weights)


def iterates(asked: NetworkSettings) -> list[Tensor]:
    return [descended(asked, range(step + 1)).weights for step in range(STEPS)]


def test_the_later_iterates_are_averaged_evenly_or_exponentially() -> None:
    later = torch.stack(iterates(recipe())[STEPS // 2 :])
    assert torch.allclose(descended(recipe()).result, later.mean(dim=0), atol=1e-6)
    expected = later[0]
    for one in later[1:]:
        expected = 0.8 * expected + 0.2 * one
    exponential = descended(recipe(average_decay=0.8)).result
    assert torch.allclose(exponential, expected, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "nadam"])
def test_it_goes_on_from_a_checkpoint_to_the_bit(tmp_path: Path, optimizer: str) -> None:
    asked = recipe(optimizer=optimizer, average_decay=0.9)
    whole, half = descended(asked), descended(asked, range(8))
    save_checkpoint(tmp_path, 8, half.tensors, half.state)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    resumed = Descent(torch.zeros(SIZE), UNITS, asked)
    resumed.load(checkpoint)
    for step in range(8, STEPS):
        resumed.take(gradients()[step], step)
    assert torch.equal(resumed.weights, whole.weights)
    assert torch.equal(resumed.result, whole.result)


def test_a_rate_of_sgd_is_refused_for_nadam() -> None:
    with pytest.raises(ValueError, match="steps of nadam are as long as lr"):
        NetworkSettings(optimizer="nadam")
