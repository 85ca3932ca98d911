"""Print studies of `configs/study/whole-network.yaml` side by side, as Markdown.

A row is a strategy in a study: its AUROC at each epsilon, the mean over seeds (of several findings
their macro mean), the interval over patients and seeds, and the minutes that the last stage of a
run took, which is the training on patients.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from synthdp.status import read_status
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.results import RESULTS_FILE, read_results
from synthdp.study.report.settings import ReportSettings
from synthdp.study.report.study_results import study_results


def minutes_of(study: Path, cell: Cell) -> float | None:
    """How long the last stage of a run took, in the mean over seeds; None where it is unknown."""
    states = [read_status(study / "runs" / run) for run in cell.runs]
    seconds = [one.seconds for one in states if one is not None and one.seconds is not None]
    return fmean(seconds) / 60 if seconds else None


def figure(study: Path, cell: Cell) -> str:
    """A cell in words, such as `.712 [.690, .733], 2.1 min`."""
    auroc, minutes = cell.metrics["auroc"], minutes_of(study, cell)
    if auroc.mean is None:
        return "-"
    bounds = [f"{bound:.3f}"[1:] for bound in (auroc.ci_low, auroc.ci_high) if bound is not None]
    interval = f" [{', '.join(bounds)}]" if bounds else ""
    taken = "" if minutes is None else f", {minutes:.1f} min"
    return f"{auroc.mean:.3f}"[1:] + interval + taken


def rows_of(study: Path, epsilons: Sequence[float | None]) -> list[str]:
    """A study's rows of the table."""
    results = study_results(ReportSettings(study=study), read_results(study / RESULTS_FILE))
    cells = {(cell.strategy, cell.epsilon): cell for cell in results.cells}
    return [
        " | ".join(
            [
                f"| {study.name}",
                f"`{strategy}`",
                *(
                    figure(study, cells[strategy, epsilon]) if (strategy, epsilon) in cells else ""
                    for epsilon in epsilons
                ),
            ]
        )
        + " |"
        for strategy in results.strategies
    ]


def epsilons_of(studies: Sequence[Path]) -> list[float | None]:
    """All that were asked for, the smallest first, and none at the end."""
    rows = [row for study in studies for row in read_results(study / RESULTS_FILE)]
    return sorted({row.epsilon for row in rows}, key=lambda one: math.inf if one is None else one)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  python scripts/whole_network_table.py studies/whole-network-*",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("studies", type=Path, nargs="+", help="folders of finished studies")
    studies = parser.parse_args().studies
    epsilons = epsilons_of(studies)
    words = ["epsilon none" if one is None else f"epsilon {one:g}" for one in epsilons]
    print("| study | strategy |", " | ".join(words), "|")
    print("|---" * (2 + len(epsilons)) + "|")
    for study in studies:
        print("\n".join(rows_of(study, epsilons)))


if __name__ == "__main__":
    main()
