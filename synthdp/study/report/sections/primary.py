"""The differences that a study was made to test, as `primary.html.j2` shows them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdp.evaluation.metrics import MACRO
from synthdp.study.compare.aurocs import ComparisonRow
from synthdp.study.compare.cells import Cell
from synthdp.study.report.figures.growth import public_shares
from synthdp.study.report.sections.comparisons import Verdict, verdict_of
from synthdp.study.report.study_results import StudyResults
from synthdp.study.sets import share_words

_TESTED: tuple[Verdict, ...] = ("won", "lost", "not told apart")


@dataclass(frozen=True)
class PrimaryLine:
    """One difference: `row` is of `comparisons.csv`; `trained_on` is on whom, in words."""

    row: ComparisonRow
    verdict: Verdict
    trained_on: str


@dataclass(frozen=True)
class PrimaryFamily:
    """All that were tested together: on one split, and by one target where there are several."""

    name: str
    sentence: str
    lines: tuple[PrimaryLine, ...]


@dataclass(frozen=True)
class PrimaryPart:
    """What one evaluation set says: by its only target or the mean over several, then by each."""

    name: str
    whole: PrimaryFamily
    targets: tuple[PrimaryFamily, ...]


@dataclass(frozen=True)
class PrimaryView:
    """The section; `registered`: whether the study was started with these differences."""

    registered: bool
    parts: tuple[PrimaryPart, ...]


def primary_section(study: Path, results: StudyResults, patients: int | None) -> dict[str, Any]:
    """The view under the name that the template has for it; None where nothing is primary.

    Args:
        study: the study's folder.
        results: all that it tells.
        patients: a public number of all patients, in place of the declared bound.
    """
    rows = [row for row in results.comparisons.aurocs if row.kind == "primary"]
    if not rows:
        return {"primary": None}
    registered = bool(results.record.registered)
    shares = public_shares(study, results.cells, patients)
    words = {share_words(one.share): one.words for one in shares}
    families = dict[tuple[str, str], dict[str, PrimaryFamily]]()
    for (data_set, split, target), some in _by_target(rows):
        here = [cell for cell in results.cells if (cell.data_set, cell.split) == (data_set, split)]
        lines = tuple(_lines(some, here, words))
        said = primary_sentence([one.verdict for one in lines], registered=registered)
        families.setdefault((data_set, split), {})[target] = PrimaryFamily(target, said, lines)
    parts = []
    for names, by_target in families.items():
        first, *others = by_target.values()
        parts.append(PrimaryPart(", ".join(names), first, tuple(others)))
    return {"primary": PrimaryView(registered, tuple(parts))}


def _by_target(
    rows: Sequence[ComparisonRow],
) -> list[tuple[tuple[str, str, str], list[ComparisonRow]]]:
    """Rows that were tested together; those of the only target, or the mean, come first."""
    groups = dict[tuple[str, str, str], list[ComparisonRow]]()
    for row in rows:
        groups.setdefault((row.data_set, row.split, row.target), []).append(row)
    return sorted(groups.items(), key=lambda item: item[0][2] not in ("", MACRO))


def _lines(
    rows: Sequence[ComparisonRow], cells: Sequence[Cell], words: Mapping[str, str]
) -> Iterator[PrimaryLine]:
    by_key = {(cell.strategy, cell.epsilon, cell.trained_on): cell for cell in cells}
    for row in rows:
        found = [
            by_key.get((name, row.epsilon, row.trained_on)) or by_key.get((name, None, ""))
            for name in (row.strategy, row.against)
        ]
        verdict = verdict_of(row, [cell for cell in found if cell is not None])
        if verdict == "no figure" and not (row.n_seeds and row.n_seeds_against):
            verdict = "no run"
        yield PrimaryLine(row, verdict, words.get(row.trained_on, row.trained_on))


def primary_sentence(verdicts: Sequence[Verdict], *, registered: bool) -> str:
    """How many differences there are, and what came of them; those that were not tested apart."""
    count, number = Counter(verdicts), len(verdicts)
    were = f"{number} difference{' was' if number == 1 else 's were'}"
    named = (
        f"{were} registered before the study began"
        if registered
        else f"{were} named after the study ran, and are not registered"
    )
    n_tested = sum(count[verdict] for verdict in _TESTED)
    said = f"{named}: {', '.join(f'{count[verdict]} {verdict}' for verdict in _TESTED)}"
    if n_tested == number:
        return f"{said}."
    n_others = number - n_tested
    why = [f"{count[one]} {one}" for one in dict.fromkeys(verdicts) if one not in _TESTED]
    are = "is no test" if n_others == 1 else "are no tests"
    return f"{said}; {n_others} {are} ({', '.join(why)})."
