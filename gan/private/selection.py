"""Selection instead of moving: images of a public pool, weighted by one noisy release of patients.

Each patient gives the mean over the patient's images of a public vector of each, as in
`gan.private.embedding`, or by the values of conditions too (`gan.private.condition_means`); the sum
over patients is released once. Candidates of the pool, which cost nothing, are then weighted until
their mean vectors, by class or by class and value, are the released ones (`gan.private.tilting`),
and drawn by their weights. So variety comes from the pool, and not from what noise allows; a
network may be trained on what was drawn, at no further cost.

A generator that is chosen from a simulator's images by what a private set says of them goes back to
Private Evolution (arXiv 2305.15560; with simulators 2502.05505), which votes for single candidates
in rounds; here one release says all, of D numbers a class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.private.condition_means import ConditionPart, ValueMeans, value_means
from gan.private.embedding import class_means
from gan.private.pool import Pool
from gan.private.tilting import (
    Groups,
    PoolMoments,
    drawn_candidates,
    effective_size,
    tilted_weights,
    value_targets,
    wiener_targets,
)
from gan.private.wide_map import RawMap, WideMap
from synthdp.data.dataset import Dataset, Row, load_images
from synthdp.data.images import to_uint8
from synthdp.errors import InputError
from synthdp.machine.memory import keep_freed_memory
from synthdp.machine.progress import progress
from synthdp.networks.cache import cached_features, made_among
from synthdp.privacy.accounting.gaussian import gaussian_epsilon
from synthdp.privacy.mechanism import Mechanism

Array = NDArray[np.float64]

#: How far the mean of patients may be supposed to lie from a pool's, in units of the pool's own
#: variance, when it is asked beforehand whether a release could show it: that of CBIS-DDSM lies
#: about .09 from phantoms of two styles.
SUPPOSED_SHIFT = 0.1
#: Such a shift is to stand out by so many standard deviations of the noise's squared norm at least;
#: below, equal weights are as good.
LEAST_Z = 3.0
_BATCH = 32


def pool_features(pool: Pool, raw: RawMap, size_px: int) -> NDArray[np.float16]:
    """What the networks say of each candidate, (N, F); kept beside its set, part by part."""
    device, identity = raw.spectrum.window.device, raw.identity()
    keep_freed_memory()

    @torch.no_grad()
    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = raw(torch.from_numpy(images).to(device)).cpu().numpy()
        return values

    parts = [
        cached_features(
            dataset,
            rows,
            extractor_id=identity,
            size_px=size_px,
            compute=compute,
            batch=_BATCH,
            what="features of candidates",
            dtype="float16",
        )
        for dataset, rows in pool.members
    ]
    return np.concatenate(parts)


@torch.no_grad()
def patients_vectors(
    features: WideMap, dataset: Dataset, rows: Sequence[Row], among: Sequence[Row], size_px: int
) -> Tensor:
    """The vectors of patients' images, (N, 1 + D): to the bit those of `image_vectors`.

    What the networks say of an image and its mirror image is kept beside the data set, for all who
    select from it.

    Args:
        features: the public map.
        dataset: the patients'.
        rows: N of its rows.
        among: these and more, whose features are made and kept together (`made_among`).
        size_px: the side at which images are read.

    Guarantee: the vector of an image is a function of that image and public numbers, whoever else
    is there: every image goes through the networks, and along the directions, by itself.
    """
    device = features.mean.device

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        if not len(images):  # of no image, too, the shape is asked for
            return np.empty((0, 2, sum(features.raw.blocks)), np.float32)
        single = torch.from_numpy(images).to(device).split(1)
        both = [torch.cat([features.raw(one), features.raw(one.flip(-1))]) for one in single]
        values: NDArray[np.float32] = torch.stack(both).cpu().numpy()
        return values

    def raw_of(asked: Sequence[Row]) -> NDArray[np.float32]:
        return cached_features(
            dataset,
            asked,
            extractor_id=f"{features.raw.identity()} of both sides",
            size_px=size_px,
            compute=compute,
            batch=_BATCH,
            what="features of patients",
            finite=False,
        )

    raw, indices = made_among(raw_of, rows, among)
    vectors = [features.mean.new_zeros(0, 1 + features.size)]
    for index in indices:
        own, mirrored = torch.from_numpy(raw[index]).to(device)[:, None]
        vectors.append((features.vectors(own) + features.vectors(mirrored)) / 2)
    return torch.cat(vectors).cpu()


def pool_images(pool: Pool, indices: NDArray[np.int64], size_px: int) -> Tensor:
    """Some candidates (n,), by their indices in the pool: (n, S, S) uint8."""
    images, first = np.empty((len(indices), size_px, size_px), np.uint8), 0
    for dataset, rows in pool.members:
        own = np.flatnonzero((indices >= first) & (indices < first + len(rows)))
        if len(own):
            chosen = [rows[index] for index in indices[own] - first]
            images[own] = to_uint8(load_images(dataset, chosen, size_px)[:, 0])
        first += len(rows)
    return torch.from_numpy(images)


def refuse_drowned(
    moments: PoolMoments, mechanism: Mechanism, delta: float, part: ConditionPart | None = None
) -> None:
    """Refuse a release whose noise would hide a usual distance of patients from the pool.

    Public numbers alone decide, before anything is spent.

    Args:
        moments: of the pool.
        mechanism: of the release to come.
        delta: of the promise.
        part: what of it goes to conditions, and so not to the classes.

    Raises:
        InputError: with the epsilon, and the number of patients, that would do.
    """
    # either class is supposed to be half of the declared patients
    of_classes = mechanism if part is None else part.of_classes(mechanism)
    variance = 2 * (2 * of_classes.noise_scale / mechanism.normaliser) ** 2 / 4
    size = len(moments.mean)
    enough = SUPPOSED_SHIFT * float(moments.variances.sum()) / (LEAST_Z * np.sqrt(2 * size))
    if variance <= enough:
        return
    times = float(np.sqrt(variance / enough))
    epsilon = gaussian_epsilon(times * mechanism.mu, delta)
    raise InputError(
        "selection: the noise of this release hides how patients differ from the pool, so that "
        "equal weights on all candidates are as good, which need no patient and cost nothing; "
        f"an epsilon of about {epsilon:.2g}, or about {times * mechanism.normaliser:,.0f} patients "
        "at this one, would do"
    )


@dataclass(frozen=True)
class ReleasedConditions:
    """What a release tells of conditions, all of it public beside the sums themselves.

    part: which of it; values: (G, A) int64 from 0, of each combination of the pool's conditions
    the value of each condition.
    """

    part: ConditionPart
    values: NDArray[np.int64]


@dataclass(frozen=True)
class Selected:
    """Which candidates were kept, (2, n) indices in the pool by class, and how it went.

    Of combinations of conditions, those of the first come first.

    effective: of each class, how many equally weighted candidates its weights are worth; shift, z:
    how far patients lie from the pool, in units of the pool's variance, and of the noise.
    """

    indices: NDArray[np.int64]
    effective: tuple[float, float]
    shift: float
    z: float


def select(
    sums: Tensor,
    mechanism: Mechanism | None,
    vectors: Array,
    labels: NDArray[np.int64],
    *,
    images: int,
    constant: float,
    class_prior: float,
    separation: float,
    seed: int,
    combinations: Groups | None = None,
    conditions: ReleasedConditions | None = None,
) -> Selected:
    """Weight the candidates of each class by a release, and draw `images` of each by the weights.

    The weights of each combination of conditions sum to its public share, so that what is known of
    it is what candidates are labelled with. Where nothing is told of conditions, the release tells
    classes apart, and nothing else; where something is, each combination of a class has a mean of
    its own: that of the class, and what each of its values is likely to differ by.

    A release that lies no further from the pool than noise would leaves equal weights; it is not
    refused, for that would tell more of patients than what is kept does.

    Args:
        sums: (2, 1 + D), as released; with conditions of `value_means`.
        mechanism: of the release; None where it has no noise.
        vectors: (N, D) of the candidates, without their constant.
        labels: (N,) of 0 and 1.
        images: how many of each class, each once.
        constant: that of each vector.
        class_prior: the public share of class 1.
        separation: as of `wiener_targets` and `value_targets`.
        seed: of the drawing.
        combinations: of the candidates, with shares of whole images; one when not given.
        conditions: what of the release is of them, if anything is.
    """
    of_classes, weaker = sums, mechanism
    if conditions is not None:
        of_classes = conditions.part.classes_of(sums)
        weaker = None if mechanism is None else conditions.part.of_classes(mechanism)
    released, deviations = class_means(
        of_classes, weaker, class_prior=class_prior, constant=constant
    )
    moments = PoolMoments.of(vectors)
    by_class = [vectors[labels == value] for value in (0, 1)]
    apart = by_class[1].mean(axis=0) - by_class[0].mean(axis=0)
    targets = wiener_targets(
        released.double().numpy(), deviations.double().numpy(), moments, apart,
        separation=separation,
    )  # fmt: skip
    of_all = combinations or Groups.one(len(labels))
    shifts = None
    if conditions is not None:
        shifts = _shifts(
            value_means(sums, mechanism, conditions.part, constant=constant), conditions.values,
            vectors, of_all.of_each, separation=separation,
        )  # fmt: skip
    indices, effective = [], []
    for value, own in progress(list(enumerate(by_class)), what="weighting candidates"):
        groups = Groups(of_all.of_each[labels == value], of_all.shares)
        if shifts is None:
            weights = tilted_weights(
                own, targets.means[value], targets.ridge, most=1 / images, groups=groups
            )
        else:
            weights = _weights_by_group(
                own, targets.means[value] + shifts, targets.ridge, images, groups
            )
        drawn = _drawn(weights, groups, images, np.random.default_rng((seed, value)))
        indices.append(np.flatnonzero(labels == value)[drawn])
        effective.append(effective_size(weights))
    return Selected(np.stack(indices), (effective[0], effective[1]), targets.shift, targets.z[0])


def _shifts(
    released: Sequence[ValueMeans],
    values: NDArray[np.int64],
    vectors: Array,
    combinations: NDArray[np.int64],
    *,
    separation: float,
) -> Array:
    """What the mean of each combination is likely to differ by from that of its class, (G, D)."""
    moments = PoolMoments.of(vectors)
    shifts = np.zeros((len(values), vectors.shape[1]))
    for means, of_condition in zip(released, values.T, strict=True):
        of_each = of_condition[combinations]
        own = np.stack(
            [vectors[of_each == value].mean(axis=0) for value in range(len(means.deviations))]
        )
        differences = value_targets(
            means.differences.double().numpy(), means.deviations.double().numpy(), moments,
            own - moments.mean, separation=separation,
        )  # fmt: skip
        shifts += differences[of_condition]
    return shifts


def _weights_by_group(
    vectors: Array, targets: Array, ridge: float, images: int, groups: Groups
) -> Array:
    """Weights (N,) under which each group has a mean of its own, of targets (G, D)."""
    weights = np.empty(len(vectors))
    for group, (target, share) in enumerate(zip(targets, groups.shares, strict=True)):
        own = groups.of_each == group
        most = 1 / (images * share)
        weights[own] = share * tilted_weights(vectors[own], target, ridge, most=most)
    return weights


def _drawn(
    weights: Array, groups: Groups, images: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """`images` different candidates, of each group its share, one group after the other."""
    drawn = []
    for group, share in enumerate(groups.shares):
        own = np.flatnonzero(groups.of_each == group)
        count = round(share * images)
        drawn.append(own[drawn_candidates(weights[own] / share, count, rng)])
    return np.concatenate(drawn)


def candidate_vectors(features: WideMap, raw: NDArray[np.float16]) -> Array:
    """The vectors (N, D) of candidates from raw features (N, F), without their constant."""
    device = features.mean.device
    parts = [
        features.vectors(torch.from_numpy(part.astype(np.float32)).to(device))[:, 1:].cpu()
        for part in np.array_split(raw, max(1, len(raw) // 4096))
    ]
    return torch.cat(parts).double().numpy()
