"""Adversarial losses and the gradient penalty."""

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from gan.network.dcgan import DcganDiscriminator
from gan.network.discriminator import Discriminator

AnyDiscriminator: TypeAlias = Discriminator | DcganDiscriminator


def relativistic_loss(preferred: Tensor, other: Tensor) -> Tensor:
    """Mean of softplus(other - preferred) over pairs of logits (B,): near 0 when all is in order.

    The discriminator prefers the real image of a pair, the generator its own; both of a pair have
    the same class. Source: Huang et al., arXiv 2501.05441, eq. 2 (RpGAN).
    """
    return F.softplus(other - preferred).mean()


def non_saturating_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Cross-entropy of real against generated logits (B,) (Goodfellow et al., arXiv 1406.2661)."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def non_saturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """The generator's side of the cross-entropy with its gradient kept alive, logits (B,)."""
    return F.softplus(-fake_logits).mean()


def noisy_target_discriminator_loss(
    real_logits: Tensor, fake_logits: Tensor, targets: Tensor
) -> Tensor:
    """Binary cross-entropy of real logits (B,) against targets (B,), of generated ones against 0.

    Targets above 1, as the baseline draws them, make its first term unbounded below: the
    discriminator is paid to saturate. As in torch's BCELoss, no logarithm goes below -100.
    """
    confirmed = F.softplus(-real_logits).clamp(max=100)
    denied = F.softplus(real_logits).clamp(max=100)
    real_loss = targets * confirmed + (1 - targets) * denied
    return real_loss.mean() + F.softplus(fake_logits).clamp(max=100).mean()


def gradient_penalty(
    discriminator: AnyDiscriminator,
    images: Tensor,
    labels: Tensor,
    class_strength: float,
    attributes: Tensor | None = None,
) -> Tensor:
    """Mean squared norm of the logit's gradient with respect to the scaled Haar bands of the image.

    On real images this is R1, on generated ones R2, each to be weighted by gamma / 2
    (Mescheder et al., arXiv 1801.04406, eq. 9 and 10). There it is taken with respect to pixels;
    here that would weigh the finest band 256 times and hold the discriminator still.

    Args:
        images: (B, 1, H, W) float32; gradients stop at them.
        labels: (B,) int64.
        attributes: (B, A) int64 codes.
    """
    points = discriminator.bands(images.detach()).requires_grad_()
    logits = discriminator.judge(points, labels, class_strength, attributes)
    (gradient,) = torch.autograd.grad(logits.sum(), points, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
