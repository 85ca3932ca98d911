"""What a frozen public network adds to the adversarial training of a generator.

Heads on its feature maps judge realism; running moments of its features, and of the power spectrum
of the images, are matched to the real ones. The heads make images realistic and of their class; the
moments keep them varied and finely detailed. All of it reads real images without noise.

Heads: a second discriminator, on frozen public features of the images (projected GAN). It gives the
generator what a small set of images can't teach a network from scratch: what tissue and edges look
like. Sauer et al., arXiv 2111.01007; here the loss compares real and generated images of one class,
and each of the four heads takes the class by projection.

Moments: the first two of frozen features, and the mean power spectrum. A batch is too small to show
either, so running means of both sides stand in for them: the gradient of half the squared
difference of E f(G(z)) and its target is their difference times the gradient of f, whatever the
size of the batch (dos Santos et al., arXiv 1904.02762). A squared difference of batch means would
be smallest where all images are alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.network.facts import FIRST_SIDE
from gan.network.layers import NEGATIVE_SLOPE, ClassEmbedding, append_batch_deviation
from gan.settings.parts import GuidanceSettings
from gan.training.examples import Examples
from gan.training.losses import relativistic_loss
from synthdp.data.looks.spectrum import hann_window, spectrum_masks
from synthdp.networks.frozen import build_pyramid, channel_moments

#: How fast the running means forget: of the generator, which moves, and of the real images.
GENERATED_DECAY, REAL_DECAY = 0.95, 0.98
GENERATED_SPECTRUM_DECAY, REAL_SPECTRUM_DECAY = 0.98, 0.999
#: Bounds on single differences, so that a few far features don't outweigh the others.
MAX_FIRST, MAX_SECOND, MAX_LOG_RATIO = 1.0, 2.0, 1.0
#: Weight of the second moments beside the first.
_SECOND_WEIGHT = 0.25
#: Added to the features' standard deviations, so that a dead channel is not blown up.
_FLOOR = 1e-3


class Guidance:
    """The state of the guidance: heads with their optimiser, and running means of both sides.

    Args:
        settings: the network and the weights of the parts.
        size_px: side of the images.
        seed: drives the heads' start.
        device: where the images are.
        findings: how many findings an image may have.

    Raises:
        InputError: when the network's weights are missing or of another sha256.
    """

    def __init__(
        self,
        settings: GuidanceSettings,
        size_px: int,
        seed: int,
        device: torch.device,
        findings: int = 1,
    ) -> None:
        self.settings = settings
        self.pyramid = build_pyramid(settings.features, size_px, setting="guidance.features").to(
            device
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 2)
            pyramid = self.pyramid
            heads = ProjectedHeads(pyramid.widths, pyramid.sides, settings.width, findings)
        self.heads = heads.to(device)
        self.modules: dict[str, torch.nn.Module] = {"heads": self.heads}
        self.optimiser = torch.optim.Adam(
            self.heads.parameters(), lr=settings.projected_lr, betas=(0.0, 0.99), fused=True
        )
        self.spectrum = BinnedSpectrum(size_px, device)
        self.means = {
            "generated": RunningMean(GENERATED_DECAY),
            "real": RunningMean(REAL_DECAY),
            "generated_spectrum": RunningMean(GENERATED_SPECTRUM_DECAY),
            "real_spectrum": RunningMean(REAL_SPECTRUM_DECAY),
        }

    def is_due(self, step: int, progress: float) -> bool:
        """Whether the frozen network is asked in this step, at this share of the training."""
        due = step % self.settings.interval == 0
        return due and self.settings.strength_at(progress) > 0

    def loss(
        self,
        real: Examples,
        fake: Tensor,
        views: tuple[Tensor, Tensor],
        *,
        step: int,
        progress: float,
        class_strength: float,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What is added to the generator's loss in a step, and figures for the log.

        Args:
            real: the batch, whose labels both sides share.
            fake: (B, 1, S, S), the generated images; gradients flow to them.
            views: the real and the generated images as augmented.
            step: number of the step.
            progress: share of the training that is done.
            class_strength: how much the class counts, 0 to 1.
        """
        loss = self._match_spectrum(real.images, fake)
        if not self.is_due(step, progress):
            return loss, {}
        of_network, metrics = self.match_features(
            *views, real.labels, class_strength=class_strength
        )
        weight = self.settings.strength_at(progress) * self.settings.interval
        return loss + weight * of_network, metrics

    def _match_spectrum(self, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted loss of the spectrum; images as they were before any view."""
        batch = self.spectrum(fake)
        generated = self.means["generated_spectrum"].update(batch)
        target = self.means["real_spectrum"].update(self.spectrum(real))
        return self.settings.spectrum_weight * spectrum_loss(batch, generated, target)

    def match_features(
        self, real_view: Tensor, fake_view: Tensor, labels: Tensor, *, class_strength: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Move the heads once; the generator's loss by heads and moments, and figures for the log.

        Args:
            real_view: (B, 1, S, S), the real images as augmented.
            fake_view: (B, 1, S, S), the generated ones; gradients flow to them.
            labels: (B,) or (B, T), the same for both.
            class_strength: how much the class counts, 0 to 1.
        """
        fake_maps = self.pyramid(fake_view)
        with torch.no_grad():
            real_maps = self.pyramid(real_view)
        condition = (labels, class_strength)
        cut_off = [features.detach() for features in fake_maps]
        heads_loss = paired_loss(self.heads(real_maps, *condition), self.heads(cut_off, *condition))
        self.optimiser.zero_grad()
        heads_loss.backward()
        self.optimiser.step()

        self.heads.requires_grad_(False)
        projected = paired_loss(
            self.heads(fake_maps, *condition), self.heads(real_maps, *condition)
        )
        self.heads.requires_grad_(True)
        moments, gap = self._match_moments(real_maps, fake_maps, labels)
        weights = self.settings
        return weights.projected_weight * projected + weights.moments_weight * moments, {
            "loss_heads": heads_loss.detach(),
            "loss_projected": projected.detach(),
            "moment_gap": gap,
        }

    def _match_moments(
        self, real_maps: list[Tensor], fake_maps: list[Tensor], labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch = class_moments(channel_moments(fake_maps), labels)
        real = class_moments(channel_moments(real_maps), labels)
        absent = absent_classes(labels)
        generated = self.means["generated"].update(batch, absent)
        target = self.means["real"].update(real, absent)
        batch, generated, target = (
            _standardised(moments, target) for moments in (batch, generated, target)
        )
        gap = (generated - target)[0].square().mean().sqrt().detach()
        return moment_loss(batch, generated, target), gap

    def state(self) -> dict[str, Any]:
        """All but the heads' weights, for a checkpoint."""
        means = {name: (mean.value, mean.count) for name, mean in self.means.items()}
        return {"optimiser": self.optimiser.state_dict(), "means": means}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.optimiser.load_state_dict(state["optimiser"])
        for name, (value, count) in state["means"].items():
            self.means[name].value, self.means[name].count = value, count


class ScaleHead(nn.Module):
    """A logit from one feature map: fixed random mixing of channels, then small convolutions.

    Args:
        channels: C of the map.
        side: its height and width.
        width: channels after mixing.
        class_std: standard deviation of the class directions at the start.
        findings: how many findings an image may have.
    """

    mixing: Tensor

    def __init__(
        self, channels: int, side: int, width: int, class_std: float = 0.1, findings: int = 1
    ) -> None:
        super().__init__()
        self.register_buffer("mixing", torch.randn(width, channels, 1, 1) / math.sqrt(channels))
        layers: list[nn.Module] = []
        while side > FIRST_SIDE:
            layers += [nn.Conv2d(width, width, 4, 2, 1), nn.LeakyReLU(NEGATIVE_SLOPE)]
            side = (side + 1) // 2
        self.body = nn.Sequential(*layers)
        self.hidden = nn.Conv2d(width + 1, width, min(side, FIRST_SIDE))
        self.realness = nn.Linear(width, 1)
        self.class_direction = ClassEmbedding(findings, width, std=class_std)

    def forward(self, features: Tensor, labels: Tensor, class_strength: float) -> Tensor:
        """Features (B, C, s, s), labels (B,) or (B, T) -> logits (B,)."""
        mixed = self.body(F.conv2d(features, self.mixing))
        hidden = self.hidden(append_batch_deviation(mixed)).mean(dim=(2, 3))
        hidden = F.leaky_relu(hidden, NEGATIVE_SLOPE).float()
        of_class = (self.class_direction(labels) * hidden).sum(dim=1)
        logits: Tensor = self.realness(hidden).squeeze(1) + class_strength * of_class
        return logits


class ProjectedHeads(nn.Module):
    """One head for each map of a `FrozenPyramid`."""

    def __init__(
        self, widths: Sequence[int], sides: Sequence[int], width: int, findings: int = 1
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            ScaleHead(channels, side, width, findings=findings)
            for channels, side in zip(widths, sides, strict=True)
        )

    def forward(
        self, maps: Sequence[Tensor], labels: Tensor, class_strength: float
    ) -> list[Tensor]:
        """One map (B, C, s, s) for each head -> one vector of logits (B,) each."""
        return [
            head(features, labels, class_strength)
            for head, features in zip(self.heads, maps, strict=True)
        ]


def paired_loss(preferred: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """The mean over heads of the relativistic loss of their logits, (B,) each."""
    by_head = [relativistic_loss(a, b) for a, b in zip(preferred, other, strict=True)]
    return torch.stack(by_head).mean()


def class_moments(features: Tensor, labels: Tensor) -> Tensor:
    """Means of features (B, D) and of their squares, for benign and malignant: (2, 2, D).

    The first axis is the moment, the second the class; both classes must occur in labels (B,).
    Of several findings (B, T) the second axis has both classes of each, 2 T; one that no image of
    the batch has stands for the whole batch, and no gradient comes of it.
    """
    powers = torch.stack([features, features.square()])
    if labels.ndim == 2:
        members = _members(labels).to(powers)
        count = members.sum(dim=0)[:, None]
        means = torch.einsum("bk,mbd->mkd", members, powers) / count.clamp(min=1)
        return torch.where(count > 0, means, powers.detach().mean(dim=1)[:, None])
    return torch.stack([powers[:, labels == value].mean(dim=1) for value in (0, 1)], dim=1)


def _members(labels: Tensor) -> Tensor:
    """Which images are of which class (B, 2 T), of labels (B, T): 0 and 1 of each finding."""
    return torch.stack([labels == 0, labels == 1], dim=2).flatten(1)


def absent_classes(labels: Tensor) -> Tensor | None:
    """Which classes no image of a batch has, (2 T, 1); None of a single target, which has both."""
    return None if labels.ndim == 1 else ~_members(labels).any(dim=0)[:, None]


def moment_loss(batch: Tensor, generated: Tensor, target: Tensor) -> Tensor:
    """A loss whose gradient moves the generator's moments to the target.

    Args:
        batch: (2, 2, D) of the generated images at hand, by `class_moments`; carries the gradient.
        generated: (2, 2, D), running mean of the same.
        target: (2, 2, D).

    Returns:
        A scalar: its gradient counts, not its value. Single differences are bounded, so that a few
        far features don't outweigh the others.
    """
    gap = (generated - target).detach()
    first = gap[0].clamp(-MAX_FIRST, MAX_FIRST) * batch[0]
    second = gap[1].clamp(-MAX_SECOND, MAX_SECOND) * batch[1]
    return first.mean() + _SECOND_WEIGHT * second.mean()


@dataclass
class RunningMean:
    """A mean that forgets: plain over the first calls, exponential after, of weight 1 - decay."""

    decay: float
    value: Tensor | None = None
    count: Any = 0  # how often: a number, or a tensor where parts may be absent

    def update(self, new: Tensor, absent: Tensor | None = None) -> Tensor:
        """Take in one more tensor, detached; returns the mean so far.

        Where something is `absent`, by a mask that the tensor's shape is broadcast from, the mean
        stays as it was, and what it was at first counts for nothing.
        """
        new = new.detach()
        if absent is not None:
            return self._update_present(new, absent)
        self.count += 1
        if self.value is None:
            self.value = new.clone()
        else:
            self.value = self.value + max(1 - self.decay, 1 / self.count) * (new - self.value)
        return self.value

    def _update_present(self, new: Tensor, absent: Tensor) -> Tensor:
        self.count = self.count + (~absent).long()
        if self.value is None:
            self.value = new.clone()
        rate = (1 / self.count.clamp(min=1)).clamp(min=1 - self.decay)
        self.value = torch.where(absent, self.value, self.value + rate * (new - self.value))
        return self.value


class BinnedSpectrum:
    """Mean power of windowed images in the radial, vertical and horizontal bins of a spectrum.

    Args:
        size_px: S, the side of the images.
        device: of the images to come.
    """

    def __init__(self, size_px: int, device: torch.device) -> None:
        line = torch.from_numpy(hann_window(size_px).astype(np.float32))
        self.window = torch.outer(line, line).to(device)
        masks = [torch.from_numpy(mask).flatten().float() for _, mask in spectrum_masks(size_px)]
        self.bins = torch.stack([mask / mask.sum() for mask in masks]).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) -> mean power over the batch in each bin, (K,)."""
        return self.of_each(images).mean(dim=0)

    def of_each(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) -> power of each image in each bin, (B, K)."""
        grey = images[:, 0].float()
        centred = (grey - grey.mean(dim=(1, 2), keepdim=True)) * self.window
        spectrum = torch.fft.fft2(centred)
        power = spectrum.real.square() + spectrum.imag.square()
        binned: Tensor = power.flatten(1) @ self.bins.T
        return binned


def spectrum_loss(batch: Tensor, generated: Tensor, target: Tensor) -> Tensor:
    """A loss whose gradient moves log mean powers (K,) to the target; arguments as `moment_loss`.

    d/dP of half the squared log ratio is log(P / target) / P.
    """
    log_ratio = (generated / target).log().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return ((log_ratio / generated).detach() * batch).mean()


def _standardised(moments: Tensor, target: Tensor) -> Tensor:
    """Moments (2, 2, D) of features as if these had mean 0 and variance 1 on the target's side."""
    mean, square = target.mean(dim=1)
    scale = (square - mean.square()).clamp(min=0).sqrt() + _FLOOR
    first, second = moments
    centred_square = second - 2 * mean * first + mean.square()
    return torch.stack([(first - mean) / scale, centred_square / scale.square()])
