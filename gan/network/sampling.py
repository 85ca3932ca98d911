"""How images are drawn by a generator of any kind, each from the seed, its label and its position.

Every random number comes from a stream that the seed and the position of the image in its set name,
so that a longer set begins with the shorter one, and the batch decides nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from .bank import Bank
from .dcgan import DcganGenerator
from .generator import Generator
from .mixture import Mixture

AnyGenerator: TypeAlias = Generator | DcganGenerator | Mixture | Bank
#: The networks by the names that files call them; each is built by arguments of its own.
GENERATORS: Mapping[str, Callable[..., AnyGenerator]] = {
    "mcgan-haar": Generator,
    "dcgan": DcganGenerator,
    "mixture": Mixture,
    "bank": Bank,
}
#: How attributes are drawn: for class 0 and class 1, combinations of codes (A,) and their shares;
#: empty for a generator that knows the class alone.
Table: TypeAlias = Sequence[tuple[Sequence[int], float]]
Prior: TypeAlias = Sequence[Table]
#: Labels of images, (N,) or (N, T) of several findings, and codes of their attributes (N, A).
Conditioned: TypeAlias = tuple[Tensor, Tensor]

#: Sets the stream of attributes apart from that of the latent vectors.
ATTRIBUTE_STREAM = 1
#: How many latent vectors a mean style is taken over, and their seed: public constants.
MEAN_OF = 4096
MEAN_SEED = 0


def draw_latents(seed: int, positions: Sequence[int], size: int) -> Tensor:
    """Standard normal numbers (B, size) float32, from one stream for each position."""
    streams = (np.random.default_rng((seed, position)) for position in positions)
    numbers = [stream.standard_normal(size, dtype=np.float32) for stream in streams]
    return torch.from_numpy(np.stack(numbers))


def draw_codes(prior: Prior, labels: Tensor, seed: int) -> Tensor:
    """Draw the attributes of images, codes (N, A) int64; (N, 0) where the prior is empty.

    Each draw depends on the seed, its position and its label alone.

    Args:
        prior: what is drawn from.
        labels: (N,) int64, 1 malignant, 0 benign, at positions 0, 1, 2 and on.
        seed: names the set.
    """
    if not prior:
        return torch.empty(len(labels), 0, dtype=torch.int64)
    bounds = [np.cumsum([share for _, share in combinations]) for combinations in prior]
    codes = []
    for position, label in enumerate(labels.tolist()):
        stream = np.random.default_rng((seed, position, ATTRIBUTE_STREAM))
        point = stream.random() * bounds[label][-1]
        chosen = int(np.searchsorted(bounds[label], point, side="right"))
        codes.append(list(prior[label][chosen][0]))
    return torch.tensor(codes, dtype=torch.int64)


def prior_codes(generator: AnyGenerator, prior: Prior, labels: Tensor, seed: int) -> Tensor:
    """The attributes of images where nothing is asked for: codes (N, A) int64, as `draw_codes`.

    Of a bank they are those of the images that come in its order.
    """
    if isinstance(generator, Bank):
        return generator.codes(seed, len(labels))
    return draw_codes(prior, labels, seed)


def draw_findings(blocks: Sequence[Table], count: int, seed: int, findings: int) -> Conditioned:
    """Draw what images of several findings show: labels (N, T), and codes (N, A), int64.

    Each block has one or several columns, of findings first, then of attributes; blocks are drawn
    apart. In a block a finding is 2 (has it), 1 (has it not) or 0 (unknown); in labels 1, 0 or -1.
    Each draw depends on the seed and its position alone.

    Args:
        blocks: combinations of codes and their shares.
        count: N.
        seed: names the set.
        findings: T.
    """
    bounds = [np.cumsum([share for _, share in block]) for block in blocks]
    drawn = []
    for position in range(count):
        stream = np.random.default_rng((seed, position, ATTRIBUTE_STREAM))
        row: list[int] = []
        for block, bound in zip(blocks, bounds, strict=True):
            chosen = int(np.searchsorted(bound, stream.random() * bound[-1], side="right"))
            row += block[chosen][0]
        drawn.append(row)
    codes = torch.tensor(drawn, dtype=torch.int64).reshape(
        count, sum(len(block[0][0]) for block in blocks)
    )
    return codes[:, :findings] - 1, codes[:, findings:]


class Truncated:
    """Draws from a generator with its styles pulled towards the mean style of their condition.

    The images are nearer to the typical one of their class and attributes, at the cost of variety:
    style' = mean + truncation * (style - mean), the truncation of Karras et al. (arXiv 1812.04948,
    appendix B) with one mean for each class and combination of attributes, so that neither changes.
    A shorter z would change nothing in `Generator`, which brings z to unit length; the DCGAN takes
    z as it is, so there it is shortened itself. The noise maps stay: they draw fine texture. A
    truncation of 1 is the generator as it is.

    Args:
        generator: in evaluation.
        truncation: in (0, 1]; 1 of a bank, which keeps images and has no styles.

    Raises:
        ValueError: when a bank is to be truncated.
    """

    def __init__(self, generator: AnyGenerator, truncation: float) -> None:
        if truncation != 1 and isinstance(generator, Bank):
            raise ValueError("a bank keeps images and has no styles to truncate; leave it at 1")
        self._generator = generator
        self._truncation = truncation
        self._means: dict[tuple[int, ...], Tensor] = {}
        members = generator.generators if isinstance(generator, Mixture) else []
        self._members = [Truncated(member, truncation) for member in members]

    def images(
        self, z: Tensor, noise: Tensor, labels: Tensor, attributes: Tensor | None = None
    ) -> Tensor:
        """As the generator's own `forward`: images (B, 1, S, S) float32."""
        generator = self._generator
        if self._truncation == 1:
            images: Tensor = generator(z, noise, labels, 1.0, attributes)
            return images
        if isinstance(generator, Mixture):

            def draw(
                member: int, z: Tensor, noise: Tensor, labels: Tensor, attributes: Tensor | None
            ) -> Tensor:
                return self._members[member].images(z, noise, labels, attributes)

            return generator.by_member(draw, z, noise, labels, attributes)
        if isinstance(generator, DcganGenerator):
            images = generator(self._truncation * z, noise, labels)
            return images
        assert isinstance(generator, Generator)  # a bank is drawn from as it is
        styles = generator.styles(z, labels, 1.0, attributes)
        means = self._mean_styles(generator, labels, attributes)
        return generator.synthesise(means + self._truncation * (styles - means), noise)

    def _mean_styles(
        self, generator: Generator, labels: Tensor, attributes: Tensor | None
    ) -> Tensor:
        """The mean style (B, style_dim) of the class and attributes of each image."""
        columns = labels.reshape(len(labels), -1)
        of_labels = columns.shape[1]
        if attributes is not None:
            columns = torch.cat([columns, attributes], dim=1)
        conditions = [tuple(row) for row in columns.tolist()]
        for condition in set(conditions) - self._means.keys():
            z = draw_latents(MEAN_SEED, range(MEAN_OF), generator.z_dim).to(labels.device)
            repeated = torch.tensor(condition, device=labels.device).expand(MEAN_OF, -1)
            codes = repeated[:, of_labels:] if attributes is not None else None
            own = repeated[:, 0] if labels.ndim == 1 else repeated[:, :of_labels]
            styles = generator.styles(z, own, 1.0, codes)
            self._means[condition] = styles.mean(dim=0)
        return torch.stack([self._means[condition] for condition in conditions])


def sample_images(
    generator: AnyGenerator,
    labels: Tensor,
    attributes: Tensor,
    seed: int,
    *,
    batch: int = 64,
    truncation: float = 1.0,
    vectors: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield the images of a set in order, as (<= batch, 1, S, S) about [-1, 1]; not clamped.

    Args:
        generator: in evaluation, on any device.
        labels: (N,) int64, 1 malignant, 0 benign; of several findings (N, T), -1 unknown.
        attributes: (N, A) int64 codes; A is 0 for a generator that knows the class alone.
        seed: names the set.
        batch: how many are computed at a time; it moves an image by a grey level at most.
        truncation: in (0, 1], see `Truncated`.
        vectors: (N, z_dim) latent vectors to take in place of the drawn ones.
    """
    device = generator.device
    truncated = Truncated(generator, truncation)
    size = generator.z_dim + generator.noise_dim
    for start in range(0, len(labels), batch):
        part = slice(start, min(start + batch, len(labels)))
        positions = range(part.start, part.stop)
        latents = draw_latents(seed, positions, size)
        if isinstance(generator, Bank):
            latents[:, generator.z_dim] = generator.order(seed, positions, attributes[part])
        z, noise = latents.to(device).split([generator.z_dim, generator.noise_dim], dim=1)
        if vectors is not None:
            z = vectors[part].to(device)
        codes = attributes[part].to(device) if attributes.shape[1] else None
        with torch.inference_mode():
            images = truncated.images(z, noise, labels[part].to(device), codes)
        yield images
