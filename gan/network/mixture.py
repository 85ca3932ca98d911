"""Several generators as one: chance decides which of them draws an image.

A small generator leaves out part of what it was shown, and another one, started from other numbers,
leaves out another part.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .generator import Generator


class Mixture(nn.Module):
    """Generators of one size, latent length and conditions, each drawn from as often.

    Args:
        members: for each generator, the arguments that build it.
    """

    def __init__(self, members: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.members = nn.ModuleList(Generator(**member) for member in members)
        generators = self.generators
        self.z_dim = generators[0].z_dim
        self.noise_dim = 1 + max(member.noise_dim for member in generators)

    @property
    def generators(self) -> list[Generator]:
        """The members, in order."""
        return [member for member in self.members if isinstance(member, Generator)]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.generators[0].device

    def forward(
        self,
        z: Tensor,
        noise: Tensor,
        labels: Tensor,
        class_strength: float = 1.0,
        attributes: Tensor | None = None,
    ) -> Tensor:
        """Generate images; as `Generator.forward`, but that the first number of noise chooses."""

        def draw(
            member: int, z: Tensor, noise: Tensor, labels: Tensor, attributes: Tensor | None
        ) -> Tensor:
            images: Tensor = self.generators[member](z, noise, labels, class_strength, attributes)
            return images

        return self.by_member(draw, z, noise, labels, attributes)

    def by_member(
        self,
        draw: Callable[[int, Tensor, Tensor, Tensor, Tensor | None], Tensor],
        z: Tensor,
        noise: Tensor,
        labels: Tensor,
        attributes: Tensor | None,
    ) -> Tensor:
        """Let each member draw its share of a batch.

        Args:
            draw: takes the member's index, and its rows of the rest, with noise of its own length;
                gives images.
            z: (B, z_dim).
            noise: (B, noise_dim).
            labels: (B,), or (B, T).
            attributes: (B, A), or None.

        Returns:
            (B, 1, S, S) in the order of the batch.

        Raises:
            ValueError: when the batch is empty.
        """
        chosen = self.chosen(noise)
        images: Tensor | None = None
        for index, member in enumerate(self.generators):
            rows = (chosen == index).nonzero()[:, 0]
            if not len(rows):
                continue
            own_noise = noise[rows, 1 : 1 + member.noise_dim]
            codes = None if attributes is None else attributes[rows]
            drawn = draw(index, z[rows], own_noise, labels[rows], codes)
            if images is None:
                images = drawn.new_empty(len(z), *drawn.shape[1:])
            images[rows] = drawn
        if images is None:
            raise ValueError("an empty batch has no images; ask for at least one")
        return images

    def chosen(self, noise: Tensor) -> Tensor:
        """Which members draw, as indices (B,), by the first number of noise (B, noise_dim)."""
        share = torch.special.ndtr(noise[:, 0])
        chosen: Tensor = (share * len(self.members)).long().clamp(max=len(self.members) - 1)
        return chosen
