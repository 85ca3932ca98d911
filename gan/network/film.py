"""What the film adds to the tissue: opaque marks and grain, drawn by a formula, not by a network.

A small network that works at a fraction of the image's side learns neither: marks (coarse
calcifications, skin markers) are rare, sharp and anywhere; grain is noise of full resolution, which
averaging weights takes away. Yet both are plain to see. The constants, a few hundred numbers, are
fitted to real images (synthdp's `gan/training/finish.py`).
"""

import math

import torch
from torch import Tensor, nn

#: The grain's amplitude is one number for frequency 0, along which scanners leave stripes, and for
#: each of so many steps above, along either axis.
STEPS = 16
MAX_MARKS = 6
#: For each mark: whether it is there, area, opacity, elongation, angle, row and column.
NUMBERS_A_MARK = 7
#: How soft the edge of a mark is, as a share of the image's side, and the smallest half-axis.
_EDGE, _MIN_AXIS_PX = 0.3 / 128, 0.7


class Film(nn.Module):
    """Images of tissue -> images of its film; does nothing until its constants are set.

    Buffers, all float32:
        grain: (1 + STEPS, 1 + STEPS) amplitude by vertical and horizontal frequency, 0 up to half a
            cycle a pixel: white noise of that standard deviation, in grey levels of [-1, 1], would
            have as much power there.
        grain_spread: standard deviation of the log of the strength of an image's grain.
        mark_share: probability that an image has marks. mark_more: that a mark has a next one.
        mark_mean: (2,) of the log of the area in pixels and the logit of the opacity.
        mark_root: (2, 2), lower triangular: times its transpose it is the covariance of these.
        mark_stretch: root mean square of the log of the elongation.
        white: the grey level of an opaque mark.

    Args:
        size_px: side of the square images; a multiple of 32.
    """

    def __init__(self, size_px: int) -> None:
        super().__init__()
        self.size_px = size_px
        self.noise_dim = size_px**2 + 2 + MAX_MARKS * NUMBERS_A_MARK
        shapes = {
            "grain": (1 + STEPS, 1 + STEPS),
            "grain_spread": (),
            "mark_share": (),
            "mark_more": (),
            "mark_mean": (2,),
            "mark_root": (2, 2),
            "mark_stretch": (),
            "white": (),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.grain: Tensor
        self.grain_spread: Tensor
        self.mark_share: Tensor
        self.mark_more: Tensor
        self.mark_mean: Tensor
        self.mark_root: Tensor
        self.mark_stretch: Tensor
        self.white: Tensor

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """Images (B, 1, S, S) about [-1, 1], noise (B, noise_dim) standard normal -> images."""
        white_noise, strength, chances = self.parts_of(noise)
        return self.with_marks(images.float(), chances) + self._grain(white_noise, strength)

    def parts_of(self, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noise (B, noise_dim) as that of the grain, of its strength, and the chances of marks."""
        sizes = [self.size_px**2, 1, 1 + MAX_MARKS * NUMBERS_A_MARK]
        white_noise, strength, chances = noise.float().split(sizes, dim=1)
        return white_noise, strength, chances

    def with_marks(self, images: Tensor, chances: Tensor) -> Tensor:
        """Draw the marks alone; chances (B, 1 + MAX_MARKS * 7) standard normal."""
        marked = images.clone()
        for index in (uniform(chances[:, 0]) < self.mark_share).nonzero()[:, 0].tolist():
            numbers = chances[index, 1:].view(MAX_MARKS, NUMBERS_A_MARK)
            further = uniform(numbers[1:, 0]) < self.mark_more
            count = 1 + int(further.long().cumprod(0).sum())
            for mark in numbers[:count]:
                marked[index, 0] = self.with_mark(marked[index, 0], mark)
        return marked

    def with_mark(self, image: Tensor, numbers: Tensor) -> Tensor:
        """One ellipse over an image (S, S): its grey levels move towards white by the opacity."""
        log_area, logit = self.mark_mean + self.mark_root @ numbers[1:3]
        elongation = (self.mark_stretch * numbers[3].abs()).exp()
        round_axis = (log_area.exp() / math.pi).sqrt()
        long_axis = (round_axis * elongation.sqrt()).clamp(min=_MIN_AXIS_PX)
        short_axis = (round_axis / elongation.sqrt()).clamp(min=_MIN_AXIS_PX)
        angle = math.pi * uniform(numbers[4])
        row, column = self.size_px * uniform(numbers[5:7])
        pixels = torch.arange(self.size_px, device=image.device) + 0.5
        down, right = (pixels - row)[:, None], (pixels - column)[None, :]
        along = (down * angle.cos() + right * angle.sin()) / long_axis
        across = (right * angle.cos() - down * angle.sin()) / short_axis
        outside_px = ((along.square() + across.square()).sqrt() - 1) * short_axis
        opacity = logit.sigmoid() * (-outside_px / (_EDGE * self.size_px)).sigmoid()
        covered: Tensor = image + opacity * (self.white - image).clamp(min=0)
        return covered

    def _grain(self, white_noise: Tensor, strength: Tensor) -> Tensor:
        """Noise with the amplitudes of `grain` times a log-normal strength of mean square 1."""
        size = self.size_px
        waves = torch.fft.rfft2(white_noise.view(-1, size, size))
        amplitudes = self.amplitudes()[:, : size // 2 + 1]
        return self.scaled(torch.fft.irfft2(waves * amplitudes, s=(size, size)), strength)

    def amplitudes(self) -> Tensor:
        """The amplitude of each wave, (S, S), by the frequencies along rows and columns."""
        size = self.size_px
        columns = torch.arange(size // 2 + 1, device=self.grain.device)
        rows = torch.cat([columns, columns[1:-1].flip(0)])
        steps = (2 * STEPS * rows / size).ceil().long()
        return self.grain[steps][:, steps]

    def scaled(self, shaped: Tensor, strength: Tensor) -> Tensor:
        """Noise (B, S, S) times the strength of each image, (B, 1): the grain (B, 1, S, S)."""
        spread = self.grain_spread
        scale = (spread * strength - spread.square()).exp()
        grain: Tensor = (scale[:, :, None] * shaped)[:, None]
        return grain


def uniform(normal: Tensor) -> Tensor:
    """Standard normal numbers -> numbers of a uniform distribution on [0, 1]."""
    uniform: Tensor = torch.special.ndtr(normal)
    return uniform
