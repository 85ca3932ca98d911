"""Which images of different patients look alike, leaving out what many images of the set share.

A mask, a border, a burned-in label or a scanner's frame is common to images of people who have
nothing else in common, and can be nearly all that a small grey picture shows. Two images are alike
when their thumbnails correlate *and* what is left of them without the common part does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from synthdp.data.importing.images.thumbnails import THUMBNAIL_PX, Thumbnails
from synthdp.data.importing.settings.assignment import NEAR_DUPLICATE_CORRELATION
from synthdp.data.people.splits import duplicate_groups
from synthdp.machine.progress import progress

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

#: What must be left of the correlation without the common part. Measured on mammography patches
#: and radiographs with and without masks: copies stay above, other patients' images below.
_CORRELATION_LEFT = 0.7
#: A direction is common when it holds so much of what is left of all images, and as much as so
#: many whole images: a few copies of one image are no common part.
_COMMON_SHARE, _COMMON_IMAGES, _MAX_COMMON = 0.05, 8, 12
#: Images of which the common part is made, at most; in a larger set, evenly drawn.
_SAMPLE = 8192
#: Thumbnails without anything in them but rounding.
_NOTHING = 1e-4
_READ_AT_ONCE = 4096
#: Pairs are compared in so many leading directions first, in the further ones only where many of a
#: block are left over; in no more than hold nearly all that there is to compare.
_TIERS, _HELD_BY_TIERS = (32, 64, 128, 256, 512), 0.95
#: So few images are compared whole: to find directions would take longer.
_COMPARED_WHOLE = 2048
_ROWS, _COLUMNS = 2048, 2048
#: Images of the sample by which it is told which of two bounds rules out more.
_TRIED = 512
#: Pairs of a block that are compared one by one; of more, all of the block at once is faster.
_MANY = 8192
#: Rounding of a product of two vectors of length 1 in half precision, with room.
_ROUNDING = np.float32(1.2e-3)


@dataclass(frozen=True)
class CommonPart:
    """What many images of a set share: K directions, and the pixels that are compared without it.

    `directions` is (K, 1024) orthonormal, `weights` (1024,) of 0 and 1.
    """

    directions: Floats
    weights: Floats

    def left_of(self, rows: Floats) -> Floats:
        """Thumbnails (n, 1024) without it, of length 1; 0 where nothing is left."""
        left = (rows - (rows @ self.directions.T) @ self.directions) * self.weights
        lengths = np.linalg.norm(left, axis=1, keepdims=True)
        np.divide(left, lengths, out=left, where=lengths > _NOTHING)
        left[lengths[:, 0] <= _NOTHING] = 0
        return np.asarray(left, dtype=np.float32)


def common_part(rows: Floats) -> CommonPart:
    """What (n, 1024) thumbnails share: principal directions, one after another, while each holds
    much of what those before have left.

    At a mask's edge a copy that is shifted by half a pixel differs by more than other images do, so
    that such pixels are not compared.
    """
    everywhere = np.ones(THUMBNAIL_PX**2, dtype=np.float32)
    none = CommonPart(np.zeros((0, THUMBNAIL_PX**2), dtype=np.float32), everywhere)
    if len(rows) <= _COMMON_IMAGES:
        return none
    energies, directions = _principal(rows)
    needed = max(_COMMON_SHARE, _COMMON_IMAGES / len(rows))
    count = 0
    while count < _MAX_COMMON and energies[count] > needed * energies[count:].sum():
        count += 1
    if count == 0:
        return none
    common = np.asarray(directions[:count], dtype=np.float32)
    left = rows - (rows @ common.T) @ common
    steps = sum(
        energy * _largest_step(direction) ** 2
        for energy, direction in zip(energies, directions[:count], strict=False)
    )
    weights = np.asarray(0.25 * steps <= np.square(left).mean(axis=0), dtype=np.float32)
    return CommonPart(common, weights if weights.sum() >= THUMBNAIL_PX else everywhere)


def _principal(rows: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energies (K,) of (n, D) vectors along their principal directions (K, D), falling.

    K is the lesser of n and D; where it is n, from the products of the vectors, which are fewer.
    """
    if len(rows) >= rows.shape[1]:
        energies, directions = np.linalg.eigh((rows.T @ rows).astype(np.float64))
        return np.maximum(energies[::-1], 0) / len(rows), directions[:, ::-1].T
    exact = rows.astype(np.float64)
    energies, shares = np.linalg.eigh(exact @ exact.T)
    energies = np.maximum(energies[::-1], 0)
    lengths = np.sqrt(np.maximum(energies, np.finfo(np.float64).tiny))
    return energies / len(rows), shares[:, ::-1].T @ exact / lengths[:, None]


def _largest_step(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much each pixel of a (1024,) picture differs from its neighbours, at most."""
    picture = direction.reshape(THUMBNAIL_PX, THUMBNAIL_PX)
    step = np.zeros_like(picture)
    for one, other in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        step[one] = np.maximum(step[one], np.abs(picture[one] - picture[other]))
    return step.ravel()


def look_alikes(
    thumbnails: Thumbnails,
    owners: Sequence[str],
    threshold: float = NEAR_DUPLICATE_CORRELATION,
    digests: Sequence[str] = (),
) -> list[tuple[int, ...]]:
    """Groups of images that are alike, directly or through others, under different owners.

    Args:
        thumbnails: of N images.
        owners: whose each of them is; images of one owner are not compared.
        threshold: a correlation of thumbnails.
        digests: of the images' pixels, where they are known. Images of the same pixels are alike
            even where they are so many that they are themselves what the set shares.

    Returns:
        The indices of each group, rising.
    """
    count = len(thumbnails)
    if count < 2:
        return []
    step = max(1, -(-count // _SAMPLE))
    sample = thumbnails.rows(range(0, count, step))
    common = common_part(sample)
    floors = (np.float32(threshold), np.float32(_CORRELATION_LEFT))
    # A mask alone makes many whole thumbnails agree so closely, or few directions tell them apart.
    whole = _Bounds(sample, count, floors[0], _TIERS[:2])
    left = _Bounds(common.left_of(sample), count, floors[1], _TIERS)
    del sample
    for start in range(0, count, _READ_AT_ONCE):
        rows = _read(thumbnails, slice(start, min(start + _READ_AT_ONCE, count)))
        whole.append(rows)
        left.append(common.left_of(rows))
    owner_codes = np.unique(np.array(list(owners)), return_inverse=True)[1]
    groups = _Groups(count)
    groups.join(*_same_pixels(digests, thumbnails, owners))
    bounds = sorted((whole, left), key=_Bounds.share_left)
    for rows_of, columns_of in progress(list(_tiles(count)), what="looking for copies"):
        near = _near(bounds, rows_of, columns_of)
        if np.count_nonzero(near) > _MANY:
            one, other = _read(thumbnails, rows_of), _read(thumbnails, columns_of)
            near &= one @ other.T > floors[0]
            near &= common.left_of(one) @ common.left_of(other).T > floors[1]
        first, second = np.divmod(np.flatnonzero(near), near.shape[1])
        first, second = first + rows_of.start, second + columns_of.start
        apart = (second > first) & (owner_codes[first] != owner_codes[second])
        first, second = groups.not_yet_one(first[apart], second[apart])
        for bound in reversed(bounds):
            possible = bound.may_be_near(first, second)
            first, second = first[possible], second[possible]
        _compare(thumbnails, common, floors[0], groups=groups, first=first, second=second)
    return groups.of_several()


def _same_pixels(
    digests: Sequence[str], thumbnails: Thumbnails, owners: Sequence[str]
) -> tuple[Indices, Indices]:
    """Pairs that tie together each image with its copies of other owners, unless it is constant."""
    pairs: list[tuple[int, int]] = []
    for group in duplicate_groups(digests):
        others = [index for index in group if owners[index] != owners[group[0]]]
        if others and thumbnails.rows(group[:1]).any():
            pairs += [(group[0], other) for other in others]
            pairs += [(index, others[0]) for index in group if owners[index] == owners[group[0]]]
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return ends[:, 0], ends[:, 1]


def _read(thumbnails: Thumbnails, images: slice) -> Floats:
    return thumbnails.rows(range(images.start, images.stop))


def _tiles(count: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows and columns that together hold each pair once, on or above the diagonal."""
    for top in range(0, count, _ROWS):
        for side in range(top, count, _COLUMNS):
            yield slice(top, min(top + _ROWS, count)), slice(side, min(side + _COLUMNS, count))


class _Bounds:
    """Bounds of the products of N vectors, sharper with each tier of their leading directions.

    With a = Pa + Ra, orthogonal, a.b = Pa.Pb + Ra.Rb <= Pa.Pb + |Ra| |Rb| (Cauchy and Schwarz): the
    product of (Pa, |Ra|) and (Pb, |Rb|). No pair above the floor is below it here. A further tier
    adds the product in its own directions, and has a shorter rest in the place of the one before.
    """

    def __init__(self, sample: Floats, count: int, floor: np.float32, tiers: Sequence[int]) -> None:
        """Find the directions for `count` vectors like the (n, D) of the sample.

        `tiers` are after how many directions each may end; those that add little are left out.
        """
        self._floor = floor - _ROUNDING
        self._sample = sample[:: max(1, len(sample) // _TRIED)]
        if len(sample) <= _COMPARED_WHOLE:
            self._directions = np.eye(sample.shape[1], dtype=np.float32)
            self._ends = [sample.shape[1]]
        else:
            energies, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
            held = np.cumsum(energies[::-1]) / max(energies.sum(), np.finfo(np.float64).tiny)
            enough = [at for at, end in enumerate(tiers) if held[end - 1] >= _HELD_BY_TIERS]
            self._ends = list(tiers[: enough[0] + 1 if enough else len(tiers)])
            leading = directions[:, ::-1][:, : self._ends[-1]]
            self._directions = np.asarray(leading, dtype=np.float32)
        # Half precision moves a product by less than 1e-3, and takes half the room.
        widths = np.diff([0, *self._ends]) + 2
        self._tiers = [np.empty((count, width), dtype=np.float16) for width in widths]
        self._filled = 0

    def append(self, rows: Floats) -> None:
        """Add (n, D) vectors of length 1, or 0."""
        at = slice(self._filled, self._filled + len(rows))
        for tier, part in zip(self._tiers, self._parts(rows), strict=True):
            tier[at] = part
        self._filled = at.stop

    def _parts(self, rows: Floats) -> Iterator[Floats]:
        """Of each tier the parts of vectors in its directions, and the rests behind and before."""
        leading = rows @ self._directions
        rest, before = np.square(rows).sum(axis=1), np.zeros(len(rows), dtype=np.float32)
        for begin, end in pairwise((0, *self._ends)):
            part = leading[:, begin:end]
            rest = np.maximum(rest - np.square(part).sum(axis=1), 0)
            yield np.column_stack([part, np.sqrt(rest), before])
            before = np.sqrt(rest)

    def share_left(self) -> float:
        """Which share of pairs the first tier does not rule out, as the sample has it."""
        part = next(self._parts(self._sample))
        return float(np.mean(part @ part.T > self._floor))

    def near(self, rows_of: slice, columns_of: slice) -> Iterator[NDArray[np.bool_]]:
        """Which pairs of a block each tier does not rule out."""
        products: Floats | None = None
        for tier in self._tiers:
            one, other = tier[rows_of].astype(np.float32), tier[columns_of].astype(np.float32)
            other[:, -1] *= -1
            if products is None:
                products = one @ other.T
            else:
                products += one @ other.T
            yield products > self._floor

    def may_be_near(self, first: Indices, second: Indices) -> NDArray[np.bool_]:
        """Which pairs no tier rules out, few at a time."""
        possible = np.ones(len(first), dtype=np.bool_)
        for start in range(0, len(first), _READ_AT_ONCE):
            at = slice(start, start + _READ_AT_ONCE)
            products = np.zeros(len(first[at]), dtype=np.float32)
            for tier in self._tiers:
                one, other = (tier[pair[at]].astype(np.float32) for pair in (first, second))
                other[:, -1] *= -1
                products += np.einsum("nd,nd->n", one, other)
            possible[at] = products > self._floor
        return possible


def _near(bounds: Sequence[_Bounds], rows_of: slice, columns_of: slice) -> NDArray[np.bool_]:
    """Which pairs of a block no bound rules out, with no more bounds than leave few of them."""
    tiers = (tier for bound in bounds for tier in bound.near(rows_of, columns_of))
    near = next(tiers)
    while np.count_nonzero(near) > _MANY and (further := next(tiers, None)) is not None:
        near &= further
    return near


def _compare(
    thumbnails: Thumbnails,
    common: CommonPart,
    threshold: np.float32,
    *,
    groups: "_Groups",
    first: Indices,
    second: Indices,
) -> None:
    """Put into one group what is alike among candidate pairs, by the definition itself."""
    for start in range(0, len(first), _READ_AT_ONCE):
        one, other = groups.not_yet_one(
            first[start : start + _READ_AT_ONCE], second[start : start + _READ_AT_ONCE]
        )
        needed, position = np.unique(np.concatenate([one, other]), return_inverse=True)
        rows = thumbnails.rows(needed)
        left = common.left_of(rows)
        of_one, of_other = position[: len(one)], position[len(one) :]
        alike = np.einsum("nd,nd->n", rows[of_one], rows[of_other]) > threshold
        alike &= np.einsum("nd,nd->n", left[of_one], left[of_other]) > _CORRELATION_LEFT
        groups.join(one[alike], other[alike])


class _Groups:
    """Which of N images are tied together; it grows by pairs."""

    def __init__(self, count: int) -> None:
        self._labels = np.arange(count, dtype=np.int64)

    def not_yet_one(self, first: Indices, second: Indices) -> tuple[Indices, Indices]:
        """The pairs that are not of one group already, so that they would tell nothing new."""
        apart = self._labels[first] != self._labels[second]
        return first[apart], second[apart]

    def join(self, first: Indices, second: Indices) -> None:
        """Make one group of each pair's groups."""
        if not len(first):
            return
        pairs = self._labels[np.concatenate([first, second])]
        labels, ends = np.unique(pairs, return_inverse=True)
        ties = (np.ones(len(first), dtype=np.int8), (ends[: len(first)], ends[len(first) :]))
        from scipy.sparse import coo_array  # noqa: PLC0415 (takes .2 s; statements need none)
        from scipy.sparse.csgraph import connected_components  # noqa: PLC0415 (as above)

        graph = coo_array(ties, shape=(len(labels), len(labels)))
        parts = connected_components(graph, directed=False)[1]
        now = np.arange(len(self._labels), dtype=np.int64)
        now[labels] = labels[np.unique(parts, return_index=True)[1]][parts]
        self._labels = now[self._labels]

    def of_several(self) -> list[tuple[int, ...]]:
        """The groups of two and more."""
        order = np.argsort(self._labels, kind="stable")
        starts = np.flatnonzero(np.diff(self._labels[order], prepend=-1))
        groups = np.split(order, starts[1:])
        return sorted(tuple(group.tolist()) for group in groups if len(group) > 1)
