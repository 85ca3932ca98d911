"""What a study found, in a few sentences that hold for its numbers."""

from collections.abc import Mapping, Sequence

from synthdp.privacy.statement import number, percent
from synthdp.study.compare.cells import Aggregate
from synthdp.study.report.curve import Found

_MOST_STAY_UNFOUND = 0.5
_ALMOST_ALL_FOUND = 0.9
_MOST_NAMES = 3


def strategy_words(name: str) -> str:
    """A strategy's name for people."""
    return name.replace("_", " ")


def answer(
    rows: Sequence[Aggregate], n_runs: int, n_failed: int, found: Found | None = None
) -> list[str]:
    """The answer on one evaluation set: what accuracy at what promise, against what attacker.

    Args:
        rows: all aggregates of that set.
        n_runs: runs of the whole study.
        n_failed: those of them that failed.
        found: the share of members found at 1 % false alarms, by the runs of a row.
    """
    if n_runs == 0:
        return ["The study holds no run, so there is nothing to compare yet."]
    if n_failed == n_runs:
        return [f"None of the {n_runs} runs finished, so there is nothing to compare yet."]
    scored = [row for row in rows if row.metrics["auroc"].mean is not None]
    if not scored:
        return ["No run has an AUROC: the evaluation set holds one class alone."]
    sentences = [*_promised(scored, found or {}), *_unprotected(scored), *_hollow(scored)]
    if n_failed:
        sentences.append(f"{n_failed} of {n_runs} runs failed; their errors are listed below.")
    return sentences


def scope_words(rows: Sequence[Aggregate]) -> str:
    """What was compared on one evaluation set; empty where no run finished."""
    rows = [row for row in rows if row.n_seeds]
    if not rows:
        return ""
    strategies = len({row.strategy for row in rows})
    seeds = sorted({row.n_seeds for row in rows})
    seed_words = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    many = max(seeds) > 1
    images, patients = rows[0].n_images, rows[0].n_patients
    return (
        f"{strategies} {'strategies' if strategies > 1 else 'strategy'}, {seed_words} "
        f"seed{'s' if many else ''} each, scored on {images} images of {patients} patients."
    )


def _best(rows: Sequence[Aggregate]) -> Aggregate:
    return max(rows, key=lambda row: row.metrics["auroc"].mean or 0.0)


def auroc_words(row: Aggregate) -> str:
    """The AUROC of a row with its interval, as in `0.71 (0.65 to 0.77)`."""
    auroc = row.metrics["auroc"]
    assert auroc.mean is not None  # callers choose rows that have one
    if auroc.ci_low is None or auroc.ci_high is None:
        return f"{auroc.mean:.2f}"
    return f"{auroc.mean:.2f} ({auroc.ci_low:.2f} to {auroc.ci_high:.2f})"


def _promised(rows: Sequence[Aggregate], found: Found) -> list[str]:
    untouched = [row for row in rows if row.epsilon_end_to_end == 0]
    promised = [row for row in rows if row.protected and row.epsilon_end_to_end]
    unit = "image (not patient)" if any(row.unit == "image" for row in rows) else "patient"
    sentences = []
    if promised:
        sentences += _at_each_promise(promised, unit, found)
    elif not untouched:
        sentences.append(f"No row keeps a promise for every {unit}, end to end.")
    if untouched:
        best = _best(untouched)
        sentences.append(
            f"Without any patient's image (epsilon 0), {strategy_words(best.strategy)} reaches "
            f"{auroc_words(best)}."
        )
    return sentences


def _at_each_promise(rows: Sequence[Aggregate], unit: str, found: Found) -> list[str]:
    """The best row at the strongest and the weakest promise, and at the weakest that is worth it.

    Worth it: the best attack leaves most members unfound.
    """
    by_epsilon: dict[str, list[Aggregate]] = {}
    for row in sorted(rows, key=lambda row: row.epsilon_end_to_end or 0.0):
        by_epsilon.setdefault(number(row.epsilon_end_to_end or 0.0), []).append(row)
    odds = {epsilon: _worst(group, found) for epsilon, group in by_epsilon.items()}
    worth = [e for e, share in odds.items() if share is not None and share < _MOST_STAY_UNFOUND]
    chosen = dict.fromkeys([next(iter(odds)), *worth[-1:], next(reversed(odds))])
    best = {epsilon: _best(by_epsilon[epsilon]) for epsilon in chosen}
    sentences = [
        f"With a promise for every {unit}, end to end, the best AUROC is {_bests_words(best)}.",
        *_attacker_words([odds[epsilon] for epsilon in chosen]),
    ]
    bare = next((e for e, share in odds.items() if (share or 0) >= _ALMOST_ALL_FOUND), None)
    if bare is not None:
        more = "" if bare == next(reversed(odds)) else " and above"
        sentences.append(f"Epsilon {bare}{more} is formally almost no protection.")
    return sentences


def _bests_words(best: Mapping[str, Aggregate]) -> str:
    """The best rows by epsilon; their strategy once, where it is one."""
    names = {epsilon: strategy_words(row.strategy) for epsilon, row in best.items()}
    one = len({*names.values()}) == 1
    parts = [
        f"{auroc_words(row)} at {'epsilon ' * (place == 0)}{epsilon}"
        + ("" if one else f" ({names[epsilon]})")
        for place, (epsilon, row) in enumerate(best.items())
    ]
    return f"{_listed(parts)}{f' ({next(iter(names.values()))})' if one else ''}"


def _attacker_words(shares: Sequence[float | None]) -> list[str]:
    if any(share is None for share in shares):
        return []
    found = _listed([percent(share) for share in shares if share is not None])
    return [
        f"The best attacker then finds at most {found} of the training set's members, at 1 % false "
        "alarms."
    ]


def _worst(rows: Sequence[Aggregate], found: Found) -> float | None:
    shares = (found.get(row.runs) for row in rows)
    return max((share for share in shares if share is not None), default=None)


def _listed(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _unprotected(rows: Sequence[Aggregate]) -> list[str]:
    free = [row for row in rows if not row.protected and not row.hollow]
    if not free:
        return []
    best = _best(free)
    return [f"Without privacy, the best is {auroc_words(best)} ({strategy_words(best.strategy)})."]


def _hollow(rows: Sequence[Aggregate]) -> list[str]:
    hollow = [row for row in rows if row.hollow]
    if not hollow:
        return []
    names = list(dict.fromkeys(strategy_words(row.strategy) for row in hollow))
    who = f"{len(names)} strategies" if len(names) > _MOST_NAMES else ", ".join(names)
    return [
        "Hollow marks promise nothing, since an earlier stage used patients without privacy: "
        f"{who}; at best {auroc_words(_best(hollow))}."
    ]
