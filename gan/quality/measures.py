"""How close one set of features is to another: distances, coverage, a detector, and labels.

Arrays in memory go in, numbers come out; what is compared with what is `gan.quality.figures`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import euclidean_distances
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from synthdp.errors import InputError
from synthdp.evaluation.metrics import auroc
from synthdp.machine.progress import progress

Array = NDArray[Any]

#: Inverse L2 penalty of standardised logistic regression: fixed beforehand, so that no figure
#: chooses it; strong, since features are about as many as images.
CLASSIFIER_C = 0.01


@dataclass(frozen=True)
class Coverage:
    """Precision, recall in [0, 1]; density at least 0; coverage in [0, 1]."""

    precision: float
    recall: float
    density: float
    coverage: float


def frechet_distance(a: Array, b: Array) -> float:
    """The squared Frechet distance of two Gaussians fitted to features (arXiv 1706.08500, eq. 6).

    The trace of the root of the product is the sum of the singular values of A B', where A'A and
    B'B are the covariances: no root of an asymmetric, near-singular matrix is taken. With no more
    images than features a covariance is singular and the figure is biased upwards: compare it
    only with one of the same n.

    Args:
        a: (N, D), at least 2 rows.
        b: (M, D), at least 2 rows.

    Raises:
        InputError: when a set has fewer than 2 rows, or the features differ in length.
    """
    x, y = _checked(a, b, 2)
    left = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    right = (y - y.mean(axis=0)) / np.sqrt(len(y) - 1)
    cross = np.linalg.svd(_root(left) @ _root(right).T, compute_uv=False).sum()
    spread = (left**2).sum() + (right**2).sum() - 2 * cross
    return float(((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + spread)


def _root(centred: Array) -> Array:
    """A matrix R of at most D rows with R'R = centred'centred: itself, or its symmetric root."""
    if centred.shape[0] <= centred.shape[1]:
        return centred
    values, vectors = np.linalg.eigh(centred.T @ centred)
    root: Array = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root


def kernel_distance(a: Array, b: Array) -> float:
    """The unbiased squared MMD with the kernel (x'y / D + 1)^3 (KID, arXiv 1801.01401, section 4).

    Over all pairs, not over blocks; it may be slightly negative.

    Args:
        a: (N, D), at least 2 rows.
        b: (M, D), at least 2 rows.

    Raises:
        InputError: when a set has fewer than 2 rows, or the features differ in length.
    """
    x, y = _checked(a, b, 2)
    within = [_off_diagonal_mean((z @ z.T / z.shape[1] + 1) ** 3) for z in (x, y)]
    return float(sum(within) - 2 * ((x @ y.T / x.shape[1] + 1) ** 3).mean())


def _off_diagonal_mean(kernel: Array) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))


def kernel_distance_variance(a: Array, b: Array, groups_a: Array, groups_b: Array) -> float:
    """The variance of `kernel_distance` by the jackknife, which leaves out one group at a time.

    Groups are patients, or single images of a made-up set; the two sides are independent, so that
    their variances add up (Efron and Stein 1981, Annals of Statistics 9:586). Where the distance
    is nearly 0 it is no normal variable, and an interval of this variance is rough.

    Args:
        a: (N, D), at least 2 rows.
        b: (M, D), at least 2 rows.
        groups_a: (N,) what is left out together.
        groups_b: (M,) likewise.

    Returns:
        The variance; nan where a side has fewer than three groups, or nearly all of it is one.

    Raises:
        InputError: when a set has fewer than 2 rows, or the features differ in length.
    """
    x, y = _checked(a, b, 2)
    across = (x @ y.T / x.shape[1] + 1) ** 3
    return sum(
        _jackknife_variance((side @ side.T / side.shape[1] + 1) ** 3, between, groups)
        for side, between, groups in ((x, across, groups_a), (y, across.T, groups_b))
    )


def _jackknife_variance(within: Array, between: Array, groups: Array) -> float:
    """The part of the variance that is due to one side.

    within: (N, N) kernel among its images; between: (N, M) to those of the other side.
    """
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    count, (n, m) = len(sizes), between.shape
    left = n - sizes
    if count < 3 or left.min() < 2:
        return float("nan")
    np.fill_diagonal(within, 0)
    inside = np.zeros(count)  # sums over the pairs of a group
    for group in np.flatnonzero(sizes > 1):
        members = np.flatnonzero(group_of == group)
        inside[group] = within[np.ix_(members, members)].sum()
    of_group, to_others = (
        np.bincount(group_of, kernel.sum(axis=1)) for kernel in (within, between)
    )
    # what stays of the sums without a group: of pairs, those within it were taken off twice
    pairs = within.sum() - 2 * of_group + inside
    without = pairs / (left * (left - 1)) - 2 * (between.sum() - to_others) / (left * m)
    return float((count - 1) / count * ((without - without.mean()) ** 2).sum())


def precision_recall_density_coverage(
    real: Array, synthetic: Array, *, neighbours: int = 5
) -> Coverage:
    """Nearest-neighbour figures of fidelity and diversity (arXiv 1904.06991 and 2002.09797).

    Args:
        real: (N, D).
        synthetic: (M, D); take M = N where figures are compared.
        neighbours: k; a ball reaches to an image's k-th neighbour, itself apart.

    Raises:
        InputError: when a set has no more than k images, or the features differ in length.
    """
    x, y = _checked(real, synthetic, neighbours + 1)
    across, of_real, of_synthetic = _balls(x, y, neighbours)
    inside = across <= of_real[:, None]
    by_recall, by_coverage = _reached(across, of_real, of_synthetic)
    return Coverage(
        precision=float(inside.any(axis=0).mean()),
        recall=float(by_recall.mean()),
        density=float(inside.sum(axis=0).mean() / neighbours),
        coverage=float(by_coverage.mean()),
    )


def _balls(x: Array, y: Array, neighbours: int) -> tuple[Array, Array, Array]:
    """Distances (N, M) between two sets, and the radius of each image's ball, (N,) and (M,)."""
    of_x, of_y = (
        np.partition(cdist(own, own), neighbours, axis=1)[:, neighbours] for own in (x, y)
    )
    return cdist(x, y), of_x, of_y


def reached(real: Array, synthetic: Array, *, neighbours: int = 5) -> tuple[Array, Array]:
    """Which real images synthetic ones reach: (N,) of bool each, whose means are two figures.

    The first is that of recall: an image lies in a synthetic one's ball. The second is that of
    coverage: a synthetic image lies in its own. Arguments and errors as of
    `precision_recall_density_coverage`.
    """
    return _reached(*_balls(*_checked(real, synthetic, neighbours + 1), neighbours))


def _reached(across: Array, of_real: Array, of_synthetic: Array) -> tuple[Array, Array]:
    """As `reached`, of the distances and the radii of `_balls`."""
    in_theirs = np.asarray((across <= of_synthetic[None, :]).any(axis=1))
    return in_theirs, np.asarray(across.min(axis=1) <= of_real)


@dataclass(frozen=True)
class Supports:
    """Integrated alpha-precision and beta-recall, and authenticity, each in [0, 1]."""

    alpha_precision: float
    beta_recall: float
    authenticity: float


#: The shares alpha and beta at which supports are compared.
SHARES = np.linspace(0, 1, 101)


def alpha_precision_beta_recall(real: Array, synthetic: Array, *, neighbours: int = 5) -> Supports:
    """Whether typical images of one side lie in the typical part of the other (arXiv 2102.08921).

    The support of a share of a side is the ball about the side's mean that holds this share of its
    images. Alpha-precision: the share of synthetic images in the real support of alpha.
    Beta-recall: the share of real images whose nearest synthetic one is in the support of beta,
    and no farther than their k-th real neighbour. A perfect set gives alpha and beta themselves;
    either figure is 1 - 2 times the area between its curve and that line (section 4).
    Authenticity: the share of synthetic images that are farther from their nearest real image than
    that is from its nearest other one; over images, as published.

    The paper learns an embedding in which real images fill a ball; here the features are taken as
    they are, and the centre is their mean.

    Args:
        real: (N, D).
        synthetic: (M, D); take M = N where figures are compared.
        neighbours: k of beta-recall.

    Raises:
        InputError: when a set has no more than k images, or the features differ in length.
    """
    x, y = _checked(real, synthetic, neighbours + 1)
    among, across = euclidean_distances(x), euclidean_distances(x, y)
    np.fill_diagonal(among, np.inf)
    ordered = np.partition(among, neighbours - 1, axis=1)
    of_real, closest = np.linalg.norm(x - x.mean(axis=0), axis=1), across.argmin(axis=1)
    from_real = np.linalg.norm(y - x.mean(axis=0), axis=1)
    of_synthetic = np.linalg.norm(y - y.mean(axis=0), axis=1)
    inside = from_real[:, None] <= np.quantile(of_real, SHARES)
    near = across.min(axis=1) <= ordered[:, neighbours - 1]
    typical = of_synthetic[closest, None] <= np.quantile(of_synthetic, SHARES)
    nearest = across.argmin(axis=0)
    return Supports(
        alpha_precision=_closeness(inside.mean(axis=0)),
        beta_recall=_closeness((near[:, None] & typical).mean(axis=0)),
        authenticity=float((across.min(axis=0) > among.min(axis=1)[nearest]).mean()),
    )


def _closeness(curve: Array) -> float:
    """One less twice the area between a curve over `SHARES` and the diagonal."""
    return float(1 - 2 * np.trapezoid(np.abs(curve - SHARES), SHARES))


def label_scores(features: Array, labels: Array, others: Array) -> Array:
    """Scores (M,) of other images by standardised logistic regression with `CLASSIFIER_C`.

    Args:
        features: (N, D) of the training side, which alone sets the standardisation.
        labels: (N,) of 0 and 1.
        others: (M, D), to be scored.

    Raises:
        InputError: when the labels are of one class.
    """
    if len(np.unique(labels)) < 2:
        raise InputError("labels: one class only; a classifier needs images of both")
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=CLASSIFIER_C, max_iter=2000))
    scores: Array = classifier.fit(features, labels).decision_function(others)
    return scores


def detector_auroc(
    real: Array,
    synthetic: Array,
    patients: Array,
    *,
    other_patients: Array | None = None,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """AUROC at telling synthetic (1) from real (0), each scored by a fold that never saw it.

    Args:
        real: (N, D).
        synthetic: (M, D).
        patients: (N,) ids of the real images; a patient is in one fold.
        other_patients: (M,) ids of the other images, when they are of patients too; without them
            each is its own group.
        folds: how many.
        seed: shuffles the patients.

    Raises:
        InputError: when there are fewer patients or synthetic images than folds.
    """
    x, y = _checked(real, synthetic, folds)
    rng = np.random.default_rng(seed)
    others = np.arange(len(y)) if other_patients is None else other_patients
    fold = np.r_[_folds(patients, folds, rng), _folds(others, folds, rng)]
    features, labels = np.concatenate([x, y]), np.r_[np.zeros(len(x)), np.ones(len(y))]
    by_fold = []
    for number in progress(range(folds), what="telling synthetic from real"):
        held = fold == number
        scores = label_scores(features[~held], labels[~held], features[held])
        by_fold.append(auroc(labels[held], scores))
    return float(np.mean(by_fold))


def _folds(groups: Array, folds: int, rng: np.random.Generator) -> Array:
    """A fold for each image, (N,), the same for all images of a group (patient)."""
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise InputError(f"detector: {folds} folds need as many patients")
    drawn: Array = rng.permutation(np.arange(len(names)) % folds)[group_of]
    return drawn


def _checked(a: Array, b: Array, least: int) -> tuple[Array, Array]:
    """Both sets of features in float64, each of `least` rows or more, and of one length."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError("features of both sets must come from the same network")
    if min(len(a), len(b)) < least:
        raise InputError(f"{min(len(a), len(b))} images are too few; {least} are needed")
    return a.astype(np.float64), b.astype(np.float64)
