"""What a study found, in a few sentences that hold for its numbers."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from synthdp.evaluation.metrics import MACRO
from synthdp.privacy.accounting.bounds import epsilon_text, percent
from synthdp.study.compare.cells import Cell

#: The share of members found at 1 % false alarms, by the runs of a cell; None where not stated.
MembersFound: TypeAlias = Mapping[tuple[str, ...], float | None]

_MOST_STAY_UNFOUND = 0.5
_ALMOST_ALL_FOUND = 0.9
_MOST_NAMES = 3
_WITHHELD = (
    "Scores of patients are not in this release: an exact one is outside every promise. Each row's "
    "promise stands below."
)


def strategy_words(name: str) -> str:
    """A strategy's name for people."""
    return name.replace("_", " ")


def summary(
    cells: Sequence[Cell],
    n_runs: int,
    n_failed: int,
    members_found: MembersFound,
    *,
    withheld: bool = False,
    part_of: tuple[str, str] | None = None,
) -> list[str]:
    """The sentences on one evaluation set: what accuracy at what promise, against what attacker.

    Args:
        cells: all of that set.
        n_runs: runs of the whole study.
        n_failed: those of them that failed.
        members_found: the attacker's odds by the runs of a cell.
        withheld: whether the scores of patients stayed in the house, as in a release.
        part_of: where a page shows several sets, the name of this one and which of them it is, as
            in `the first of 2 parts`.
    """
    if n_runs == 0:
        return ["The study holds no run, so there is nothing to compare yet."]
    if n_failed == n_runs:
        return [f"None of the {n_runs} runs finished, so there is nothing to compare yet."]
    scored = [cell for cell in cells if cell.metrics["auroc"].mean is not None]
    if not scored and withheld:
        return [_WITHHELD]
    if not scored:
        return ["No run has an AUROC: the evaluation set holds one class alone."]
    sentences = [*_promised(scored, members_found), *_unprotected(scored), *_voided(scored)]
    if part_of is not None:
        name, which = part_of
        sentences.append(f"These are figures of {name}: {which} below.")
    if n_failed:
        sentences.append(f"{n_failed} of {n_runs} runs failed; their errors are listed below.")
    return sentences


def scope_words(cells: Sequence[Cell]) -> str:
    """What was compared on one evaluation set; empty where no run finished."""
    cells = [cell for cell in cells if cell.n_seeds]
    if not cells:
        return ""
    strategies = len({cell.strategy for cell in cells})
    seeds = sorted({cell.n_seeds for cell in cells})
    seed_words = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    many = max(seeds) > 1
    images, patients = cells[0].n_images, cells[0].n_patients
    scored_on = "" if images is None else f", scored on {images} images of {patients} patients"
    if cells[0].target == MACRO:
        scored_on += f"; figures are {MACRO} ones, plain means over several targets"
    return (
        f"{strategies} {'strategies' if strategies > 1 else 'strategy'}, {seed_words} "
        f"seed{'s' if many else ''} each{scored_on}."
    )


def _best(cells: Sequence[Cell]) -> Cell:
    return max(cells, key=lambda cell: cell.metrics["auroc"].mean or 0.0)


def _auroc_words(cell: Cell) -> str:
    """The AUROC of a cell with its interval, as in `0.71 (0.65 to 0.77)`."""
    auroc = cell.metrics["auroc"]
    assert auroc.mean is not None  # callers choose cells that have one
    if auroc.ci_low is None or auroc.ci_high is None:
        return f"{auroc.mean:.2f}"
    return f"{auroc.mean:.2f} ({auroc.ci_low:.2f} to {auroc.ci_high:.2f})"


def _promised(cells: Sequence[Cell], members_found: MembersFound) -> list[str]:
    untouched = [cell for cell in cells if cell.epsilon_end_to_end == 0]
    promised = [cell for cell in cells if cell.protected and cell.epsilon_end_to_end]
    unit = "image (not patient)" if any(cell.unit == "image" for cell in cells) else "patient"
    sentences = []
    if promised:
        sentences += _at_each_promise(promised, unit, members_found)
    elif not untouched:
        sentences.append(f"No row keeps a promise for every {unit}, end to end.")
    if untouched:
        best = _best(untouched)
        sentences.append(
            f"Without any patient's image (epsilon 0), {strategy_words(best.strategy)} reaches "
            f"{_auroc_words(best)}."
        )
    return sentences


def _at_each_promise(cells: Sequence[Cell], unit: str, members_found: MembersFound) -> list[str]:
    """The best cell at the strongest and the weakest promise, and at the weakest that is worth it.

    Worth it: the best attack leaves most members unfound.
    """
    by_epsilon: dict[str, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.epsilon_end_to_end or 0.0):
        by_epsilon.setdefault(epsilon_text(cell.epsilon_end_to_end or 0.0), []).append(cell)
    odds = {epsilon: _worst_share(group, members_found) for epsilon, group in by_epsilon.items()}
    worth = [e for e, share in odds.items() if share is not None and share < _MOST_STAY_UNFOUND]
    chosen = dict.fromkeys([next(iter(odds)), *worth[-1:], next(reversed(odds))])
    best = {epsilon: _best(by_epsilon[epsilon]) for epsilon in chosen}
    sentences = [
        f"With a promise for every {unit}, end to end, the best {_auroc_name(cells)} is "
        f"{_best_words(best)}.",
        *_attacker_words([odds[epsilon] for epsilon in chosen]),
    ]
    bare = next((e for e, share in odds.items() if (share or 0) >= _ALMOST_ALL_FOUND), None)
    if bare is not None:
        more = "" if bare == next(reversed(odds)) else " and above"
        sentences.append(f"Epsilon {bare}{more} is formally almost no protection.")
    return sentences


def _auroc_name(cells: Sequence[Cell]) -> str:
    return f"{MACRO} AUROC" if any(cell.target == MACRO for cell in cells) else "AUROC"


def _best_words(best: Mapping[str, Cell]) -> str:
    """The best cells by epsilon; their strategy once, where it is one."""
    names = {epsilon: strategy_words(cell.strategy) for epsilon, cell in best.items()}
    one = len({*names.values()}) == 1
    parts = [
        f"{_auroc_words(cell)} at {'epsilon ' * (index == 0)}{epsilon}"
        + ("" if one else f" ({names[epsilon]})")
        for index, (epsilon, cell) in enumerate(best.items())
    ]
    return f"{_listed(parts)}{f' ({next(iter(names.values()))})' if one else ''}"


def _attacker_words(shares: Sequence[float | None]) -> list[str]:
    if any(share is None for share in shares):
        return []
    stated = _listed([percent(share) for share in shares if share is not None])
    return [
        f"The best attacker then finds at most {stated} of the training set's members, at 1 % "
        "false alarms."
    ]


def _worst_share(cells: Sequence[Cell], members_found: MembersFound) -> float | None:
    shares = (members_found.get(cell.runs) for cell in cells)
    return max((share for share in shares if share is not None), default=None)


def _listed(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _unprotected(cells: Sequence[Cell]) -> list[str]:
    free = [cell for cell in cells if not cell.protected and not cell.voided]
    if not free:
        return []
    best = _best(free)
    return [f"Without privacy, the best is {_auroc_words(best)} ({strategy_words(best.strategy)})."]


def _voided(cells: Sequence[Cell]) -> list[str]:
    voided = [cell for cell in cells if cell.voided]
    if not voided:
        return []
    names = list(dict.fromkeys(strategy_words(cell.strategy) for cell in voided))
    who = f"{len(names)} strategies" if len(names) > _MOST_NAMES else ", ".join(names)
    return [
        "Hollow marks promise nothing, since an earlier stage used patients without privacy: "
        f"{who}; at best {_auroc_words(_best(voided))}."
    ]
