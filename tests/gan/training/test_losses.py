import math

import torch
from torch import Tensor

from gan.network.discriminator import Discriminator
from gan.training.losses import (
    gradient_penalty,
    non_saturating_discriminator_loss,
    non_saturating_generator_loss,
    relativistic_loss,
)


def test_relativistic_loss_ranks_pairs() -> None:
    even = torch.zeros(4)
    assert math.isclose(float(relativistic_loss(even, even)), math.log(2), rel_tol=1e-6)
    assert relativistic_loss(even + 9, even) < 0.001
    assert relativistic_loss(even, even + 9) > 8.9
    shifted = relativistic_loss(even + 100, even + 100)  # only differences count
    torch.testing.assert_close(shifted, relativistic_loss(even, even))


def test_non_saturating_losses() -> None:
    real, fake = torch.full((4,), 5.0), torch.full((4,), -5.0)
    assert non_saturating_discriminator_loss(real, fake) < 0.02
    assert non_saturating_generator_loss(fake) > 5
    assert non_saturating_generator_loss(real) < 0.01


class Linear(Discriminator):
    """logit = 3 * (sum of the bands): its gradient is 3 everywhere."""

    def judge(self, bands: Tensor, *_: object) -> Tensor:
        return 3 * bands.sum(dim=(1, 2, 3))


def test_gradient_penalty_of_a_linear_critic() -> None:
    images, labels = torch.zeros(2, 1, 32, 32), torch.zeros(2, dtype=torch.long)
    penalty = gradient_penalty(Linear((8, 8, 8)), images, labels, 1.0)
    torch.testing.assert_close(penalty.detach(), torch.tensor(9.0 * 4 * 16 * 16))


def test_gradient_penalty_trains_the_discriminator_alone() -> None:
    discriminator = Discriminator((8, 8, 8))
    images = torch.rand(4, 1, 32, 32, requires_grad=True)
    gradient_penalty(discriminator, images, torch.tensor([0, 1, 0, 1]), 1.0).backward()
    assert images.grad is None
    assert discriminator.realness.weight.grad is not None
