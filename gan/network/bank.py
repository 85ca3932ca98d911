"""A generator that keeps images and draws among them, each mirrored by chance.

Its images cost no privacy: a private selection took them from a public pool (synthdp's
`gan/private/selection.py`). It answers as the networks do, so that all that is done with a
generator can be done with a bank; z has no meaning in it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

#: Sets the order in which a series goes through the images apart from other streams of its seed.
_ORDER_STREAM = 2


class Bank(nn.Module):
    """Kept images of both classes.

    Buffer:
        images: (2, images, S, S) uint8 grey levels, of class 0 and of class 1.

    Args:
        size_px: S.
        images: how many of each class.
        z_dim: length of the latent vector, which every generator takes.
    """

    images: Tensor

    def __init__(self, size_px: int, images: int, z_dim: int = 2) -> None:
        super().__init__()
        self.z_dim, self.noise_dim = z_dim, 2
        shape = (2, images, size_px, size_px)
        self.register_buffer("images", torch.zeros(shape, dtype=torch.uint8))

    @property
    def device(self) -> torch.device:
        """The device of the images."""
        return self.images.device

    def order(self, seed: int, positions: Sequence[int]) -> Tensor:
        """First numbers of noise, (B,), by which a series repeats no image before all were drawn.

        So it is where the images of a series are of one class, or of both in turns: the modulus is
        odd, so that every second position meets every place too.

        Args:
            seed: names the series.
            positions: of the images in it, from 0.
        """
        count = self.images.shape[1]
        order = np.random.default_rng((seed, 0, _ORDER_STREAM)).permutation(count | 1)
        places = order[np.asarray(positions) % (count | 1)] % count
        shares = torch.from_numpy((places + 0.5) / count)
        chances: Tensor = torch.special.ndtri(shares).float()
        return chances

    def forward(
        self,
        z: Tensor,
        noise: Tensor,
        labels: Tensor,
        class_strength: float = 1.0,
        attributes: Tensor | None = None,
    ) -> Tensor:
        """Draw images.

        Args:
            z: (B, z_dim), not used.
            noise: (B, 2) standard normal: the first number chooses the image, the second whether
                left and right are swapped.
            labels: (B,) int64, 1 malignant, 0 benign.
            class_strength: not used; the classes are as they are.
            attributes: none are known.

        Returns:
            (B, 1, S, S) float32 in [-1, 1].
        """
        count = self.images.shape[1]
        chosen = (torch.special.ndtr(noise[:, 0]) * count).long().clamp(max=count - 1)
        grey = self.images[labels, chosen][:, None].float() / 127.5 - 1
        mirrored = (noise[:, 1] > 0)[:, None, None, None]
        return torch.where(mirrored, grey.flip(-1), grey)
