"""A generator that keeps images and draws among them, each mirrored by chance.

Its images cost no privacy: a private selection took them from a public pool (synthdp's
`gan/private/selection.py`). It answers as the networks do, so that all that is done with a
generator can be done with a bank; z has no meaning in it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

#: Sets the order in which a series goes through the images apart from other streams of its seed.
_ORDER_STREAM = 2


class Bank(nn.Module):
    """Kept images of both classes, and of each combination of conditions in either.

    Buffer:
        images: (2, images, S, S) uint8 grey levels, of class 0 and of class 1.

    Args:
        size_px: S.
        images: how many of each class.
        z_dim: length of the latent vector, which every generator takes.
        cells: combinations of codes (A,) from 1, and how many images of each class have each, in
            the order of the images; empty where the class alone is known.
    """

    images: Tensor
    strides: Tensor
    first: Tensor
    lengths: Tensor
    indices: Tensor

    def __init__(
        self,
        size_px: int,
        images: int,
        z_dim: int = 2,
        cells: Sequence[tuple[Sequence[int], int]] = (),
    ) -> None:
        super().__init__()
        self.z_dim, self.noise_dim, self._count = z_dim, 2, images
        shape = (2, images, size_px, size_px)
        self.register_buffer("images", torch.zeros(shape, dtype=torch.uint8))
        self._codes = np.zeros((images, 0), np.int64)
        if cells:
            counts = [count for _, count in cells]
            self._codes = np.repeat(np.array([codes for codes, _ in cells]), counts, axis=0)
        # What may be asked for is numbered: a code, 0 for any, in each condition.
        bases = 1 + self._codes.max(axis=0, initial=0)
        self._strides = np.cumprod(bases, dtype=np.int64) // bases
        asked = np.arange(np.prod(bases, dtype=np.int64))[:, None] // self._strides % bases
        self._indices = [
            np.flatnonzero(((one == self._codes) | (one == 0)).all(axis=1)) for one in asked
        ]
        lengths = np.array([len(indices) for indices in self._indices])
        for name, values in (
            ("strides", self._strides),
            ("first", np.cumsum(lengths) - lengths),
            ("lengths", lengths),
            ("indices", np.concatenate(self._indices)),
        ):  # not persistent: they follow from the arguments
            self.register_buffer(name, torch.from_numpy(values.astype(np.int64)), persistent=False)

    @property
    def device(self) -> torch.device:
        """The device that images are drawn on."""
        return self.lengths.device

    def codes(self, seed: int, count: int) -> Tensor:
        """What the images of a series show where nothing is asked for: codes (count, A) int64.

        They are those of the images that come in its order, so that each combination comes as often
        as its share of the images, and none of these twice before all were drawn.
        """
        indices = self._in_order(seed, 0, self._count, range(count))
        return torch.from_numpy(self._codes[indices])

    def order(self, seed: int, positions: Sequence[int], codes: Tensor | None = None) -> Tensor:
        """First numbers of noise, (B,), by which a series repeats no image before all were drawn.

        So it is where the images of a series are of one class, or of both in turns, and their codes
        are those of `codes`. Where others are asked for, each of them has an order of its own.

        Args:
            seed: names the series.
            positions: of the images in it, from 0.
            codes: (B, A), what is asked for at each.
        """
        count = self._count
        indices = self._in_order(seed, 0, count, positions)
        if codes is None or not codes.shape[1]:
            shares = (indices + 0.5) / count
        else:
            shares = np.empty(len(indices))
            asked = codes.numpy()
            for question in np.unique(asked @ self._strides):
                rows = np.flatnonzero(asked @ self._strides == question)
                own = self._indices[question]
                at = np.searchsorted(own, indices[rows]).clip(max=len(own) - 1)
                other = self._in_order(
                    seed, 1 + int(question), len(own), np.asarray(positions)[rows]
                )
                shares[rows] = (np.where(own[at] == indices[rows], at, other) + 0.5) / len(own)
        chances: Tensor = torch.special.ndtri(torch.from_numpy(shares)).float()
        return chances

    @staticmethod
    def _in_order(seed: int, which: int, count: int, positions: ArrayLike) -> NDArray[np.int64]:
        """The index below `count` at each position of a series, in one of the seed's orders.

        The modulus is odd, so that every second position meets every index too.
        """
        order = np.random.default_rng((seed, which, _ORDER_STREAM)).permutation(count | 1)
        indices: NDArray[np.int64] = order[np.asarray(positions, np.int64) % (count | 1)] % count
        return indices

    def kept(self, labels: Tensor, indices: Tensor) -> Tensor:
        """The images of classes (B,) by index (B,) among those of a class: (B, S, S) uint8."""
        return self.images[labels, indices]

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
            attributes: (B, A) codes of the conditions, if there are any; of one that is 0 any level
                will do.

        Returns:
            (B, 1, S, S) float32 in [-1, 1].
        """
        question = torch.zeros_like(labels)
        if attributes is not None:
            question = (attributes * self.strides).sum(dim=1)
        length = self.lengths[question]
        chosen = (torch.special.ndtr(noise[:, 0]) * length).long().minimum(length - 1)
        indices = self.indices[self.first[question] + chosen]
        grey = self.kept(labels, indices)[:, None].float() / 127.5 - 1
        mirrored = (noise[:, 1] > 0)[:, None, None, None]
        return torch.where(mirrored, grey.flip(-1), grey)
