"""Matching what generated images have in common to what real ones have, class by class.

The first two moments of frozen features, and the mean power spectrum. A batch is too small to show
either, so running means of both sides stand in for them: the gradient of half the squared
difference of E f(G(z)) and its target is their difference times the gradient of f, whatever the
size of the batch (dos Santos et al., arXiv 1904.02762). A squared difference of batch means would
be smallest where all images are alike.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synthdp.data.spectrum import spectrum_masks

MAX_FIRST, MAX_SECOND, MAX_LOG_RATIO = 1.0, 2.0, 1.0
_SECOND_WEIGHT = 0.25


def class_moments(features: Tensor, labels: Tensor) -> Tensor:
    """Means of features (B, D) and of their squares, for benign and malignant: (2, 2, D).

    The first axis is the moment, the second the class; both classes must occur in labels (B,).
    """
    powers = torch.stack([features, features.square()])
    return torch.stack([powers[:, labels == value].mean(dim=1) for value in (0, 1)], dim=1)


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
    count: int = 0

    def update(self, new: Tensor) -> Tensor:
        """Take in one more tensor, detached; returns the mean so far."""
        new = new.detach()
        self.count += 1
        if self.value is None:
            self.value = new.clone()
        else:
            self.value = self.value + max(1 - self.decay, 1 / self.count) * (new - self.value)
        return self.value


class BinnedSpectrum:
    """Mean power of windowed images in the radial, vertical and horizontal bins of a spectrum.

    Args:
        size_px: S, the side of the images.
        device: of the images to come.
    """

    def __init__(self, size_px: int, device: torch.device) -> None:
        hann = torch.from_numpy(np.hanning(size_px + 1)[:-1].astype(np.float32))
        self.window = torch.outer(hann, hann).to(device)
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
