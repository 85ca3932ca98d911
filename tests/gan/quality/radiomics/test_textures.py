"""Texture features against matrices worked out by hand, and loops that follow the definitions."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from gan.quality.radiomics.cooccurrence import cooccurrence
from gan.quality.radiomics.levels import count_pairs, grey_levels
from gan.quality.radiomics.neighbourhood import neighbourhood
from gan.quality.radiomics.runs_zones import runs, zones

Place = tuple[int, int]
DIRECTIONS: tuple[Place, ...] = ((0, 1), (1, 0), (1, 1), (1, -1))
ABOUT: tuple[Place, ...] = tuple(
    (down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)
)
#: Haralick's picture of 1973 (IEEE Transactions on Systems, Man, and Cybernetics 3:610, figure 3).
HARALICK = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 2, 2], [2, 2, 3, 3]]) + 1


def some_levels() -> np.ndarray:
    """Three pictures (3, 7, 9): of few levels, of many, and one of a gap between its levels."""
    rng = np.random.default_rng(0)
    few, many = rng.integers(1, 4, (7, 9)), rng.integers(1, 30, (7, 9))
    few[0, 0] = many[0, 0] = 1
    return np.stack([few, many, np.where(few > 1, 9, 1)])


def mean_over_directions(of_each: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in of_each])) for name in of_each[0]}


def is_inside(place: Place, picture: np.ndarray) -> bool:
    return 0 <= place[0] < picture.shape[0] and 0 <= place[1] < picture.shape[1]


# Grey-level co-occurrence, by the whole matrix.


def matrix_of(picture: np.ndarray, direction: Place) -> np.ndarray:
    matrix = np.zeros((picture.max(), picture.max()))
    for row, column in np.ndindex(picture.shape):
        other = (row + direction[0], column + direction[1])
        if is_inside(other, picture):
            i, j = picture[row, column] - 1, picture[other] - 1
            matrix[i, j] += 1
            matrix[j, i] += 1
    return matrix / matrix.sum()


def entropy_of(shares: np.ndarray) -> float:
    known = shares[shares > 0]
    return float(-(known * np.log2(known)).sum())


def of_matrix(p: np.ndarray) -> dict[str, float]:
    n = len(p)
    i, j = np.meshgrid(np.arange(1, n + 1), np.arange(1, n + 1), indexing="ij")
    px = p.sum(axis=1)
    mean = (np.arange(1, n + 1) * px).sum()
    variance = ((i - mean) ** 2 * p).sum()
    differences = np.array([p[np.abs(i - j) == k].sum() for k in range(n)])
    sums = np.array([p[i + j == k].sum() for k in range(2, 2 * n + 1)])
    k = np.arange(n)
    average = (k * differences).sum()
    hx, hxy, product = entropy_of(px), entropy_of(p), np.outer(px, px)
    positive = product > 0
    hxy1 = -(p[positive] * np.log2(product[positive])).sum()
    hxy2 = -(product[positive] * np.log2(product[positive])).sum()
    return {
        "Autocorrelation": (i * j * p).sum(),
        "ClusterProminence": ((i + j - 2 * mean) ** 4 * p).sum(),
        "ClusterShade": ((i + j - 2 * mean) ** 3 * p).sum(),
        "ClusterTendency": ((i + j - 2 * mean) ** 2 * p).sum(),
        "Contrast": ((i - j) ** 2 * p).sum(),
        "Correlation": ((i - mean) * (j - mean) * p).sum() / variance,
        "DifferenceAverage": average,
        "DifferenceEntropy": entropy_of(differences),
        "DifferenceVariance": ((k - average) ** 2 * differences).sum(),
        "Id": (differences / (1 + k)).sum(),
        "Idm": (differences / (1 + k**2)).sum(),
        "Idmn": (differences / (1 + k**2 / n**2)).sum(),
        "Idn": (differences / (1 + k / n)).sum(),
        "Imc1": (hxy - hxy1) / hx,
        "Imc2": np.sqrt(1 - np.exp(-2 * (hxy2 - hxy))),
        "InverseVariance": (differences[1:] / k[1:] ** 2).sum(),
        "JointAverage": mean,
        "JointEnergy": (p**2).sum(),
        "JointEntropy": hxy,
        "MaximumProbability": p.max(),
        "SumEntropy": entropy_of(sums),
        "SumSquares": variance,
    }


def test_cooccurrence_is_what_the_whole_matrix_gives() -> None:
    levels = some_levels()
    found = cooccurrence(levels)
    for number, picture in enumerate(levels):
        expected = mean_over_directions([of_matrix(matrix_of(picture, d)) for d in DIRECTIONS])
        assert {name: values[number] for name, values in found.items()} == pytest.approx(expected)


def test_the_matrix_of_the_test_is_haralicks() -> None:
    """So that the oracle above is held to numbers that were published."""
    horizontal = [[4, 2, 1, 0], [2, 4, 0, 0], [1, 0, 6, 1], [0, 0, 1, 2]]
    assert (matrix_of(HARALICK, (0, 1)) * 24).tolist() == horizontal
    vertical = [[6, 0, 2, 0], [0, 4, 2, 0], [2, 2, 2, 2], [0, 0, 2, 0]]
    assert (matrix_of(HARALICK, (1, 0)) * 24).tolist() == vertical


def test_a_picture_of_one_level_has_the_values_of_pyradiomics() -> None:
    flat = np.ones((1, 5, 5), dtype=np.int64)
    found = {name: float(values[0]) for name, values in cooccurrence(flat).items()}
    assert (found["Correlation"], found["JointEnergy"], found["JointEntropy"]) == (1, 1, 0)
    assert (found["Imc1"], found["Imc2"], found["InverseVariance"]) == (0, 0, 0)
    assert float(neighbourhood(flat)["Coarseness"][0]) == 1e6
    assert {float(neighbourhood(flat)[name][0]) for name in ("Busyness", "Strength")} == {0}
    assert float(zones(flat)["LargeAreaEmphasis"][0]) == 25**2


# Runs and zones, by walking.


def runs_of(picture: np.ndarray, direction: Place) -> list[Place]:
    """(level, length) of each run."""
    found = []
    for row, column in np.ndindex(picture.shape):
        level, before = picture[row, column], (row - direction[0], column - direction[1])
        if is_inside(before, picture) and picture[before] == level:
            continue
        length, place = 0, (row, column)
        while is_inside(place, picture) and picture[place] == level:
            length, place = length + 1, (place[0] + direction[0], place[1] + direction[1])
        found.append((int(level), length))
    return found


def zones_of(picture: np.ndarray) -> Iterator[Place]:
    """(level, pixels) of each zone."""
    left = set(np.ndindex(picture.shape))
    while left:
        start = left.pop()
        waiting, size = [start], 0
        while waiting:
            row, column = waiting.pop()
            size += 1
            for down, right in ABOUT:
                other = (row + down, column + right)
                if other in left and picture[other] == picture[start]:
                    left.remove(other)
                    waiting.append(other)
        yield int(picture[start]), size


def of_sizes(sizes: list[Place], pixels: int) -> list[float]:
    """The sixteen features, in the order of `ORDER`."""
    i, j = (np.array([pair[place] for pair in sizes], dtype=float) for place in (0, 1))
    n = len(sizes)
    squares = [sum(c**2 for c in Counter(values).values()) for values in (i, j)]
    shares = np.array(list(Counter(sizes).values())) / n
    return [
        squares[0] / n, squares[0] / n**2, i.var(), (i**2).mean(), (j**2).mean(),
        (i**2 * j**2).mean(), (j**2 / i**2).mean(), (1 / i**2).mean(), entropy_of(shares),
        squares[1] / n, squares[1] / n**2, n / pixels, j.var(), (1 / j**2).mean(),
        (i**2 / j**2).mean(), (1 / (i**2 * j**2)).mean(),
    ]  # fmt: skip


def test_runs_are_those_that_a_walk_finds() -> None:
    levels = some_levels()
    found = np.stack(list(runs(levels).values()), axis=1)
    for number, picture in enumerate(levels):
        walked = [of_sizes(runs_of(picture, d), picture.size) for d in DIRECTIONS]
        assert found[number] == pytest.approx(np.mean(walked, axis=0))


def test_zones_are_those_that_a_walk_finds() -> None:
    levels = some_levels()
    found = np.stack(list(zones(levels).values()), axis=1)
    for number, picture in enumerate(levels):
        assert found[number] == pytest.approx(of_sizes(list(zones_of(picture)), picture.size))


def test_runs_and_zones_of_a_small_picture_are_counted_by_hand() -> None:
    """Of Haralick's picture: rows run 2 2, 2 2, 1 3, 2 2; five zones of 5, 4, 5 and 2 pixels."""
    assert sorted(runs_of(HARALICK, (0, 1))) == sorted(
        [(1, 2), (2, 2), (1, 2), (2, 2), (1, 1), (3, 3), (3, 2), (4, 2)]
    )
    assert sorted(zones_of(HARALICK)) == [(1, 5), (2, 4), (3, 5), (4, 2)]
    found = {name: float(values[0]) for name, values in zones(HARALICK[None]).items()}
    assert found["ZonePercentage"] == 4 / 16
    assert found["LargeAreaEmphasis"] == (25 + 16 + 25 + 4) / 4
    assert found["ZoneEntropy"] == 2


# Neighbourhood differences.


def test_neighbourhood_differences_are_those_of_a_published_example() -> None:
    """The 4 x 4 picture in pyradiomics' text on NGTDM, with the sums that it works out."""
    picture = np.array([[1, 2, 5, 2], [3, 5, 1, 3], [1, 3, 5, 5], [3, 1, 1, 1]])
    p = np.array([6, 2, 4, 4]) / 16
    s, i = np.array([13.35, 2.00, 3.0333, 10.075]), np.array([1, 2, 3, 5])
    found = {name: float(values[0]) for name, values in neighbourhood(picture[None]).items()}
    pairs = [(a, b) for a in range(4) for b in range(4)]
    contrast = sum(p[a] * p[b] * (i[a] - i[b]) ** 2 for a, b in pairs) / 12 * s.sum() / 16
    busy = sum(abs(i[a] * p[a] - i[b] * p[b]) for a, b in pairs)
    complexity = sum(
        abs(i[a] - i[b]) * (p[a] * s[a] + p[b] * s[b]) / (p[a] + p[b]) for a, b in pairs
    )
    strength = sum((p[a] + p[b]) * (i[a] - i[b]) ** 2 for a, b in pairs) / s.sum()
    expected = {
        "Busyness": (p * s).sum() / busy,
        "Coarseness": 1 / (p * s).sum(),
        "Complexity": complexity / 16,
        "Contrast": contrast,
        "Strength": strength,
    }
    assert found == pytest.approx(expected, rel=1e-3)


# Grey levels and counts.


def test_levels_are_bins_of_five_with_an_edge_at_0() -> None:
    picture = np.array([[[-5.1, -5.0, -0.1], [0.0, 4.9, 5.0]]])
    assert grey_levels(picture).tolist() == [[[1, 2, 2], [3, 3, 4]]]


def test_rounding_puts_no_even_area_into_two_bins() -> None:
    picture = np.array([[[1e-13, -1e-13], [0.0, -2e-12]]])
    assert len(np.unique(grey_levels(picture))) == 1


@pytest.mark.parametrize("spread", [3, 3000])
def test_pairs_are_counted_alike_with_and_without_a_cell_for_each(spread: int) -> None:
    rng = np.random.default_rng(0)
    group, i, j = rng.integers(0, 4, 200), rng.integers(1, spread, 200), rng.integers(1, 5, 200)
    counts = count_pairs(group, i, j, 4)
    expected = Counter(zip(group.tolist(), i.tolist(), j.tolist(), strict=True))
    found = zip(counts.group.tolist(), counts.i.tolist(), counts.j.tolist(), strict=True)
    assert dict(zip(found, counts.count.tolist(), strict=True)) == expected
    assert counts.total.tolist() == np.bincount(group).tolist()
