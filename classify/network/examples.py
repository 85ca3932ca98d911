"""Patients' images as a frozen trunk hands them on, and which views of them a step looks at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classify.network.top import image_losses


@dataclass(frozen=True, eq=False)
class TokenExamples:
    """Patients' images as the frozen trunk hands them on, each in K views.

    tokens: (N, K, L, C) float16; targets: (N, T) float32 in {0, 1}, nan unknown; units: (N,)
    int64, the patient of each image, counted from 0; tags: a secret name for each patient.
    """

    tokens: NDArray[np.float16]
    targets: Tensor
    units: Tensor
    tags: Sequence[bytes]


@dataclass(frozen=True, eq=False)
class Views:
    """Views of images, ordered by patient: (R,) int64 each, `patients` counted from 0."""

    images: Tensor
    views: Tensor
    patients: Tensor

    @property
    def shares(self) -> Tensor:
        """What each view counts in the mean of its patient, (R,) float32."""
        return 1 / torch.bincount(self.patients)[self.patients].to(torch.float32)

    def batches(self, size: int) -> Iterator[slice]:
        """Slices of `size` views at most."""
        for start in range(0, len(self.images), size):
            yield slice(start, min(start + size, len(self.images)))


def all_views(examples: TokenExamples, drawn: Tensor) -> Views:
    """All views of all images of the patients `drawn`, (U,) int64, ascending."""
    order = torch.argsort(examples.units, stable=True)
    images = order[torch.isin(examples.units[order], drawn)]
    n_views = examples.tokens.shape[1]
    patients = torch.searchsorted(drawn, examples.units[images])
    return Views(
        images=images.repeat_interleave(n_views),
        views=torch.arange(n_views).repeat(len(images)),
        patients=patients.repeat_interleave(n_views),
    )


def weighted_loss(
    top: nn.Module, examples: TokenExamples, views: Views, part: slice, shares: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum over some views of their loss times their share, and the tokens that it is of."""
    images, device = views.images[part], next(top.parameters()).device
    values = torch.from_numpy(examples.tokens[images.numpy(), views.views[part].numpy()])
    tokens = values.to(device, torch.float32).requires_grad_()
    losses = image_losses(top(tokens), examples.targets[images].to(device))
    return (losses * shares[part].to(device)).sum(), tokens
