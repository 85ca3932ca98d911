"""How long a patient's mean gradient is, of several targets and images, without making it.

An image's gradient of a linear head is outer(residual, input). So the squared length of the sum of
a patient's is the sum over pairs of its images of two inner products, that of the residuals, of a
few targets, and that of the inputs, which stays the same in all steps and is kept.

Each number here is a function of one patient alone, to the last bit: inner products of inputs are
exact sums of whole numbers, and all else is elementwise (`synthdp.privacy.noisy_sum.exact`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from synthdp.privacy.noisy_sum.exact import ROW_BITS, ExactRows, row_sums

#: Images of a patient whose pairs are kept at most; with more, the mean of lengths has to do.
MOST_PAIRED = 512
#: Numbers worked on at a time, for memory.
_AT_ONCE = 2**20
#: Entries of a row whose products with another's are summed exactly: 2^13 times 2^40.
_EXACT_WIDTH = 2**13
#: What squared lengths can be off by, of the squared sum of lengths, with room: inner products are
#: kept in float32.
_SQUARED_ERROR = 2.0**-22
#: How many clip norms an image's own part may be long, in a sum that is not: it then takes fewer
#: than 2^24 steps, as a row's largest entry is 2^19 or more and a step more than 2^-21 of the norm.
_LONGEST_IMAGE = 4


@dataclass(frozen=True, eq=False)
class Images:
    """The images of each patient, in their order.

    order: (N,) int64, the rows of all images, patient by patient; starts, counts: (U,) int64, where
    each patient's stand in `order`.
    """

    order: Tensor
    starts: Tensor
    counts: Tensor

    @classmethod
    def of(cls, units: Tensor, n_units: int) -> "Images":
        """Those of rows that belong to patients `units`, (N,) int64 in [0, n_units)."""
        counts = torch.bincount(units, minlength=n_units)
        return cls(torch.argsort(units, stable=True), counts.cumsum(0) - counts, counts)

    def of_patients(self, patients: Tensor) -> Tensor:
        """The rows of these patients' images, (K,) int64 ascending."""
        counts = self.counts[patients]
        ends = counts.cumsum(0)
        shift = torch.repeat_interleave(self.starts[patients] - (ends - counts), counts)
        rows: Tensor = self.order[shift + torch.arange(len(shift))].sort().values
        return rows

    def by_count(self, patients: Tensor, width: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Some of the patients, (P,), with as many images K each, and their rows, (P, K).

        `width` is how many numbers one pair or image takes, for memory.
        """
        counts = self.counts[patients]
        for count in torch.unique(counts).tolist():
            alike = patients[counts == count]
            for some in alike.split(max(_AT_ONCE // (count * max(count, width)), 1)):
                yield some, self.order[self.starts[some].unsqueeze(1) + torch.arange(count)]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Inner products of each patient's inputs, of those with 2 to `MOST_PAIRED` images.

    products: float32, K * K numbers for each patient; starts: (U,) int64, where they begin.
    """

    products: Tensor
    starts: Tensor

    @classmethod
    def of(cls, rows: ExactRows, images: Images) -> "Pairs":
        """Those of the patients' rows."""
        several = (images.counts > 1) & (images.counts <= MOST_PAIRED)
        sizes = torch.where(several, images.counts.square(), torch.zeros_like(images.counts))
        starts = sizes.cumsum(0) - sizes
        products = torch.empty(int(sizes.sum()), dtype=torch.float32)
        width = rows.whole.shape[1]
        for patients, at in images.by_count(torch.nonzero(several).flatten(), width):
            whole, scales = rows.whole[at].double(), rows.scales[at]
            total = torch.zeros(*at.shape, at.shape[1], dtype=torch.float64)
            for part in whole.split(_EXACT_WIDTH, dim=2):
                total += part @ part.mT
            total *= scales.unsqueeze(1) * scales.unsqueeze(2)
            size = at.shape[1] ** 2
            where = starts[patients].unsqueeze(1) + torch.arange(size)
            products[where] = total.reshape(-1, size).float()
        return cls(products, starts)

    def of_patients(self, patients: Tensor) -> "Pairs":
        """Those of some patients, counted anew from 0."""
        return replace(self, starts=self.starts[patients])


def longest_sums(
    pairs: Pairs, images: Images, patients: Tensor, parts: Tensor, lengths: Tensor
) -> Tensor:
    """Upper bounds on the lengths of sums of outer(part, row) over each patient's images.

    Args:
        pairs: of the rows.
        images: of each patient.
        patients: (P,) int64, with 2 to `MOST_PAIRED` images each.
        parts: (N, T) float64, of each image.
        lengths: (N,) float64, of each image's own outer(part, row).

    Returns:
        (P,) float64, close to the lengths, and never less than a quarter of the longest image's: a
        sum of images that cancel is exact only as long as none of them is too long
        (`ExactRows.weighted_sum`).
    """
    of_all = torch.empty(len(images.counts), dtype=torch.float64)
    for some, at in images.by_count(patients, parts.shape[1]):
        of_images = parts[at]
        together = torch.zeros(*at.shape, at.shape[1], dtype=torch.float64)
        for target in range(parts.shape[1]):  # elementwise: no order of sums to depend on
            one = of_images[:, :, target]
            together += one.unsqueeze(1) * one.unsqueeze(2)
        size = at.shape[1] ** 2
        where = pairs.starts[some].unsqueeze(1) + torch.arange(size)
        squares = row_sums(together.reshape(-1, size) * pairs.products[where])
        of_images = lengths[at]
        error = _SQUARED_ERROR * row_sums(of_images).square()
        of_all[some] = torch.maximum(
            (squares.clamp(min=0) + error).sqrt(), of_images.amax(dim=1) / _LONGEST_IMAGE
        )
    return of_all[patients]


def truncation_errors(rows: ExactRows, images: Images, patients: Tensor, step: float) -> Tensor:
    """What rounding the parts of one target in `weighted_sum` may add to each patient's sum, (P,).

    A part is moved by less than step * 2^-20 over its row's scale, and the sum by that times the
    row's length. Where all parts of a sum are of one sign nothing is added; this holds for all.
    """
    of_all = torch.zeros(len(images.counts), dtype=torch.float64)
    for some, at in images.by_count(patients, 1):
        relative = rows.norms[at] / rows.scales[at]
        of_all[some] = row_sums(relative) * (step * 2.0**-ROW_BITS)
    return of_all[patients]
