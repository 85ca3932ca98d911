"""The Frechet radiomics distance of an assessment: how unlike textures and grey levels are.

FRD of arXiv 2412.01496, as its package frd-score (version 1) gives it: each feature in standard
deviations of the real side, the squared Frechet distance of what this makes, and its natural
logarithm (equation 3 of the paper has half of it).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from gan.quality.comparisons import Comparison, Side, compared_figures, features_in
from gan.quality.measures import Array, frechet_distance
from gan.quality.radiomics.features import feature_names, is_plain, radiomic_features
from gan.quality.radiomics.filters import LEAST_SIDE_PX
from gan.quality.sets import MeasuredSet, Sets
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Figure
from synthdp.networks.cache import cached_features

#: Of features of the real side and of the other one.
Distance = Callable[[Array, Array], float]
#: The name of the features in figures, and of the figures.
RADIOMICS = "radiomics"
FRD, FRD_WITHIN = "FRD", "FRD within train's range"
ODD = "Odd textures, share of images"
#: Larger images are made smaller first: time grows with the area.
MOST_SIDE_PX = 256
#: So much larger a share of odd images than of patients' is told of in words.
_WORTH_A_WORD = 0.01
#: A feature that varies less among real images, beside its mean, is constant but for rounding.
LEAST_VARIATION = 1e-6
#: What differs from image to image by less, in features of grey levels of about 100, is rounding.
_ROUNDING = 1e-9
#: The draw of the images whose features are taken; fixed, so that they are kept for other seeds.
_DRAW = (20, 3)


def radiomics_figures(sets: Sets, most: int) -> Iterator[Figure]:
    """FRD over the features that the package takes of flat images, and its kin.

    One with LoG too; one whose features are kept to the range of the real side, since tails are
    long: a single black image can decide the first; and the share of such images.

    Args:
        sets: what is compared.
        most: so many images of each set, drawn once, have their features taken at most; with 0
            there is no figure.

    Raises:
        InputError: when an image is unreadable.
    """
    if not most:
        return
    size_px = min(sets.size_px, MOST_SIDE_PX)
    some = _with_radiomics(sets, most, size_px)
    smaller = f" at {size_px} px" if size_px < sets.size_px else ""
    plain = np.array([is_plain(name) for name in feature_names()])
    kinds: dict[str, tuple[Array, Distance, str]] = {
        FRD: (plain, radiomics_distance, "Distance"),
        f"{FRD} with LoG": (np.full(len(plain), True), radiomics_distance, "Distance"),
        FRD_WITHIN: (plain, partial(radiomics_distance, within=True), "Distance"),
        ODD: (plain, odd_textures, "Coverage"),
    }
    comparisons: tuple[Comparison, ...] = ("equal", "halves", "held-out")
    for name, (columns, distance, section) in kinds.items():
        pick, measure = partial(_columns, columns), partial(_measure, size_px, distance)
        for comparison in comparisons:
            yield from compared_figures(
                some, comparison, pick, measure, (name,),
                section=section, features=f"{RADIOMICS}{smaller}, {columns.sum()}", better="low",
                digits=3 if name == ODD else 2,
                main=comparison == "halves" and columns is plain,
            )  # fmt: skip


def texture_words(figures: Sequence[Figure]) -> str:
    """Of images unlike any real one, where there are clearly more than among other patients'."""
    for figure in figures:
        ours, theirs = (each.value if each else None for each in (figure.synthetic, figure.real))
        if figure.measure != ODD or ours is None or theirs is None:
            continue
        if ours > theirs + _WORTH_A_WORD:
            return (
                f"{100 * ours:.1f} % of its images have a texture far from that of any train image "
                f"({100 * theirs:.1f} % of other patients' do): look for empty or broken ones."
            )
    return ""


def _columns(columns: Array, measured: MeasuredSet) -> Array:
    features: Array = features_in(RADIOMICS)(measured)[:, columns]
    return features


def _measure(size_px: int, distance: Distance, train: Side, judged: Side) -> Sequence[float]:
    if size_px < LEAST_SIDE_PX:
        raise InputError(f"texture needs images of {LEAST_SIDE_PX} px or more")
    return [distance(train.values, judged.values)]


def radiomics_distance(real: Array, other: Array, *, within: bool = False) -> float:
    """The natural logarithm of the squared Frechet distance of standardised features.

    Features that are constant among the real images, but for rounding, are left out.

    Args:
        real: (N, D), which sets the standardisation; rows of nan are of images of one grey level.
        other: (M, D) likewise.
        within: keep each feature of the other side to the range that it has on the real side.

    Raises:
        InputError: when an image is of one grey level, a side has fewer than 2, or both are equal.
    """
    if np.isnan(real).any() or np.isnan(other).any():
        raise InputError("some images are of one grey level, and have no texture")
    if within:
        other = other.clip(real.min(axis=0), real.max(axis=0))
    varies = _varies(real)
    mean, deviation = real.mean(axis=0), real.std(axis=0)
    x, y = ((side - mean)[:, varies] / deviation[varies] for side in (real, other))
    squared = frechet_distance(x, y)
    if squared < LEAST_VARIATION:
        raise InputError("both sides are equal, and the logarithm of no distance is infinite")
    return float(np.log(squared))


def odd_textures(real: Array, other: Array) -> float:
    """The share of images unlike any real one in some feature: a wholly black patch, for one.

    That is farther out of the range of real images than this range is wide. An image of one grey
    level is odd.

    Args:
        real: (N, D); rows of nan are of images of one grey level.
        other: (M, D) likewise.

    Raises:
        InputError: when all real images are of one grey level.
    """
    textured = real[~np.isnan(real).any(axis=1)]
    if not len(textured):
        raise InputError("all real images are of one grey level, and have no texture")
    low, high = textured.min(axis=0), textured.max(axis=0)
    inside = (other >= 2 * low - high) & (other <= 2 * high - low)
    return float(1 - inside[:, _varies(textured)].all(axis=1).mean())


def _varies(real: Array) -> Array:
    """Which features (D,) vary among real images (N, D) by more than rounding."""
    mean, deviation = real.mean(axis=0), real.std(axis=0)
    varies: Array = deviation > np.maximum(LEAST_VARIATION * np.abs(mean), _ROUNDING)
    return varies


def _with_radiomics(sets: Sets, most: int, size_px: int) -> Sets:
    """The sets with at most so many images of each, and their radiomic features alone."""

    def drawn(measured: MeasuredSet) -> MeasuredSet:
        order = np.random.default_rng(_DRAW).permutation(len(measured))
        chosen = np.sort(order[:most])
        rows = tuple(measured.rows[index] for index in chosen)
        some = replace(
            measured,
            rows=rows,
            labels=measured.labels[chosen],
            conditions=measured.conditions[chosen],
            patients=measured.patients[chosen],
            powers=measured.powers[chosen],
            copies={} if measured.is_real else None,
            inception=None,
        )
        return replace(some, features={RADIOMICS: _radiomics(some, size_px)})

    return replace(
        sets,
        synthetic=drawn(sets.synthetic),
        baseline=None if sets.baseline is None else drawn(sets.baseline),
        train=drawn(sets.train),
        held_out=None if sets.held_out is None else drawn(sets.held_out),
        compare_n=min(sets.compare_n, most),
    )


def _radiomics(measured: MeasuredSet, size_px: int) -> Array:
    """Features (N, 693) float64 from the cache of the set; nan where an image is of one level."""
    if size_px < LEAST_SIDE_PX:
        return np.zeros((len(measured), len(feature_names())))

    def compute(images: Array) -> Array:
        return radiomic_features(images[:, 0])

    kept = cached_features(
        measured.dataset,
        measured.rows,
        extractor_id="radiomic features 1",
        size_px=size_px,
        compute=compute,
        batch=16,
        what="radiomic features",
    )
    features = kept.astype(np.float64)
    flat = features[:, feature_names().index("original_firstorder_Range")] == 0
    features[flat] = np.nan
    return features
