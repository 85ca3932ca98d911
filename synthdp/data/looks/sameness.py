"""Do the images of a synthetic set look all alike? A collapsed generator, or one pattern in all.

Two figures, of the images alone, which are public where the set is:

- **likeness**: of each image the correlation with the one most like it in its class, as thumbnails
  of 32 x 32 px; the median, of the class where it is highest. A generator that draws a few pictures
  again and again, or nearly one, comes close to 1.
- **pattern**: the mean correlation of two images' fine structure, what is left of them at 128 px
  without what is coarser than a thirtieth of the side. Real images share none, wherever it comes
  from; stripes or a grid of the generator are shared.

Both are measured on at most `MOST_COMPARED` images of a class, evenly spaced, since the likeness
grows with their number. What was measured with 120 of a class (likeness, pattern): patches of
CBIS-DDSM .84, .01; phantoms of both styles .68 to .80, .00; the packaged generator without privacy
.88, .01, that of phantoms .84, .01, that of epsilon 6 .94, .19, that of epsilon 1 .97, .29 (fine
stripes can be seen); the first of these held to a tenth of its spread .98, .04; four pictures with
other noise, or each picture twice, 1.00; stripes with other noise 1.00, .97. A private generator
of epsilon .1 after a thousand images, from random weights .96, .93, from phantoms .83, .07. The
bounds lie between the generator of epsilon 6, whose images serve, and that of epsilon 1, whose do
not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthdp.data.dataset import Dataset, evenly_spaced, load_pictures
from synthdp.data.images import resample, to_uint8
from synthdp.data.importing.images.survey import thumbnail

MOST_COMPARED = 120
#: Fewer of each class say nothing.
FEWEST_COMPARED = 16
MOST_LIKENESS, MOST_PATTERN = 0.95, 0.25
#: Side at which fine structure is looked at, and how coarse it is at most, in px of that side.
FINE_PX, COARSER_PX = 128, 4
_CONSTANT = 1e-3  # of a length: an image without any structure


@dataclass(frozen=True)
class Sameness:
    """How alike the images of a set are, both between 0 and 1 in sets worth having.

    `compared` is how many images were; 0 where there are too few, so that nothing is known.
    """

    likeness: float
    pattern: float
    compared: int

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, a sentence each; none where images differ as images of patients do."""
        sentences = []
        if self.compared and self.likeness > MOST_LIKENESS:
            sentences.append(
                "the images are near-identical: half of them correlate with another of their class "
                f"by {self.likeness:.2f} or more (images of patients: about 0.84; warned above "
                f"{MOST_LIKENESS:g})"
            )
        if self.compared and self.pattern > MOST_PATTERN:
            sentences.append(
                "the images share one fine pattern, such as stripes: their fine structure "
                f"correlates by {self.pattern:.2f} on average (images of patients: 0.01; warned "
                f"above {MOST_PATTERN:g})"
            )
        return tuple(sentences)


def compared_rows(classes: Sequence[float]) -> list[int]:
    """Which images of a set are compared, by their class: of each at most `MOST_COMPARED`."""
    rows: list[int] = []
    labels = np.asarray(classes, dtype=np.float64)
    for one in np.unique(labels[~np.isnan(labels)]):
        rows += evenly_spaced(np.flatnonzero(labels == one).tolist(), MOST_COMPARED)
    return sorted(rows)


def sameness_of(dataset: Dataset) -> Sameness:
    """Measure how alike the images of a data set are, by the class of its first target.

    Raises:
        InputError: when an image is unreadable.
    """
    classes = [row.targets[0] for row in dataset.rows]
    rows = compared_rows(classes)
    chosen = [dataset.rows[index] for index in rows]
    images = to_uint8(load_pictures(dataset, chosen, min(dataset.info.size_px, FINE_PX))[:, 0])
    return sameness(list(images), [classes[index] for index in rows])


def sameness(images: Sequence[NDArray[np.uint8]], classes: Sequence[float]) -> Sameness:
    """Measure how alike images are.

    Args:
        images: (S, S) each, those of `compared_rows`.
        classes: of each.
    """
    labels = np.asarray(classes)
    groups = [np.flatnonzero(labels == one) for one in sorted(set(classes))]
    groups = [group for group in groups if len(group) >= FEWEST_COMPARED]
    if not groups:
        return Sameness(0.0, 0.0, 0)
    thumbnails = np.stack([thumbnail(image) for image in images]).astype(np.float32)
    fine = np.stack([_fine_structure(image) for image in images])
    rows = np.concatenate(groups)
    return Sameness(
        likeness=max(_nearest(thumbnails[group]) for group in groups),
        pattern=_mean_correlation(fine[rows]),
        compared=len(rows),
    )


def _nearest(vectors: NDArray[np.float32]) -> float:
    """The median correlation of (N, D) vectors of length 1 with the one most like each."""
    correlations = vectors @ vectors.T
    np.fill_diagonal(correlations, -1)
    return float(np.median(correlations.max(axis=1)))


def _mean_correlation(vectors: NDArray[np.float32]) -> float:
    """Of all pairs of (N, D) vectors of length 1: from the length of their sum."""
    count = len(vectors)
    total = vectors.sum(axis=0, dtype=np.float64)
    own = float((vectors.astype(np.float64) ** 2).sum())
    return (float(total @ total) - own) / (count * (count - 1))


def _fine_structure(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An image without what is coarse, and without its border, as a vector of length 1, or 0."""
    grey = image.astype(np.float32)
    if image.shape[0] > FINE_PX:
        grey = resample(grey, FINE_PX)
    width = max(COARSER_PX * grey.shape[0] / FINE_PX, 1.0)
    border = round(width)
    fine = (grey - gaussian_filter(grey, width))[border:-border, border:-border].ravel()
    fine = fine - fine.mean()
    length = float(np.linalg.norm(fine))
    return np.asarray(fine / length if length > _CONSTANT else 0 * fine, dtype=np.float32)
