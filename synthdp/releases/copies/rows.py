"""Which rows of a study leave, and what is blanked in them: exact figures of patients."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from synthdp.errors import InputError
from synthdp.evaluation.metrics import METRICS
from synthdp.study.compare.aurocs import Comparisons
from synthdp.study.compare.results import ResultRow
from synthdp.study.record import SetFacts

_Number = TypeVar("_Number", int, float | None)

PRIVATE, ALL = "private", "all"
_HOW = (
    "name rows as `private` (the default: a finite epsilon, end to end), `all`, or by values, as "
    "in --rows strategy=real_only,transformer_only epsilon=1,6 seed=0"
)


@dataclass(frozen=True)
class Selection:
    """Rows of a study: those that every part which is not None allows.

    private: whether the epsilon end to end must be finite; epsilons: asked for, None without
    privacy.
    """

    private: bool = True
    strategies: frozenset[str] | None = None
    epsilons: frozenset[float | None] | None = None
    seeds: frozenset[int] | None = None

    @property
    def by_value(self) -> bool:
        """Whether somebody chose among the rows, and may have looked at their scores first."""
        return any(part is not None for part in (self.strategies, self.epsilons, self.seeds))

    def allows(self, row: ResultRow) -> bool:
        """Whether a row is chosen; a failed run has nothing to release."""
        promised = row.epsilon_end_to_end
        return (
            row.state == "finished"
            and (not self.private or (promised is not None and math.isfinite(promised)))
            and (self.strategies is None or row.strategy in self.strategies)
            and (self.epsilons is None or row.epsilon in self.epsilons)
            and (self.seeds is None or row.seed in self.seeds)
        )


def parse_selection(words: Sequence[str]) -> Selection:
    """The rows that the words behind `--rows` name; without any, the private ones.

    Values name rows whether they are private or not.

    Raises:
        InputError: when a word is none of these.
    """
    if not words:
        return Selection()
    parts: dict[str, frozenset[str]] = {}
    for word in words:
        key, equals, values = word.partition("=")
        known = key in ("strategy", "epsilon", "seed") if equals else key in (PRIVATE, ALL)
        if not known or key in parts or (equals and not all(values.split(","))):
            raise InputError(f"--rows: {word!r} names no rows; {_HOW}")
        parts[key] = frozenset(values.split(","))
    if PRIVATE in parts and ALL in parts:
        raise InputError(f"--rows: `private` and `all` are two things; {_HOW}")
    return Selection(
        private=PRIVATE in parts,
        strategies=parts.get("strategy"),
        epsilons=_numbers(parts.get("epsilon"), _epsilon),
        seeds=_numbers(parts.get("seed"), int),
    )


def _epsilon(text: str) -> float | None:
    return None if text == "none" else float(text)


def _numbers(
    texts: frozenset[str] | None, read: Callable[[str], _Number]
) -> frozenset[_Number] | None:
    try:
        return None if texts is None else frozenset(map(read, texts))
    except ValueError as error:
        raise InputError(f"--rows: {', '.join(sorted(texts or ()))}: no numbers; {_HOW}") from error


def chosen_rows(rows: Sequence[ResultRow], selection: Selection) -> list[ResultRow]:
    """The rows of a selection.

    Raises:
        InputError: when there is none.
    """
    chosen = [row for row in rows if selection.allows(row)]
    if not chosen:
        finished = [row for row in rows if row.state == "finished"]
        there = dict.fromkeys(f"{one.strategy} at epsilon {_asked(one)}" for one in finished)
        known = f"the study has {', '.join(there)}" if there else "no run of the study finished"
        if selection == Selection():
            known += ", none of them with a promise; name them to release them all the same"
        raise InputError(f"--rows: no row is chosen; {known}; {_HOW}")
    return chosen


def _asked(row: ResultRow) -> str:
    return "none" if row.epsilon is None else f"{row.epsilon:g}"


def public_sets(sets: Collection[SetFacts]) -> frozenset[str]:
    """The names of sets that hold no patient, whose figures tell of nobody.

    A set that is no longer at hand, or has the name of one of patients, is none of them.
    """
    of_patients = {one.name for one in sets if one.stands_for_patients or one.kind == "real"}
    return frozenset(one.name for one in sets) - of_patients


def blanked(row: ResultRow, *, public: Collection[str], scores: bool, counts: bool) -> ResultRow:
    """A row without exact scores and counts of patients, save for those asked for by name."""
    if row.data_set in public:
        return row
    changes: dict[str, None] = {}
    if not scores:
        ends = ("", "_ci_low", "_ci_high")
        changes |= dict.fromkeys(f"{metric}{end}" for metric in METRICS for end in ends)
    if not counts:
        changes |= dict.fromkeys(("n_images", "n_patients"))
    return row.model_copy(update=changes)


def comparisons_left(
    comparisons: Comparisons, *, public: Collection[str], scores: bool
) -> Comparisons:
    """The comparisons on sets whose figures may leave.

    They are of all rows together (what is adjusted for many comparisons holds every one), so that
    they leave with all rows or not at all.
    """

    def may_leave(data_set: str) -> bool:
        return scores or data_set in public

    return Comparisons(
        tuple(one for one in comparisons.aurocs if may_leave(one.data_set)),
        tuple(
            one
            for one in comparisons.thresholds
            if may_leave(one.data_set) and may_leave(one.fixed_on)
        ),
    )
