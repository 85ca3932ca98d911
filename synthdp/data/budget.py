"""What the patients of a data set may be asked for in all, shown and changed by a command.

The ledger beside the set keeps each change, with its reason; every private stage is held to the
newest (`synthdp.privacy.ledger.set_record`).
"""

from pathlib import Path

from synthdp.config.settings import validate_settings
from synthdp.data.description import LEDGER, read_info
from synthdp.errors import InputError
from synthdp.privacy.accounting.bounds import epsilon_text, exactly
from synthdp.privacy.ledger.budget import Budget
from synthdp.privacy.ledger.set_record import Record
from synthdp.privacy.lineage import Lineage

#: Where a set has no budget, what was spent is shown at this delta.
_SHOWN_DELTA = 1e-5


def change_budget(root: Path, *, epsilon: str, delta: float | None, because: str) -> Budget:
    """Log a new budget of the data set at `root`, and why.

    Args:
        root: a data set of patients.
        epsilon: for all releases together, a number in words; `none` lifts the bound.
        delta: at which; None keeps that of the budget before.
        because: the reason, which stays in the set's private part.

    Raises:
        InputError: when the set holds no patients or has no ledger, a number is out of its range,
            or no delta or reason is given.
    """
    if not because.strip():
        raise InputError("--because is missing: say why, for whoever reads the ledger later")
    record, before = _record(root)
    values = {
        "epsilon": epsilon,
        "delta": delta if delta is not None else before.delta,
        "unit": read_info(root).unit,
    }
    budget = validate_settings(Budget, values, where="data budget")
    record.set_budget(budget, because)
    return budget


def budget_words(root: Path) -> str:
    """The budget of the data set at `root`, and what is on record, for the terminal.

    Raises:
        InputError: as `change_budget`.
    """
    record, budget = _record(root)
    info, releases, delta = read_info(root), record.releases, budget.delta or _SHOWN_DELTA
    spent = Lineage(releases=releases).epsilon_to(info.unit, delta)
    bound = "none is set" if budget.epsilon is None else f"epsilon {exactly(budget.epsilon)}"
    return (
        f"{info.name}: budget for each {info.unit}: {bound}; on record: "
        f"{len(releases)} release(s), together epsilon {epsilon_text(spent)} at delta "
        f"{exactly(delta)}"
    )


def _record(root: Path) -> tuple[Record, Budget]:
    info = read_info(root)
    if not info.protects_patients:
        raise InputError(f"{info.unprotected_words.removesuffix(',')}: it needs no budget")
    record = Record(root / "private" / LEDGER, info.ledger)
    return record, record.budget
