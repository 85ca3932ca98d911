"""What a study found, in a few sentences that hold for its numbers."""

from collections.abc import Sequence

from synthdp.privacy.statement import number
from synthdp.study.aggregate import Aggregate


def strategy_words(name: str) -> str:
    """A strategy's name for people."""
    return name.replace("_", " ")


def answer(rows: Sequence[Aggregate], n_runs: int, n_failed: int) -> list[str]:
    """The answer on one evaluation set: what accuracy at what promise.

    Args:
        rows: all aggregates of that set.
        n_runs: runs of the whole study.
        n_failed: those of them that failed.
    """
    if n_failed == n_runs:
        return [f"None of the {n_runs} runs finished, so there is nothing to compare yet."]
    scored = [row for row in rows if row.metrics["auroc"].mean is not None]
    if not scored:
        return ["No run has an AUROC: the evaluation set holds one class alone."]
    sentences = [*_promised(scored), *_unprotected(scored), *_hollow(scored)]
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


def _promised(rows: Sequence[Aggregate]) -> list[str]:
    untouched = [row for row in rows if row.epsilon_end_to_end == 0]
    promised = [row for row in rows if row.protected and row.epsilon_end_to_end]
    unit = "image (not patient)" if any(row.unit == "image" for row in rows) else "patient"
    sentences = []
    if promised:
        by_epsilon: dict[str, list[Aggregate]] = {}
        for row in sorted(promised, key=lambda row: row.epsilon_end_to_end or 0.0):
            by_epsilon.setdefault(number(row.epsilon_end_to_end or 0.0), []).append(row)
        ends = dict.fromkeys([next(iter(by_epsilon)), next(reversed(by_epsilon))])
        parts = [
            f"{auroc_words(best)} at epsilon {epsilon} ({strategy_words(best.strategy)})"
            for epsilon in ends
            for best in [_best(by_epsilon[epsilon])]
        ]
        sentences.append(
            f"With a promise for every {unit}, end to end, the best AUROC is {' and '.join(parts)}."
        )
    elif not untouched:
        sentences.append(f"No row keeps a promise for every {unit}, end to end.")
    if untouched:
        best = _best(untouched)
        sentences.append(
            f"Without any patient's image (epsilon 0), {strategy_words(best.strategy)} reaches "
            f"{auroc_words(best)}."
        )
    return sentences


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
    names = ", ".join(dict.fromkeys(strategy_words(row.strategy) for row in hollow))
    best = _best(hollow)
    return [
        f"Hollow marks promise nothing, since an earlier stage used patients without privacy: "
        f"{names}; at best {auroc_words(best)}."
    ]
