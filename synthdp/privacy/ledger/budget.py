"""What the patients of a data set may be asked for in all: set at import, held by every stage."""

from __future__ import annotations  # of releases the types alone are named

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from synthdp.config.settings import Settings
from synthdp.errors import InputError
from synthdp.privacy.accounting.bounds import at_most, exactly
from synthdp.privacy.settings import EpsilonTarget
from synthdp.privacy.units import Unit

if TYPE_CHECKING:
    from synthdp.privacy.lineage import Release

#: The accountant's figures of one cost agree to this.
_ROUNDING = 1 + 1e-6


class Budget(Settings):
    """The most that all releases on a set's patients may cost together."""

    epsilon: EpsilonTarget = None
    """For all releases together; `none` bounds nothing. Example: 12"""

    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The delta at which the epsilon holds. Example: 1e-5"""

    unit: Unit = "patient"
    """Whom it is for: a release that protects another one is refused."""

    @model_validator(mode="after")
    def _has_both(self) -> Budget:
        if self.epsilon is not None and self.delta is None:
            raise ValueError("delta: missing; an epsilon is one at a delta, as in delta=1e-5")
        return self

    def refuse_overspent(self, on_record: Iterable[Release], planned: Sequence[Release]) -> None:
        """Refuse releases that would together take the set's patients beyond the budget.

        Args:
            on_record: all releases on the set's patients so far.
            planned: those to come, each with its full budget.

        Guarantee: when it returns, and an epsilon bounds the set, no unit's joint cost of
        `on_record` and `planned` is above (epsilon, delta), whatever units they protect
        (`Release.loss_to`).

        Raises:
            InputError: says what is left.
        """
        from synthdp.privacy.lineage import Lineage  # noqa: PLC0415 (read as a setting without)

        if self.epsilon is None or self.delta is None or not planned:
            return
        for one in planned:
            if one.unit != self.unit:
                raise InputError(
                    f"{one.data}: its privacy.budget is for each {self.unit}, and this stage "
                    f"promises something to each {one.unit}; set privacy.unit={self.unit}"
                )
        before = Lineage(releases=tuple(on_record))
        spent = before.epsilon_to(self.unit, self.delta)
        both = Lineage(releases=(*before.releases, *planned))
        after = both.epsilon_to(self.unit, self.delta)
        if after > self.epsilon * _ROUNDING:
            these = "this one" if len(planned) == 1 else f"these {len(planned):,}"
            raise InputError(
                f"{planned[0].data}: its privacy.budget is epsilon {exactly(self.epsilon)} at "
                f"delta {exactly(self.delta)}; releases on record have spent {_shown(spent)}, "
                f"with {these} it would be {_shown(after)}. Ask for less, or raise it: synthdp "
                "data budget DIR --epsilon E --because TEXT"
            )


def _shown(epsilon: float) -> str:
    return at_most(epsilon, digits=4)


def budget_line(budget: Budget, because: str) -> dict[str, Any]:
    """The entry of a data set's ledger that sets its budget."""
    return {"event": "budget", "budget": budget.model_dump(mode="json"), "because": because}
