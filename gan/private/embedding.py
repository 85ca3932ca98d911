"""The private generator: one noisy release of class-wise mean features, then matching it.

Each patient gives the mean over the patient's images of a vector of norm 1 that public features
make of an image, put in the half of its class, or of several findings with all of them
(`gan.private.findings`); the sum over patients is released once, with Gaussian noise. The generator
is then trained until its own mean features of each class are the released ones; that is
post-processing, so its steps cost no privacy. Harder et al., arXiv 2205.12900 (DP-MEPF); here by
patient, and without assuming how many images there are of a class.

The features come from public weights and a public set (phantoms): the map reads no patient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.network.generator import Generator
from gan.network.sampling import Table
from gan.private.condition_means import ConditionPart, in_blocks, value_vectors
from gan.private.findings import FindingMeans, finding_vectors
from gan.settings.parts import EmbeddingSettings
from gan.training.examples import Examples
from gan.training.guidance import BinnedSpectrum, RunningMean, absent_classes, class_moments
from gan.training.loop import (
    Schedule,
    Training,
    average_weights,
    random_inputs,
    set_rates,
    steps_left,
)
from synthdp.data.dataset import load_images, open_dataset
from synthdp.errors import InputError, RunError
from synthdp.machine.devices import reduced_precision
from synthdp.machine.progress import progress
from synthdp.networks.frozen import FrozenPyramid, build_pyramid, channel_moments
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.clipping import unit_means
from synthdp.privacy.noisy_sum.lattice import release_once
from synthdp.privacy.noisy_sum.noise import NoiseSource

#: Standardised features are clipped to this many standard deviations.
MAX_DEVIATIONS = 6.0
#: Norm of the spectrum's block beside that of the network's, 1. Of 0, 0.25, 0.5 and 1 the first two
#: told the classes of CBIS-DDSM train best (patients held out, difference of means); 0.25 keeps
#: the texture in view.
SPECTRUM_NORM = 0.25
#: Least standard deviation of a feature over the public set, so that a dead one is not blown up.
FLOOR = 1e-3
#: Least share of the declared patients that a class counts as, whatever the noise says.
_LEAST_SHARE = 0.05
#: How fast the running mean of generated features forgets.
_DECAY = 0.95
_LOG_STEPS = 50
#: A layout is an image at this fraction of its side.
_LAYOUT_SHARE = 8
_BATCH = 64

# The public map from images to vectors of norm 1.


class PublicMap(Protocol):
    """Images (B, 1, S, S), about [-1, 1], to (B, 1 + D) of norm at most 1, led by a constant."""

    @property
    def mean(self) -> Tensor:
        """What its features are centred by, on its device."""
        ...

    @property
    def size(self) -> int:
        """D, the numbers of a vector beside its constant."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """The vectors."""
        ...


@dataclass(frozen=True)
class PublicFeatures:
    """Images to unit vectors: a constant, then standardised features of a frozen network.

    The constant lets a released sum tell how many images it covers, so that no count has to be
    assumed. The rest are means of the network's maps and log powers of the spectrum's bins, both
    standardised by the public set, and clipped, in blocks of a fixed norm; the whole has norm 1.

    pyramid: the network; spectrum: the bins; mean, scale: (F,) of the public set; blocks: lengths
    of network and spectrum; constant: in (0, 1); directions: (D, F) orthonormal, along which alone
    the rest is taken, with norm 1 again; None keeps all F numbers, so that D is F.
    """

    pyramid: FrozenPyramid
    spectrum: BinnedSpectrum
    mean: Tensor
    scale: Tensor
    blocks: tuple[int, int]
    constant: float
    directions: Tensor | None = None

    @property
    def size(self) -> int:
        """D, the numbers of a vector beside its constant."""
        return len(self.mean if self.directions is None else self.directions)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S), about [-1, 1], to (B, 1 + D) of norm 1; differentiable."""
        unit = self.unit_features(raw_features(self.pyramid, self.spectrum, images))
        if self.directions is not None:
            unit = unit_rows(unit @ self.directions.T)
        rest = (1 - self.constant**2) ** 0.5
        return torch.cat([unit.new_full((len(unit), 1), self.constant), rest * unit], dim=1)

    def unit_features(self, raw: Tensor) -> Tensor:
        """Features of network and spectrum (B, F), standardised, of norm 1 together."""
        standardised = (raw - self.mean) / self.scale
        clipped = standardised.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        of_network, of_spectrum = (unit_rows(part) for part in clipped.split(self.blocks, dim=1))
        return unit_rows(torch.cat([of_network, SPECTRUM_NORM * of_spectrum], dim=1))


def unit_rows(rows: Tensor) -> Tensor:
    """Rows (B, F) at norm 1; of a row of zeros, zeros."""
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return unit


def raw_features(pyramid: FrozenPyramid, spectrum: BinnedSpectrum, images: Tensor) -> Tensor:
    """Means of the network's maps, then log powers: (B, F), not yet standardised."""
    of_network = channel_moments(pyramid(images))
    means = of_network[:, : of_network.shape[1] // 2]
    return torch.cat([means, spectrum.of_each(images).clamp_min(1e-6).log()], dim=1)


def public_features(
    recipe: EmbeddingSettings, size_px: int, device: torch.device
) -> PublicFeatures:
    """The map that the settings name, for images of this side.

    Raises:
        InputError: when the public set or the network's weights cannot be used.
    """
    public = open_dataset(recipe.public)
    images = torch.from_numpy(load_images(public, public.split("train"), size_px))
    return fit_public_features(
        build_pyramid(recipe.features, size_px, setting="embedding.features").to(device),
        BinnedSpectrum(size_px, device),
        images.to(device),
        constant=recipe.constant,
        components=recipe.components,
    )


@torch.no_grad()
def fit_public_features(
    pyramid: FrozenPyramid,
    spectrum: BinnedSpectrum,
    public: Tensor,
    *,
    constant: float,
    components: int | None = None,
    batch: int = _BATCH,
) -> PublicFeatures:
    """Take mean, scale and principal directions from public images (N, 1, S, S), `batch` at a time.

    Raises:
        RunError: when a feature of theirs is not finite.
    """
    parts = progress(public.split(batch), what="features of the public images")
    raw = torch.cat([raw_features(pyramid, spectrum, part) for part in parts])
    if not bool(torch.isfinite(raw).all()):  # of patients' images it would be refused by nobody
        raise RunError(
            "embedding: features of the public images are not finite; the network's weights have "
            "diverged or are damaged"
        )
    n_network = sum(pyramid.widths)
    features = PublicFeatures(
        pyramid=pyramid,
        spectrum=spectrum,
        mean=raw.mean(dim=0),
        scale=raw.std(dim=0).clamp_min(FLOOR),
        blocks=(n_network, raw.shape[1] - n_network),
        constant=constant,
    )
    if components is None:
        return features
    directions = principal_directions(
        features.unit_features(raw), components, setting="embedding.components"
    )
    return replace(features, directions=directions)


def principal_directions(rows: Tensor, count: int, *, setting: str) -> Tensor:
    """The directions (count, F) along which rows (N, F) vary most, orthonormal.

    Raises:
        InputError: when there are fewer, naming the setting that asks for them.
    """
    if count > min(rows.shape[1], len(rows) - 1):
        raise InputError(
            f"{setting}: {count} are asked for, of {rows.shape[1]} features of "
            f"{len(rows)} public images; lower it"
        )
    centred = (rows - rows.mean(dim=0)).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # in rising order
    largest: Tensor = vectors[:, -count:].T.flip(0).to(rows).contiguous()
    return largest


# The release: all that is ever read of patients.


def patient_rows(
    features: PublicMap,
    examples: Examples,
    units: Tensor,
    n_units: int,
    shares: Sequence[float] | None = None,
    *,
    part: ConditionPart | None = None,
) -> Tensor:
    """One row a patient of norm at most 1, whatever the images: private.

    It has 2 (1 + D) numbers, or of T findings those of `finding_vectors`, or with conditions those
    of `value_vectors`.

    Args:
        features: the public map.
        examples: the patients' images, on the CPU.
        units: (N,) int64 in [0, n_units), the patient of each.
        n_units: how many patients there are.
        shares: of several findings, the public share of each.
        part: what of a row goes to conditions, whose codes are the examples' attributes.
    """
    vectors = image_vectors(features, examples.images)
    codes = examples.attributes
    return vectors_of_patients(
        vectors, examples.labels, units, n_units, shares, codes=codes, part=part
    )


def vectors_of_patients(
    vectors: Tensor,
    labels: Tensor,
    units: Tensor,
    n_units: int,
    shares: Sequence[float] | None,
    *,
    codes: Tensor,
    part: ConditionPart | None,
) -> Tensor:
    """`finding_vectors` where there are shares, `value_vectors` where conditions are told.

    Else `patient_vectors`, and the codes are not looked at.
    """
    if shares is not None:
        return finding_vectors(vectors, labels, units, n_units, shares)
    if part is not None:
        return value_vectors(vectors, labels, units, n_units, codes=codes, part=part)
    return patient_vectors(vectors, labels, units, n_units)


def released_sums(
    rows: Tensor, *, mechanism: Mechanism | None, noise_source: NoiseSource | None
) -> Tensor:
    """The noisy sums over the normaliser, as long as a row; without a mechanism the plain means.

    Args:
        rows: of `patient_rows`.
        mechanism: one step on all patients, of clip norm 1.
        noise_source: given with a mechanism.

    Guarantee: with a mechanism, one release of what `mechanism` says: only the noisy sum is
    returned.
    """
    if mechanism is None:
        return rows.mean(dim=0)
    assert noise_source is not None  # given with a mechanism
    return release_once(rows, mechanism, noise_source)


@torch.no_grad()
def image_vectors(features: PublicMap, images: Tensor) -> Tensor:
    """The vector of each image (N, 1, S, S) and its mirror image, (N, 1 + D) on the CPU.

    One image at a time: the last bits of what a network gives for an image may depend on what is
    beside it in a batch, and a patient's row has to depend on that patient alone.
    """
    device = features.mean.device
    parts = [part for part in images.split(1) if len(part)]  # of none, none
    of_parts = [_of_both_sides(features, part.to(device)) for part in parts]
    nobody = features.mean.new_zeros(0, 1 + features.size)
    return torch.cat([nobody, *of_parts]).cpu()


def _of_both_sides(features: PublicMap, images: Tensor) -> Tensor:
    """The mean vector of an image and its mirror image, (B, K)."""
    return (features(images) + features(images.flip(-1))) / 2


def patient_vectors(vectors: Tensor, labels: Tensor, units: Tensor, n_units: int) -> Tensor:
    """One row a unit: the mean over its images of their vectors, each in the half of its class.

    Args:
        vectors: (N, K) of norm at most 1.
        labels: (N,) of 0, 1 and `UNLABELLED`, which is negative and gives zeros.
        units: (N,) int64 in [0, n_units).
        n_units: U.

    Returns:
        (U, 2 K), each row of norm at most 1, since it is a mean of rows of norm at most 1. A unit
        with many images, or with images of both classes, weighs no more than any other.
    """
    return unit_means(in_blocks(vectors, labels, 2).flatten(1), units, n_units)


# What is made of the release: post-processing, as is all that follows.


def class_means(
    released: Tensor, mechanism: Mechanism | None, *, class_prior: float, constant: float
) -> tuple[Tensor, Tensor]:
    """The mean vectors of both classes, from their released sums over the declared patients.

    Args:
        released: (2, 1 + D), each row led by the sum of its images' constants.
        mechanism: of the release; None where it has no noise.
        class_prior: the public share of class 1, which bounds what noise can do to a count.
        constant: that of each image's vector.

    Returns:
        Means (2, D), and the standard deviation (2,) of the noise in each of their coordinates.
    """
    prior = released.new_tensor([1 - class_prior, class_prior])
    shares = (released[:, 0] / constant).maximum(_LEAST_SHARE * prior)
    noise = 0.0 if mechanism is None else mechanism.noise_scale / mechanism.normaliser
    return released[:, 1:] / shares[:, None], noise / shares


def matched_means(means: Tensor, deviations: Tensor, separation: float) -> Tensor:
    """What the generator is matched to: the class means without what is likely noise in them.

    The mean of the two and half of their difference are each shrunk as James and Stein (1961) did,
    with the noise's public variance; the second is then multiplied by `separation`.

    Args:
        means: (2, D).
        deviations: (2,), standard deviation of the noise in a coordinate of each.
        separation: 1 for the classes as far apart as they are likely to be.
    """
    variance = deviations.square().sum() / 4
    middle = _shrunk(means.mean(dim=0), variance)
    half = separation * _shrunk((means[1] - means[0]) / 2, variance)
    return torch.stack([middle - half, middle + half])


def matched_findings(means: FindingMeans, separation: float) -> Tensor:
    """As `matched_means`, of several findings: (2 T, D), without and with each.

    The mean of all images and the difference of each finding are shrunk; both classes of a finding
    lie about the mean of all, as its share says.

    Args:
        means: as they were released.
        separation: 1 for findings that show as much as is likely.
    """
    whole = _shrunk(means.whole, means.whole_deviation.square())
    classes = []
    for difference, deviation, share in zip(
        means.differences, means.deviations, means.shares, strict=True
    ):
        apart = separation * _shrunk(difference, deviation.square())
        classes += [whole - share * apart, whole + (1 - share) * apart]
    return torch.stack(classes)


def _shrunk(vector: Tensor, variance: Tensor) -> Tensor:
    """A vector (D,) times the positive part of 1 - D variance / its squared norm."""
    noise = len(vector) * variance
    return vector * (1 - noise / vector.square().sum().clamp_min(1e-12)).clamp_min(0)


class Matching:
    """The state of matching: the released target, and a running mean of what is generated.

    Args:
        features: the public map.
        target: (2, D), the class means of its vectors without their constant, from the release; of
            T findings (2 T, D).
        start: the generator of `init`, whose layouts are kept; None without one.
        layout_weight: of keeping them.
    """

    def __init__(
        self,
        features: PublicFeatures,
        target: Tensor,
        start: Generator | None = None,
        layout_weight: float = 0.0,
    ) -> None:
        self.features = features
        self.target = target
        self.start = start
        self.layout_weight = layout_weight
        self.generated = RunningMean(_DECAY)
        self.modules: dict[str, nn.Module] = {}  # no weights of its own to keep

    def loss(
        self, images: Tensor, z: Tensor, noise: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the generator descends, and how far its means are off, a scalar each.

        Args:
            images: (B, 1, S, S), drawn from the rest; gradients flow to them.
            z: (B, z_dim).
            noise: (B, noise_dim).
            labels: (B,) of both classes, or (B, T).
        """
        vectors = self.features(images)[:, 1:]
        absent = absent_classes(labels)  # none of a single target
        if absent is None:
            batch = torch.stack([vectors[labels == value].mean(dim=0) for value in (0, 1)])
        else:
            batch = class_moments(vectors, labels)[0]
        gap = (self.generated.update(batch, absent) - self.target).detach()
        loss = 2 / len(self.target) * (gap * batch).sum()
        if self.start is not None:
            with torch.no_grad():
                before = self.start(z, noise, labels).clamp(-1, 1)
            layout, held = (F.avg_pool2d(part, _LAYOUT_SHARE) for part in (images, before))
            loss = loss + self.layout_weight * F.mse_loss(layout, held)
        return loss, gap.norm()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"generated": (self.generated.value, self.generated.count)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.generated.value, self.generated.count = state["generated"]


def match(
    training: Training,
    matching: Matching,
    schedule: Schedule,
    *,
    checkpoint_kimg: float,
    log: Callable[..., None],
    keep: Callable[[], None],
    findings: Sequence[Table] = (),
) -> None:
    """Move the generator from the step that `training` has reached to the last; reads no patient.

    Args:
        training: moved in place; its discriminator is left alone.
        matching: target and running mean; moved in place.
        schedule: of rates and average.
        findings: how several findings are drawn (`gan.network.sampling.draw_findings`).
        checkpoint_kimg: a checkpoint is kept every so many thousand images, and at the end.
        log: takes a line of metrics.
        keep: saves a checkpoint.
    """
    generator, batch = training.generator, schedule.batch
    device = generator.device
    autocast = reduced_precision(device)
    every = max(1, round(checkpoint_kimg * 1000 / batch))
    labels = (torch.arange(batch) % 2).to(device)
    for step in steps_left(training, what="matching the generator"):
        now = schedule.at(step, training.share)
        set_rates(training, now)
        z, noise = random_inputs(generator, batch, training.rng)
        if findings:
            labels = _drawn_labels(findings, batch, training.rng).to(device)
        with autocast:
            images = generator(z, noise, labels)
        loss, gap = matching.loss(images, z, noise, labels)
        training.generator_optimiser.zero_grad()
        loss.backward()
        training.generator_optimiser.step()
        average_weights(training, now.ema_decay)
        training.step += 1
        last = training.budget.is_over(training.step)
        if training.step % _LOG_STEPS == 0 or last:
            log(step=training.step, gap=round(gap.item(), 5))
        if training.step % every == 0 or last:
            keep()
        if last:
            return


def _drawn_labels(findings: Sequence[Table], count: int, rng: torch.Generator) -> Tensor:
    """Labels (count, T) of several findings, as often as they are drawn later."""
    drawn = []
    for block in findings:
        shares = torch.tensor([share for _, share in block], dtype=torch.float64)
        codes = torch.tensor([list(combination) for combination, _ in block])
        drawn.append(codes[torch.multinomial(shares, count, replacement=True, generator=rng)])
    return torch.cat(drawn, dim=1) - 1
