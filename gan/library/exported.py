"""A generator as one file: latent numbers and a class go in, an image comes out."""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan.network.film import MAX_MARKS, NUMBERS_A_MARK, Film, uniform
from gan.network.generator import Generator
from gan.network.mixture import Mixture
from gan.network.sampling import AnyGenerator, draw_latents
from gan.package.model import load_whole
from gan.package.opened import GeneratorRun, open_generator
from gan.package.packing import example_labels
from synthdp.errors import InputError
from synthdp.networks.exported.model_file import (
    ExportFormat,
    Interface,
    Port,
    export_folder,
    write_exported,
)
from synthdp.networks.exported.settings import ExportModelSettings

#: Half a grey level of 8 bits, of images in [0, 1].
TOLERANCE = 0.5 / 255
_CHECKED = 5


class WholeGenerator(nn.Module):
    """Latent numbers, class and conditions to grey images (B, 1, S, S) float32 in [0, 1].

    A mixture asks all its members and takes from each the images that chance gives it, so that the
    same operations run whatever the numbers are.
    """

    def __init__(self, network: AnyGenerator) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        for module in self.network.modules():
            if isinstance(module, Generator) and module.film is not None:
                module.film = _FilmOfAnyBatch(module.film)  # type: ignore[assignment]

    def forward(
        self, z: Tensor, noise: Tensor, labels: Tensor, conditions: Tensor | None = None
    ) -> Tensor:
        """z (B, z_dim), noise (B, noise_dim), labels (B,) or (B, T), conditions -> images."""
        network = self.network
        if isinstance(network, Mixture):
            chosen = network.chosen(noise)[:, None, None, None]
            images = torch.zeros(())
            for index, member in enumerate(network.generators):
                own = noise[:, 1 : 1 + member.noise_dim]
                drawn = member(z, own, labels, 1.0, conditions)
                images = torch.where(chosen == index, drawn, images)
        else:
            images = network(z, noise, labels, 1.0, conditions)
        return images.clamp(-1, 1) * 0.5 + 0.5


class _FilmOfAnyBatch(nn.Module):
    """The film of a generator, by operations that do not depend on what the numbers are.

    `Film` draws marks on the images that chance gives some, in loops; here every mark is drawn on
    every image, and kept where chance says so. Waves are taken by products with cosines and sines,
    which all programs compute alike.
    """

    def __init__(self, film: Film) -> None:
        super().__init__()
        self.film = film
        self.noise_dim = film.noise_dim
        size = film.size_px
        angles = 2 * math.pi * torch.outer(torch.arange(size), torch.arange(size)) / size
        self.register_buffer("cosines", angles.double().cos().float(), persistent=False)
        self.register_buffer("sines", angles.double().sin().float(), persistent=False)
        self.register_buffer("amplitudes", film.amplitudes().clone(), persistent=False)
        self.cosines: Tensor
        self.sines: Tensor
        self.amplitudes: Tensor

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """As `Film.forward`."""
        white_noise, strength, chances = self.film.parts_of(noise)
        return self._with_marks(images.float(), chances) + self._grain(white_noise, strength)

    def _with_marks(self, images: Tensor, chances: Tensor) -> Tensor:
        film, marked = self.film, images[:, 0]
        drawn = uniform(chances[:, 0]) < film.mark_share
        for index in range(MAX_MARKS):
            numbers = chances[:, 1 + NUMBERS_A_MARK * index : 1 + NUMBERS_A_MARK * (index + 1)]
            if index:
                drawn = drawn & (uniform(numbers[:, 0]) < film.mark_more)
            covered = torch.vmap(film.with_mark)(marked, numbers)
            marked = torch.where(drawn[:, None, None], covered, marked)
        return marked[:, None]

    def _grain(self, white_noise: Tensor, strength: Tensor) -> Tensor:
        """Real part of the inverse transform of the amplitudes times the noise's transform."""
        cosines, sines, size = self.cosines, self.sines, self.film.size_px
        white = white_noise.view(-1, size, size)
        real = cosines @ white @ cosines - sines @ white @ sines
        imaginary = -(sines @ white @ cosines + cosines @ white @ sines)
        real, imaginary = self.amplitudes * real, self.amplitudes * imaginary
        shaped = cosines @ real @ cosines - sines @ real @ sines
        shaped = (shaped - cosines @ imaginary @ sines - sines @ imaginary @ cosines) / size**2
        return self.film.scaled(shaped, strength)


def _labels_port(targets: Sequence[str]) -> Port:
    if len(targets) == 1:
        return Port("labels", f"1 for {targets[0]}, 0 for not", (), "int64")
    words = f"in this order, 1 has it, 0 has it not, -1 unknown: {', '.join(targets)}"
    return Port("labels", words, (len(targets),), "int64")


def run_export_model(settings: ExportModelSettings) -> Path:
    """Write the generator of a released run, or `pretrained:NAME`, as one file.

    Raises:
        InputError, RunError: as `export_folder`, `open_generator` and `write_exported`.
    """
    opened = open_generator(settings.run)
    if settings.size_px is not None:
        raise InputError(
            "size_px: a generator draws images of its own side "
            f"({opened.description.shape.size_px}); leave it out"
        )
    return export_folder(
        settings.model_copy(update={"run": opened.folder}),
        statement=opened.statement,
        weights_sha256=opened.weights_sha256,
        write=lambda folder, about: write_generator_file(opened, folder, settings.format, about),
    )


def write_generator_file(
    opened: GeneratorRun, folder: Path, file_format: ExportFormat, about: Mapping[str, Any]
) -> float:
    """Write a generator as one file into `folder`, with what it says of itself.

    Returns:
        The largest difference of a grey value from the original's, in [0, 1].

    Raises:
        InputError, RunError: as `load_whole` and `write_exported`.
    """
    network = load_whole(opened)
    shape, targets = opened.description.shape, opened.description.targets
    latents = draw_latents(0, range(_CHECKED), network.z_dim + network.noise_dim)
    z, noise = latents.split([network.z_dim, network.noise_dim], dim=1)
    labels = example_labels(shape, _CHECKED)
    codes = torch.zeros(_CHECKED, len(shape.conditions.names), dtype=torch.int64)
    ports = [
        Port("z", "standard normal numbers: what the image shows", (network.z_dim,)),
        Port("noise", "standard normal numbers: its texture", (network.noise_dim,)),
        _labels_port(targets),
    ]
    example = [z.contiguous(), noise.contiguous(), labels]
    if shape.conditions.names:
        words = "; ".join(
            f"{name}: 0 unknown, " + ", ".join(f"{n} {level}" for n, level in enumerate(levels, 1))
            for name, levels in zip(shape.conditions.names, shape.conditions.levels, strict=True)
        )
        ports.append(Port("conditions", words, (codes.shape[1],), "int64"))
        example.append(codes)
    side = shape.size_px
    interface = Interface(
        tuple(ports), Port("images", "grey images, 0 black, 1 white", (1, side, side))
    )
    with torch.no_grad():
        drawn = network(z, noise, labels, 1.0, codes if shape.conditions.names else None)
    facts = {"kind": "generator", "targets": [*targets], "trained_on": opened.description.data}
    return write_exported(
        folder,
        file_format,
        WholeGenerator(network),
        interface,
        example=example,
        original=((drawn.clamp(-1, 1) + 1) / 2).numpy(),
        tolerance=TOLERANCE,
        about={**facts, **about},
    )
