"""Replay of a release: of the patients and of all but one, and of what the run itself released."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gan.auditing.declared import declared_sum
from gan.auditing.subject import EmbeddingSubject, Vectors
from gan.private.embedding import PublicMap, patient_rows, released_sums
from gan.training.examples import UNLABELLED, Examples
from synthdp.machine.progress import progress
from synthdp.privacy.attacks.audit import CANARY_IMAGE_NORMS, Scores, noise_flaws
from synthdp.privacy.attacks.rerun import RecordedNoise, repeated_noise
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.runs.audit_record import Replay

_EXTREMES = 2
#: Patients whose images are embedded again, with and without some of them.
_SEEN_AGAIN = 16
#: Rounding of each patient's float32 mean, as a share of the clip norm; those of many add up.
_ROUNDING = 1e-6


def broken_release(subject: EmbeddingSubject, released: Tensor, risk: float) -> list[str]:
    """What is wrong with the noise of a release that was made: with the sums of the run.

    Args:
        subject: its promise, and the patients that it was made of.
        released: what was saved and gave the generator.
        risk: chance that a sound release is called broken, at most.
    """
    declared = declared_sum(subject.embedded, subject.mechanism.clip_norm)
    rest = released.flatten().double() * subject.mechanism.normaliser - declared
    scaled = (rest / subject.noise_scale).numpy()[None]
    if not np.isfinite(scaled).all():
        return ["what the run released is not finite"]
    flaws = noise_flaws(scaled, risk)
    return [f"in what the run released the noise is {what}, not as declared" for what in flaws]


def replay(
    subject: EmbeddingSubject, generator: np.random.Generator, *, patients: int, risk: float
) -> Replay:
    """Compare the release with those of neighbours, and its noise with its declaration.

    From vectors on, with all patients and made-up ones: one far above the clip norm, one with a
    NaN, one unlabelled. From images on with some, and made-up ones of many images of both
    classes and with a NaN. Sums are compared with those of `declared_sum`.

    Args:
        subject: the release.
        generator: chooses patients, and gives keys.
        patients: how many random patients are left out, one at a time.
        risk: chance that a sound release is called broken, at most.
    """
    everybody = subject.embedded.joined(_planted_vectors(subject, generator))
    n_real = subject.embedded.n_units
    norms = subject.embedded.rows().double().norm(dim=1).nan_to_num()
    left_out = [*range(n_real, n_real + 3), *norms.argsort(descending=True)[:_EXTREMES].tolist()]
    left_out += generator.permutation(n_real)[:patients].tolist()
    worlds = [everybody, *(everybody.without(unit) for unit in dict.fromkeys(left_out))]
    key = generator.bytes(KEY_BYTES)
    from_vectors = [_World(one, partial(subject.released, one)) for one in worlds]
    draws, moves, broken = _compared(subject, from_vectors, key)
    from_images = _image_worlds(subject, generator)
    _, image_moves, image_broken = _compared(subject, from_images, key)
    flaws = noise_flaws(draws[None] / subject.noise_scale, risk)
    broken += [*image_broken, *(f"the noise is {what}, not as declared" for what in flaws)]
    return Replay(
        neighbours=len(from_vectors) + len(from_images) - 2,
        largest_move=max([*moves, *image_moves]),
        draws=draws.size,
        broken=tuple(dict.fromkeys(broken)),
    )


@dataclass(frozen=True, eq=False)
class _World:
    """A set of patients: what is declared of them, and the code under test that releases it."""

    embedded: Vectors
    release: Callable[[NoiseSource], Tensor]


def _compared(
    subject: EmbeddingSubject, worlds: Sequence[_World], key: bytes
) -> tuple[Scores, list[float], list[str]]:
    """What was released of the first world less what it declares; moves, in clip norms, of the
    others from it; and what is wrong."""
    clip_norm = subject.mechanism.clip_norm
    size = subject.embedded.row_size
    tolerance = 1e-4 * clip_norm + 1e-6 * subject.noise_scale * size**0.5
    broken: list[str] = []
    sums, flows = [], []
    for world in progress(worlds, what="releases compared"):
        source = RecordedNoise(key, subject.noise)
        noisy = world.release(source).flatten().double() * subject.mechanism.normaliser
        sums.append(noisy)
        flows.append([(draw.stream, draw.shape, draw.scale) for draw in source.draws])
        broken += repeated_noise(source.draws)
        drawn = torch.cat([draw.in_units_of(subject.noise_scale) for draw in source.draws])
        declared = declared_sum(world.embedded, clip_norm)
        rounding = _ROUNDING * clip_norm * world.embedded.n_units
        gap = float((noisy - declared - drawn).norm()) if len(drawn) == size else np.inf
        if not gap <= tolerance + rounding:
            broken.append(
                "released x declared normaliser is not the clipped sum plus the noise drawn"
            )
    if any(flow != flows[0] for flow in flows):
        broken.append("draws depend on who is there")
    moves = [float((one - sums[0]).norm()) / clip_norm for one in sums[1:]]
    if not all(move <= 1 + tolerance / clip_norm for move in moves):
        broken.append("one patient moves the sum by more than the clip norm")
    rest: Scores = (sums[0] - declared_sum(worlds[0].embedded, clip_norm)).numpy()
    return rest, moves, broken


def _planted_vectors(subject: EmbeddingSubject, generator: np.random.Generator) -> Vectors:
    """Three made-up patients: far above the clip norm, with a NaN, without a label."""
    size = subject.embedded.vectors.shape[1]
    n_long = len(CANARY_IMAGE_NORMS)
    direction = torch.from_numpy(generator.normal(size=size)).float()
    lengths = subject.mechanism.clip_norm * torch.tensor([*CANARY_IMAGE_NORMS, 1.0, 1.0])
    vectors = lengths[:, None] * F.normalize(direction, dim=0)
    vectors[n_long, 0] = torch.nan
    return subject.embedded.made_up(
        vectors,
        [0] * n_long + [1, UNLABELLED],
        torch.tensor([0] * n_long + [1, 2]),
        range(n_long + 2),
    )


def _image_worlds(subject: EmbeddingSubject, generator: np.random.Generator) -> list[_World]:
    """Some patients and three made-up ones, and without each of these, from images on."""
    chosen = torch.from_numpy(
        np.sort(generator.permutation(subject.embedded.n_units)[:_SEEN_AGAIN])
    )
    kept = torch.isin(subject.units, chosen)
    side = subject.examples.images.shape[-1]
    broken = torch.full((1, 1, side, side), torch.nan)
    noise = torch.from_numpy(generator.normal(size=(5, 1, side, side))).float().clamp(-1, 1)
    images = torch.cat([subject.examples.images[kept], noise[:4], broken, noise[4:]])
    units = torch.searchsorted(chosen, subject.units[kept])
    with torch.no_grad():  # one at a time: nobody's vector may depend on who stands beside it
        vectors = torch.cat(
            [
                _embedded_alone(subject.features, image)
                for image in progress(images, what="features of single images")
            ]
        )

    n_kept = int(kept.sum())
    planted = subject.embedded.made_up(
        vectors[n_kept:], [0, 1, 1, 1, 0, 1], torch.tensor([0, 0, 0, 0, 1, 2]), range(6)
    )
    real = replace(subject.embedded.of(kept, units), vectors=vectors[:n_kept])
    everybody = real.joined(planted)

    def world(mask: Tensor) -> _World:
        names, own = torch.unique(everybody.units[mask], return_inverse=True)
        embedded = everybody.of(mask, own)
        examples = Examples(images[mask], embedded.labels, embedded.codes)

        def release(source: NoiseSource) -> Tensor:
            count, shares, part = len(names), embedded.shares, embedded.part
            rows = patient_rows(subject.features, examples, own, count, shares, part=part)
            return released_sums(rows, mechanism=subject.mechanism, noise_source=source)

        return _World(embedded, release)

    last = everybody.n_units - 3
    masks = [torch.ones(len(images), dtype=torch.bool)]
    masks += [everybody.units != last + unit for unit in range(3)]
    return [world(mask) for mask in masks]


def _embedded_alone(features: PublicMap, image: Tensor) -> Tensor:
    """The vector of one image (1, S, S) and its mirror image, (1, K)."""
    batch = image[None].to(features.mean.device)
    mean: Tensor = (features(batch) + features(torch.flip(batch, dims=[3]))).cpu() / 2
    return mean
