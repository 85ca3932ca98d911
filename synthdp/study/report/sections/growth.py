"""How results grow with the number of patients, as `growth.html.j2` shows it.

A study that was cross-validated on several shares of its patients has one drawing, and for each
recipe beside each reference a matrix, share by epsilon, with one sentence that its numbers say.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from markupsafe import Markup

from synthdp.evaluation.metrics import MACRO
from synthdp.privacy.units import CROSS_VALIDATED
from synthdp.study.compare.aurocs import ComparisonRow
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.results import cell_key
from synthdp.study.report.comparison_tables import SIGNIFICANT
from synthdp.study.report.curve import NARROW_IN, WIDE_IN
from synthdp.study.report.figures.growth import (
    GrowthPanel,
    Share,
    draw_growth,
    growth_panels,
    public_shares,
)
from synthdp.study.report.sections.comparisons import Verdict, verdict_of
from synthdp.study.report.study_results import StudyResults
from synthdp.study.sets import share_of

_DECIDED: dict[Verdict, str] = {"won": "better", "lost": "worse"}
_OPEN: tuple[Verdict, ...] = ("not told apart", "not tested")
_FIGURES = (*_DECIDED, *_OPEN)
#: What `ComparisonRow.smallest_gain` is made for: found by four of five studies, at .05 two-sided.
_POWER = NormalDist().inv_cdf(0.8)


@dataclass(frozen=True)
class MatrixCell:
    """One recipe less another at one share and epsilon; `row` is of `comparisons.csv`."""

    share: Share
    epsilon: float | None
    verdict: Verdict
    row: ComparisonRow | None

    @property
    def asked(self) -> str:
        """Its epsilon, in words."""
        return "no privacy" if self.epsilon is None else f"epsilon {self.epsilon:g}"

    @property
    def words(self) -> str:
        """Which cell it is."""
        return f"{self.asked} and {self.share.words}"


@dataclass(frozen=True)
class Matrix:
    """One recipe beside a reference: `cells` go by share, then by epsilon.

    `sentence` is what its numbers say.
    """

    strategy: str
    against: str
    epsilons: tuple[float | None, ...]
    cells: tuple[tuple[MatrixCell, ...], ...]
    sentence: str


@dataclass(frozen=True)
class GrowthView:
    """The section: its drawing in two widths, its table, and the matrices by their reference.

    wide, narrow: empty where no run has an AUROC. `n_tested` is of how many differences Holm's
    adjustment is, by reference, and `strictest` by what a gain has to be larger then.
    """

    name: str
    shares: tuple[Share, ...]
    panels: tuple[GrowthPanel, ...]
    wide: Markup
    narrow: Markup
    matrices: Mapping[str, tuple[Matrix, ...]]
    n_tested: Mapping[str, int]
    strictest: Mapping[str, float]


def growth_section(study: Path, results: StudyResults, patients: int | None) -> dict[str, Any]:
    """The view under the name that the template has for it; None where there is one share alone.

    Args:
        study: the study's folder.
        results: all that it tells.
        patients: a public number of all patients, in place of the declared bound.
    """
    here = [cell for cell in results.cells if cell.split == CROSS_VALIDATED]
    shares = public_shares(study, here, patients)
    if len(shares) < 2:
        return {"growth": None}
    panels = growth_panels(here, shares, results.strategies)
    wide, narrow = (
        Markup(  # noqa: S704 (drawn here)
            draw_growth(panels, here, prefix=f"growth{kind}", width_in=width) if panels else ""
        )
        for kind, width in (("wide", WIDE_IN), ("narrow", NARROW_IN))
    )
    rows = [
        row
        for row in results.comparisons.aurocs
        if row.kind == "reference"
        and row.split == CROSS_VALIDATED
        and row.target in ("", MACRO)
        and share_of(row.trained_on) is not None
    ]
    matrices = {
        against: tuple(_matrices(against, [r for r in rows if r.against == against], here, shares))
        for against in dict.fromkeys(row.against for row in rows)
    }
    tested = {
        name: sum(row.p is not None for row in rows if row.against == name) for name in matrices
    }
    view = GrowthView(
        name=f"{here[0].data_set}, {here[0].split}",
        shares=tuple(shares),
        panels=tuple(panels),
        wide=wide,
        narrow=narrow,
        matrices={name: some for name, some in matrices.items() if some},
        n_tested=tested,
        strictest={name: _strictest(number) for name, number in tested.items()},
    )
    return {"growth": view}


def _strictest(n_tested: int) -> float:
    """How much larger than the smallest gain one has to be where Holm's first step decides."""
    usual, first = (
        NormalDist().inv_cdf(1 - SIGNIFICANT / 2 / number) for number in (1, max(n_tested, 1))
    )
    return (first + _POWER) / (usual + _POWER)


def _matrices(
    against: str, rows: Sequence[ComparisonRow], cells: Sequence[Cell], shares: Sequence[Share]
) -> Iterator[Matrix]:
    asked = {row.epsilon for row in rows}
    epsilons = tuple(sorted(asked, key=lambda one: math.inf if one is None else one))
    by_key = {cell_key(row): row for row in rows}
    of_cell = {cell.key: cell for cell in cells}
    keys = {(key.strategy, key.epsilon, share_of(key.trained_on)): key for key in by_key}
    for strategy in dict.fromkeys(row.strategy for row in rows):
        grid = []
        for share in shares:
            line = []
            for epsilon in epsilons:
                key = keys.get((strategy, epsilon, share.share))
                if key is None:
                    line.append(MatrixCell(share, epsilon, "no figure", None))
                    continue
                row, other = by_key[key], key._replace(strategy=against)
                both = [of_cell[one] for one in (key, other) if one in of_cell]
                line.append(MatrixCell(share, epsilon, verdict_of(row, both), row))
            grid.append(tuple(line))
        found = [one for line in grid for one in line]
        yield Matrix(strategy, against, epsilons, tuple(grid), sentence(strategy, against, found))


def sentence(strategy: str, against: str, cells: Sequence[MatrixCell]) -> str:
    """What the cells of one matrix say, in one sentence.

    Args:
        strategy: what was compared.
        against: with what.
        cells: of all shares and epsilons.
    """
    count = Counter(one.verdict for one in cells)
    known = [one for one in cells if one.verdict in _FIGURES]
    if not known:
        return f"{strategy} and {against}: there is nothing to compare ({_missing(count)})."
    number, alike = len(known), next((v for v in _DECIDED if count[v] == len(known)), None)
    if alike is not None:
        where = f"all {number} cells" if number > 1 else "the one cell that has a figure"
        said = f"Against {against}, {strategy} is {_DECIDED[alike]} at {where}"
    elif count["not told apart"] == number:
        where = f"any of {number} cells" if number > 1 else "the one cell that has a figure"
        said = f"{strategy} is not told from {against} at {where}"
    else:
        parts = [
            f"{words} at {count[verdict]}{_where(known, verdict)}"
            for verdict, words in _DECIDED.items()
            if count[verdict]
        ]
        parts += [f"{verdict} at {count[verdict]}" for verdict in _OPEN if count[verdict]]
        said = f"Against {against}, {strategy} is, of {number} cells, {listed(parts)}"
    missing = "" if number == len(cells) else f"; of all {len(cells)} cells {_missing(count)}"
    return f"{said}{_gains(known)}{missing}."


def _where(cells: Sequence[MatrixCell], verdict: Verdict) -> str:
    """Which cells have a verdict, in brackets: epsilons of the same shares stand together."""
    by_epsilon: dict[str, list[Share]] = {}
    for one in sorted(cells, key=lambda one: math.inf if one.epsilon is None else one.epsilon):
        if one.verdict == verdict:
            by_epsilon.setdefault(one.asked, []).append(one.share)
    by_shares: dict[tuple[Share, ...], list[str]] = {}
    for asked, some in by_epsilon.items():
        by_shares.setdefault(tuple(some), []).append(asked)
    every = {one.share for one in cells}
    places = []
    for shares, epsilons in by_shares.items():
        numbers = "any number of patients" if set(shares) == every else _numbers(shares)
        asked = listed([epsilons[0], *(one.removeprefix("epsilon ") for one in epsilons[1:])])
        places.append(f"{asked} with {numbers}")
    return f" ({'; '.join(places)})"


def _numbers(shares: Sequence[Share]) -> str:
    """As in `about 50, 100 and 460 patients`."""
    first, last = shares[0], shares[-1]
    prefix = first.words.partition(first.label)[0]
    labels = [one.label for one in shares[:-1]]
    return f"{prefix}{listed([*labels, last.words.removeprefix(prefix)])}"


def _gains(cells: Sequence[MatrixCell]) -> str:
    """Which gain would have been seen where most is, and where least is; rounded up."""
    # two models that rank these patients alike have no variance, which shows nothing
    gains = [(gain, one) for one in cells if one.row and (gain := one.row.smallest_gain)]
    if not gains:
        return ""
    (least, best), (most, worst) = (
        choose(gains, key=lambda pair: pair[0]) for choose in (min, max)
    )
    words = f"; a gain of {_rounded_up(least)} or more would have been seen at {best.words}"
    return words if best is worst else f"{words}, one of {_rounded_up(most)} at {worst.words}"


def _rounded_up(gain: float) -> str:
    return f"{math.ceil(gain * 1000 - 1e-6) / 1000:.3f}"


def _missing(count: Mapping[Verdict, int]) -> str:
    """How many cells have no figure, and why."""
    words: dict[Verdict, str] = {"not run yet": "not run yet", "no figure": "without a figure"}
    return listed(
        [
            f"{count[verdict]} {'is' if count[verdict] == 1 else 'are'} {said}"
            for verdict, said in words.items()
            if count[verdict]
        ]
    )


def listed(parts: Sequence[str]) -> str:
    """Things as a sentence lists them."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
