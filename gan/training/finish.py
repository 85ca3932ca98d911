"""What is done to a generator when its adversarial training is over: wider styles, then a film."""

import copy

import torch

from gan.config import TrainGanSettings
from gan.network.generator import Generator
from gan.network.layers import Modulation
from gan.training.examples import Examples
from gan.training.film_fit import fit_film
from gan.training.loop import draw_images

#: A film is fitted to so many images at most, which are drawn by this seed.
MAX_IMAGES, SEED, BATCH = 2048, 0, 32
#: The mean style is taken over so many latent vectors for each example.
DRAWS_AN_EXAMPLE = 8


def finish_generator(
    averaged: Generator, examples: Examples, settings: TrainGanSettings
) -> Generator:
    """A copy of the averaged generator as it is kept; each part is optional.

    Args:
        averaged: without a film, on any device.
        examples: the real images, on the CPU.
        settings: of the run; `class_spread`, `style_spread` and `film` count.
    """
    finished = copy.deepcopy(averaged)
    rng = torch.Generator().manual_seed(SEED)
    chosen = examples[torch.randperm(len(examples), generator=rng)[:MAX_IMAGES]]
    spread_classes(finished, settings.class_spread)
    if settings.style_spread != 1:
        spread_styles(finished, chosen, settings.style_spread, rng)
    if settings.film:
        parts = draw_images(finished, chosen.labels, chosen.attributes, rng, BATCH)
        generated = torch.cat(list(parts)).clamp(-1, 1)
        finished.film = fit_film(chosen.images.numpy(), generated.numpy()).to(finished.device)
        finished.noise_dim += finished.film.noise_dim
    return finished


@torch.no_grad()
def spread_classes(generator: Generator, spread: float) -> None:
    """Set the embeddings of both classes `spread` times as far from their mean."""
    embeddings = generator.class_embedding.weight
    embeddings.copy_(torch.lerp(embeddings.mean(dim=0), embeddings, spread))


@torch.no_grad()
def spread_styles(
    generator: Generator, examples: Examples, spread: float, rng: torch.Generator
) -> None:
    """Spread styles `spread` times as wide about their mean over all that can be told.

    It is the truncation of Karras et al. (arXiv 1812.04948, appendix B) the other way round, about
    one mean, so that the classes move apart as well. A layer reads a style s as W s + b, so
    W' = spread W and b' = b + (1 - spread) W mean do it, and nothing is left to do in drawing.
    """
    labels = examples.labels.repeat(DRAWS_AN_EXAMPLE).to(generator.device)
    codes = examples.attributes.repeat(DRAWS_AN_EXAMPLE, 1).to(generator.device)
    z = torch.randn(len(labels), generator.z_dim, generator=rng).to(generator.device)
    mean = generator.styles(z, labels, 1.0, codes).mean(dim=0)
    for layer in generator.modules():
        if isinstance(layer, Modulation):
            reader = layer.scale_shift
            reader.bias.add_((1 - spread) * reader.weight @ mean)
            reader.weight.mul_(spread)
