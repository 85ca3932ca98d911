"""One interval for one number: which interval of a mean AUROC over seeds is shown and cited.

Of a mean over seeds two intervals can be made: the mean of the seeds' own intervals, each by
redraws of the patients, and one that also holds that training might have gone otherwise
(`synthdp.study.compare.aurocs`). Where the second was made it stands everywhere: in the tables, on
the curve, in the summary and in cards. `results.csv` keeps each run's own.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from synthdp.evaluation.uncertainty.intervals import Interval
from synthdp.study.compare.aurocs import ComparisonRow
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.results import cell_key

#: `results.csv` and `comparisons.csv` hold six digits of one mean.
_SAME = 5e-6


def with_cited_intervals(cells: Iterable[Cell], compared: Sequence[ComparisonRow]) -> list[Cell]:
    """The cells, each with the interval of its mean AUROC that is to be cited.

    Args:
        cells: by set.
        compared: rows of `comparisons.csv`; those of other figures than a cell's, such as of a
            table that is older than the results, are not taken.
    """
    means = {
        (row.data_set, row.split, row.target, cell_key(row)): row
        for row in compared
        if row.kind == "mean"
    }
    return [
        _cited(cell, means.get((cell.data_set, cell.split, cell.target, cell.key)))
        for cell in cells
    ]


def _cited(cell: Cell, row: ComparisonRow | None) -> Cell:
    mean = cell.metrics["auroc"].mean
    if row is None or mean is None or row.value is None:
        return cell
    if row.ci_low is None or row.ci_high is None or abs(row.value - mean) > _SAME:
        return cell
    return replace(cell, cited_auroc=Interval(row.value, row.ci_low, row.ci_high))


def interval_words(cells: Iterable[Cell]) -> str:
    """How the intervals of the cells' AUROCs were made, in a sentence."""
    with_mean = [cell for cell in cells if cell.metrics["auroc"].mean is not None]
    seeds = {cell.n_seeds for cell in with_mean if cell.cited_auroc is not None}
    if not seeds:
        return (
            "95 % intervals hold patients alone, not seeds (mean of the seeds' bootstrap intervals)"
        )
    words = f"95 % intervals of AUROC {held_words(seeds)}"
    if all(cell.cited_auroc is not None for cell in with_mean):
        return words
    return (
        f"{words}; where that could not be worked out, and of settings that were tried and not "
        "chosen, patients alone (mean of the seeds' bootstrap intervals)"
    )


def held_words(seeds: Collection[int]) -> str:
    """What intervals over runs of so many seeds each hold: of one seed nothing tells of others."""
    if set(seeds) == {1}:
        return "hold patients alone, since there is one seed (DeLong's variance by patient)"
    both = "hold both patients and seeds (DeLong's variance by patient, runs as a second source)"
    return f"{both}, of one seed patients alone" if 1 in seeds else both
