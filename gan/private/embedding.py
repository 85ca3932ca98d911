"""The private generator: one noisy release of class-wise mean features, then matching it.

Each patient gives the mean over the patient's images of a vector of norm 1 that public features
make of an image, put in the place of its class; the sum over patients is released once, with
Gaussian noise. The generator is then moved until its own mean features of each class are the
released ones, for as long as one likes: that costs nothing more. Harder et al., arXiv 2205.12900
(DP-MEPF); here by patient, and without assuming how many images there are of a class.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.config import EmbeddingSettings, TrainGanSettings
from gan.network.generator import Generator
from gan.package.model import load_generator, start_from
from gan.plan import GanPlan, units_of
from gan.private.public_features import PublicFeatures, fit_public_features
from gan.training.checkpoint import kept
from gan.training.examples import load_examples
from gan.training.loop import (
    Training,
    average_weights,
    new_training,
    schedule_at,
    set_rates,
    total_steps,
)
from gan.training.moments import BinnedSpectrum, RunningMean
from synthdp.checkpoint import load_weights, save_weights
from synthdp.data.dataset import Row, load_images, open_dataset
from synthdp.devices import chosen_device, reduced_precision
from synthdp.networks.frozen import build_pyramid
from synthdp.privacy.clipping import unit_means
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import noise_source, release_once
from synthdp.progress import progress
from synthdp.runs import Run

RELEASED = "embedding.safetensors"
#: Least share of the declared patients that a class counts as, whatever the noise says.
_LEAST_SHARE = 0.05
_DECAY = 0.95
_LOG_STEPS = 50
#: A layout is an image at this fraction of its side.
_LAYOUT_SHARE = 8
_BATCH = 64


class EmbeddingMatch:
    """The state of matching: the released target, and a running mean of what is generated.

    Args:
        features: the public map.
        target: (2, D), the class means of its vectors without their constant, from the release.
        start: the generator of `init`, whose layouts are kept; None without one.
        layout_weight: of keeping them.
    """

    modules: dict[str, nn.Module]

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
        self.modules = {}

    def loss(
        self, images: Tensor, z: Tensor, noise: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the generator descends, and how far its means are off, a scalar each.

        Args:
            images: (B, 1, S, S), drawn from the rest; gradients flow to them.
            z: (B, z_dim).
            noise: (B, noise_dim).
            labels: (B,) of both classes.
        """
        vectors = self.features(images)[:, 1:]
        batch = torch.stack([vectors[labels == value].mean(dim=0) for value in (0, 1)])
        gap = (self.generated.update(batch) - self.target).detach()
        loss = (gap * batch).sum()
        if self.start is not None:
            with torch.no_grad():
                before = self.start(z, noise, labels).clamp(-1, 1)
            loss = loss + self.layout_weight * F.mse_loss(_layout(images), _layout(before))
        return loss, gap.norm()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"generated": (self.generated.value, self.generated.count)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.generated.value, self.generated.count = state["generated"]


def _layout(images: Tensor) -> Tensor:
    return F.avg_pool2d(images, _LAYOUT_SHARE)


def train_from_embedding(
    settings: TrainGanSettings, run: Run, plan: GanPlan, rows: Sequence[Row]
) -> Generator:
    """Release once, then match; goes on where an earlier start of the run was stopped.

    Args:
        settings: of the run, with `embedding`.
        run: its release is claimed already.
        plan: of the run; its mechanism is one step on all patients, or None without privacy.
        rows: the patients' images.

    Guarantee: `rows` are read for one call of `release_once`, whose result is kept; everything else
    is a function of that result and of public things.

    Raises:
        InputError: when an image, the public set or the network's weights cannot be used.
    """
    assert settings.embedding is not None  # TrainGanSettings asks for it
    device = chosen_device(settings.device)
    features = _public_features(settings, settings.embedding, device)
    sums = _released(settings, run, plan, rows, features=features, device=device)
    means, deviations = class_means(sums, plan.release.mechanism, settings)
    target = matched_means(means, deviations, settings.embedding.separation)
    training = new_training(settings, device)
    start_from(settings.init, training.generator, training.averaged)
    start = _start(settings, device)
    training.guidance = EmbeddingMatch(features, target, start, settings.embedding.layout_weight)
    untold = torch.empty(len(rows), 0, dtype=torch.int64)
    with kept(settings, run, plan, training, untold) as (log, keep):
        match(training, training.guidance, settings, log=log, keep=keep)
    assert isinstance(training.averaged, Generator)  # arch: haar
    return training.averaged


def patient_vectors(vectors: Tensor, labels: Tensor, units: Tensor, n_units: int) -> Tensor:
    """One row a unit: the mean over its images of their vectors, each in the place of its class.

    Args:
        vectors: (N, K) of norm at most 1.
        labels: (N,) of 0 and 1.
        units: (N,) int64 in [0, n_units).
        n_units: U.

    Returns:
        (U, 2 K), each row of norm at most 1, since it is a mean of rows of norm at most 1: a unit
        with images of both classes has no more say than any other.
    """
    placed = vectors.new_zeros(len(vectors), 2, vectors.shape[1])
    placed[torch.arange(len(vectors)), labels] = vectors
    return unit_means(placed.flatten(1), units, n_units)


def class_means(
    released: Tensor, mechanism: Mechanism | None, settings: TrainGanSettings
) -> tuple[Tensor, Tensor]:
    """The mean vectors of both classes, from their released sums over the declared patients.

    Args:
        released: (2, 1 + D), each row led by the sum of its images' constants.
        mechanism: of the release; None where it has no noise.
        settings: of the run, whose public class prior bounds what noise can do to a count.

    Returns:
        Means (2, D), and the standard deviation (2,) of the noise in each of their coordinates.
    """
    assert settings.embedding is not None
    prior = released.new_tensor([1 - settings.class_prior, settings.class_prior])
    shares = (released[:, 0] / settings.embedding.constant).maximum(_LEAST_SHARE * prior)
    noise = 0.0 if mechanism is None else mechanism.noise_scale / mechanism.normaliser
    return released[:, 1:] / shares[:, None], noise / shares


def matched_means(means: Tensor, deviations: Tensor, separation: float) -> Tensor:
    """What the generator is matched to: the class means without what is likely noise in them.

    The middle of the two and half of what sets them apart are each shrunk as James and Stein (1961)
    did, with the noise's public variance; the second is then multiplied by `separation`.

    Args:
        means: (2, D).
        deviations: (2,), standard deviation of the noise in a coordinate of each.
        separation: 1 for the classes as far apart as they are likely to be.
    """
    variance = deviations.square().sum() / 4
    middle = _shrunk(means.mean(dim=0), variance)
    half = separation * _shrunk((means[1] - means[0]) / 2, variance)
    return torch.stack([middle - half, middle + half])


def _shrunk(vector: Tensor, variance: Tensor) -> Tensor:
    """A vector (D,) times the positive part of 1 - D variance / its squared norm."""
    noise = len(vector) * variance
    return vector * (1 - noise / vector.square().sum().clamp_min(1e-12)).clamp_min(0)


def match(
    training: Training,
    matching: EmbeddingMatch,
    settings: TrainGanSettings,
    *,
    log: Callable[..., None],
    keep: Callable[[], None],
) -> None:
    """Move the generator from where `training` stands to the end; reads no patient.

    Args:
        training: moved in place; its discriminator is left alone.
        matching: target and running mean.
        settings: of the run.
        log: takes a line of metrics.
        keep: saves a checkpoint; called every `checkpoint_kimg` and at the end.
    """
    device, last = training.generator.device, total_steps(settings)
    autocast = reduced_precision(device)
    every = max(1, round(settings.checkpoint_kimg * 1000 / settings.batch))
    labels = (torch.arange(settings.batch) % 2).to(device)
    for step in progress(range(training.step, last), what="matching the generator"):
        now = schedule_at(step, settings)
        set_rates(training, settings, now)
        z = torch.randn(settings.batch, settings.z_dim, generator=training.rng).to(device)
        noise_dim = training.generator.noise_dim
        noise = torch.randn(settings.batch, noise_dim, generator=training.rng).to(device)
        with autocast:
            images = training.generator(z, noise, labels)
        loss, gap = matching.loss(images, z, noise, labels)
        training.generator_optimiser.zero_grad()
        loss.backward()
        training.generator_optimiser.step()
        average_weights(training, now.ema_decay)
        training.step += 1
        if training.step % _LOG_STEPS == 0 or training.step == last:
            log(step=training.step, gap=round(gap.item(), 5))
        if training.step % every == 0 or training.step == last:
            keep()


def _start(settings: TrainGanSettings, device: torch.device) -> Generator | None:
    if settings.init is None:
        return None
    start = load_generator(settings.init, device)
    assert isinstance(start, Generator)  # arch: haar
    return start


def _public_features(
    settings: TrainGanSettings, recipe: EmbeddingSettings, device: torch.device
) -> PublicFeatures:
    public = open_dataset(recipe.public)
    images = torch.from_numpy(load_images(public, public.split("train"), settings.size_px))
    pyramid = build_pyramid(recipe.features, settings.size_px).to(device)
    spectrum = BinnedSpectrum(settings.size_px, device)
    return fit_public_features(
        pyramid, spectrum, images.to(device), constant=recipe.constant, batch=_BATCH
    )


def _released(
    settings: TrainGanSettings,
    run: Run,
    plan: GanPlan,
    rows: Sequence[Row],
    *,
    features: PublicFeatures,
    device: torch.device,
) -> Tensor:
    """The noisy sums over the normaliser, (2, 1 + D), made once and kept in the run."""
    path: Path = run.private / RELEASED
    if path.is_file():
        return load_weights(path)["sums"].to(device)
    examples = load_examples(plan.dataset, rows, settings.size_px)
    with torch.no_grad():
        vectors = torch.cat(
            [_of_both_sides(features, part.to(device)) for part in examples.images.split(_BATCH)]
        ).cpu()
    names, units = np.unique(units_of(settings, tuple(rows)), return_inverse=True)
    per_unit = patient_vectors(vectors, examples.labels, torch.from_numpy(units), len(names))
    mechanism: Mechanism | None = plan.release.mechanism
    if mechanism is None:
        total = per_unit.mean(dim=0)
    else:
        source = noise_source(run.private, settings.privacy)
        total = release_once(per_unit, mechanism, source)
    save_weights(path, {"sums": total.view(2, -1)})
    return total.view(2, -1).to(device)


def _of_both_sides(features: PublicFeatures, images: Tensor) -> Tensor:
    """The mean vector of an image and its mirror image, (B, K)."""
    return (features(images) + features(images.flip(-1))) / 2
