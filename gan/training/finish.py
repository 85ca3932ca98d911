"""What is done to a generator when its adversarial training is over: wider styles, then a film.

With averaged weights the classes differ too little and images vary too little: both are widened.
Marks and grain, which no network of this size learns, come from a film (`gan.network.film`), whose
constants are fitted here to real images, without noise: so no private training has one.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from gan.network.film import STEPS, Film
from gan.network.generator import Generator
from gan.network.layers import Modulation
from gan.training.examples import Examples
from gan.training.loop import draw_images
from synthdp.data.looks.spectrum import hann_window
from synthdp.machine.progress import progress

Array = NDArray[Any]

#: Every draw is by this seed. A film is fitted to so many images at most.
SEED, MAX_IMAGES, BATCH = 0, 2048, 32
#: The mean style is taken over so many latent vectors for each example.
DRAWS_AN_EXAMPLE = 8

#: A mark is this much brighter (of [-1, 1]) than the median around it, over this share of the side.
MIN_EXCESS, SURROUNDINGS = 0.2, 1 / 6
MIN_AREA_PX, MAX_ELONGATION = 3, 3.0
#: A mark has a sharp edge, tissue has none: on a ring RING (a share of the image's side) outside a
#: mark, at most MAX_LEFT of its excess is left.
RING, MAX_LEFT = 1 / 64, 0.15
#: With fewer real marks than this none are drawn.
MIN_MARKS = 8
#: Grain has no power up to this step of frequency along both axes: such coarse structure is tissue.
COARSE_STEPS = 2
#: The spread of grain is fitted to so many images at least, and is bounded: a flat image, whose
#: power is about 0, would make it huge.
MIN_IMAGES, MAX_SPREAD = 8, 1.0
#: Opacities are clipped before their logit is taken, which is infinite at 0 and 1.
_OPACITY_RANGE = (0.05, 0.98)
#: The median around each pixel is taken in an image of about this side.
_COARSE_PX = 64


def finish_generator(
    averaged: Generator,
    examples: Examples,
    *,
    class_spread: float,
    style_spread: float,
    film: bool,
) -> Generator:
    """A copy of the averaged generator as it is kept; each part is optional.

    Args:
        averaged: without a film, on any device.
        examples: the real images, on the CPU.
        class_spread: how many times as far apart the classes are set; 1 leaves them.
        style_spread: how many times as wide styles are spread; 1 leaves them.
        film: whether marks and grain are fitted and added.
    """
    generator = copy.deepcopy(averaged)
    rng = torch.Generator().manual_seed(SEED)
    chosen = examples[torch.randperm(len(examples), generator=rng)[:MAX_IMAGES]]
    spread_classes(generator, class_spread)
    if style_spread != 1:
        spread_styles(generator, chosen, style_spread, rng)
    if film:
        parts = draw_images(generator, chosen.labels, chosen.attributes, rng, BATCH)
        drawn = progress(parts, what="drawing for the film", total=-(-len(chosen) // BATCH))
        generated = torch.cat(list(drawn)).clamp(-1, 1)
        generator.film = fit_film(chosen.images.numpy(), generated.numpy()).to(generator.device)
        generator.noise_dim += generator.film.noise_dim
    return generator


@torch.no_grad()
def spread_classes(generator: Generator, spread: float) -> None:
    """Set the embeddings of both classes `spread` times as far from their mean, of each finding."""
    weights = generator.class_embedding.weight
    embeddings = weights.view(-1, 2, weights.shape[1])
    means = embeddings.mean(dim=1, keepdim=True)
    weights.copy_(torch.lerp(means, embeddings, spread).view_as(weights))


@torch.no_grad()
def spread_styles(
    generator: Generator, examples: Examples, spread: float, rng: torch.Generator
) -> None:
    """Spread styles `spread` times as wide about their mean over all classes and attributes.

    It is the truncation of Karras et al. (arXiv 1812.04948, appendix B) the other way round, about
    one mean, so that the classes move apart as well. A layer reads a style s as W s + b, so
    W' = spread W and b' = b + (1 - spread) W mean do it, and nothing is left to do in drawing.
    """
    labels = torch.cat(DRAWS_AN_EXAMPLE * [examples.labels]).to(generator.device)
    codes = examples.attributes.repeat(DRAWS_AN_EXAMPLE, 1).to(generator.device)
    z = torch.randn(len(labels), generator.z_dim, generator=rng).to(generator.device)
    mean = generator.styles(z, labels, 1.0, codes).mean(dim=0)
    for layer in generator.modules():
        if isinstance(layer, Modulation):
            reader = layer.scale_shift
            reader.bias.add_((1 - spread) * reader.weight @ mean)
            reader.weight.mul_(spread)


@dataclass(frozen=True)
class Marks:
    """Bright, sharp, compact spots that lie within an image.

    Each array is (K,): image, the index of the image that bears it; area in pixels; elongation,
    long by short axis; excess, of its brightest pixel over the ring around it; ring, the grey level
    there.
    """

    image: Array
    area: Array
    elongation: Array
    excess: Array
    ring: Array


def fit_film(real: Array, generated: Array) -> Film:
    """The film that makes generated images more like real ones.

    Marks: how many of the real images have some, beyond those of the generated ones; of what size,
    opacity and form. Grain: the power that generated images with marks lack, frequency by
    frequency; its strength varies from image to image as the real images' power does among the
    highest frequencies.

    Args:
        real: (N, 1, S, S) in [-1, 1].
        generated: (M, 1, S, S), from a generator without film.
    """
    size = real.shape[-1]
    film = Film(size)
    _fit_marks(film, find_marks(real), find_marks(generated), len(real), len(generated))
    rng = torch.Generator().manual_seed(SEED)
    chances = torch.randn(len(generated), film.noise_dim - size**2 - 1, generator=rng)
    marked = film.with_marks(torch.from_numpy(generated), chances).clamp(-1, 1).numpy()
    # The film adds marks before grain, so grain is what images with marks lack in power.
    real_power, highest = _power(real)
    marked_power, _ = _power(marked)
    grain = np.sqrt(_by_steps((real_power - marked_power).clip(min=0)))
    grain[: 1 + COARSE_STEPS, : 1 + COARSE_STEPS] = 0
    film.grain.copy_(torch.from_numpy(grain))
    if len(real) >= MIN_IMAGES:  # halved: of the log of an amplitude, not of a power
        film.grain_spread.fill_(min(0.5 * float(np.log(highest + 1e-12).std()), MAX_SPREAD))
    return film


def _fit_marks(film: Film, real: Marks, generated: Marks, n_real: int, n_generated: int) -> None:
    if len(real.area) < MIN_MARKS:
        return
    # An image is without marks if the generator drew none and the film adds none: the film's share
    # is solved from (1 - share) * without_generated = without_real.
    bearers = len(np.unique(real.image))
    without_real = 1 - bearers / n_real
    without_generated = 1 - len(np.unique(generated.image)) / n_generated
    if without_real >= without_generated:
        return
    film.mark_share.fill_(1 - without_real / without_generated)
    # Marks an image that has any follow a geometric distribution from 1, of mean 1 / (1 - more).
    film.mark_more.fill_(1 - bearers / len(real.area))
    # The brightest real marks set the grey level that an opaque one has; the opacity of each is how
    # far it gets from its ring towards that level.
    white = float(np.quantile(real.ring + real.excess, 0.95))
    opacity = (real.excess / (white - real.ring).clip(min=0.05)).clip(*_OPACITY_RANGE)
    values = np.stack([np.log(real.area), np.log(opacity / (1 - opacity))])
    film.mark_mean.copy_(torch.from_numpy(values.mean(axis=1)))
    covariance = np.cov(values) + 1e-6 * np.eye(2)  # so that equal marks have a root too
    film.mark_root.copy_(torch.from_numpy(np.linalg.cholesky(covariance)))
    film.mark_stretch.fill_(float(np.sqrt((np.log(real.elongation) ** 2).mean())))
    film.white.fill_(white)


def find_marks(images: Array) -> Marks:
    """The marks of images (N, 1, S, S) in [-1, 1]: none lies on an image's edge."""
    marks = [
        (index, *mark)
        for index, image in enumerate(progress(images[:, 0], what="looking for marks"))
        for mark in _marks_of(image)
    ]
    columns = np.array(marks, dtype=np.float64).reshape(-1, 5).T
    return Marks(columns[0].astype(np.int64), *columns[1:])


def _marks_of(image: Array) -> list[tuple[float, float, float, float]]:
    """Area, elongation, excess and ring of each mark of an image (S, S)."""
    size = image.shape[-1]
    excess = image - _surroundings(image)
    parts, _ = ndimage.label(excess > MIN_EXCESS)
    away = max(1, round(size * RING))
    marks = []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        rows, columns = (range(*side.indices(size)) for side in box)
        if min(rows[0], columns[0]) == 0 or max(rows[-1], columns[-1]) == size - 1:
            continue  # cut by the edge of the image: its form is unknown
        reach = tuple(slice(max(side.start - away - 2, 0), side.stop + away + 2) for side in box)
        inside = parts[reach] == number
        area = int(inside.sum())
        elongation = _elongation(inside)
        if area < MIN_AREA_PX or elongation > MAX_ELONGATION:
            continue
        # The ring: a line of pixels `away` from the part, where no other part lies.
        ring = ndimage.binary_dilation(inside, iterations=away + 1)
        ring &= ~ndimage.binary_dilation(inside, iterations=away) & (parts[reach] == 0)
        if not ring.any():
            continue
        # Tissue fades into its surroundings; a mark has left them by the ring.
        peak, left = excess[reach][inside].max(), np.median(excess[reach][ring])
        if left <= MAX_LEFT * peak:
            level = float(np.median(image[reach][ring]))
            brightest = float(image[reach][inside].max())
            marks.append((float(area), elongation, brightest - level, level))
    return marks


def _surroundings(image: Array) -> Array:
    """The median about each pixel (S, S), of block means, so that large images take no longer."""
    size = image.shape[-1]
    block = max(1, size // _COARSE_PX)
    coarse = image.reshape(size // block, block, size // block, block).mean(axis=(1, 3))
    window = 2 * round(len(coarse) * SURROUNDINGS / 2) + 1
    medians = ndimage.median_filter(coarse, window, mode="reflect")
    surroundings: Array = medians.repeat(block, axis=0).repeat(block, axis=1)
    return surroundings


def _elongation(inside: Array) -> float:
    """Long by short axis of the ellipse with the second moments of a mask (h, w) of pixels."""
    pixels = np.stack(np.nonzero(inside)).astype(np.float64)
    spread = (pixels - pixels.mean(axis=1, keepdims=True)) @ pixels.T / pixels.shape[1]
    # A pixel is a square of side 1, whose own variance along each axis is 1/12.
    short, long = np.sqrt(np.linalg.eigvalsh(spread + np.eye(2) / 12))
    return float(long / short)


def _power(images: Array) -> tuple[Array, Array]:
    """Mean power (F, F) by vertical and horizontal frequency; and of each image among the highest.

    F is S / 2 + 1. White noise has its variance at every frequency. Each image loses its mean and
    is weighted by a Hann window along both axes.
    """
    size = images.shape[-1]
    window = np.outer(hann_window(size), hann_window(size))
    total, highest = np.zeros((size // 2 + 1, size // 2 + 1)), np.empty(len(images))
    of_images = progress(images[:, 0].astype(np.float64), what="measuring grain")
    for index, image in enumerate(of_images):
        full = np.abs(np.fft.rfft2((image - image.mean()) * window)) ** 2 / (window**2).sum()
        # Vertical frequencies come with either sign: both are averaged.
        power = (full + np.roll(full[::-1], 1, axis=0))[: size // 2 + 1] / 2
        total += power
        highest[index] = power[-size // 8 :, -size // 8 :].mean()
    return total / len(images), highest


def _by_steps(power: Array) -> Array:
    """Means (1 + STEPS, 1 + STEPS) of a power (F, F) at frequency 0 and over steps above it."""
    frequencies = np.arange(len(power))
    members = np.ceil(STEPS * frequencies / frequencies[-1]) == np.arange(1 + STEPS)[:, None]
    weights = members / members.sum(axis=1, keepdims=True)
    means: Array = weights @ power @ weights.T
    return means
