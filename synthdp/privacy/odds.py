"""What an attacker can do against a promise: bounds that hold for the best possible attack."""

from collections.abc import Sequence

from pydantic import Field

from synthdp.config import Settings
from synthdp.privacy.accounting import PrivacyLoss


class Odds(Settings):
    """What an attacker who knows every other patient can do: the best possible attack.

    Computed from the full trade-off curve (`PrivacyLoss.true_positive_rate`,
    `PrivacyLoss.best_accuracy`); a guess with prior 1/N succeeds at most as often as a member is
    found at 1/N false alarms (arXiv 2507.06969).
    """

    found_at_1_percent: float = Field(ge=0, le=1)
    found_at_01_percent: float = Field(ge=0, le=1)
    best_accuracy: float = Field(ge=0, le=1)
    reidentified: float | None = Field(default=None, ge=0, le=1)

    @classmethod
    def of(cls, losses: Sequence[PrivacyLoss], population: int | None) -> "Odds":
        """The odds against the worst protected patient among `population` units."""

        def members_found(false_alarms: float) -> float:
            return max(loss.true_positive_rate(false_alarms) for loss in losses)

        return cls(
            found_at_1_percent=members_found(0.01),
            found_at_01_percent=members_found(0.001),
            best_accuracy=max(loss.best_accuracy for loss in losses),
            reidentified=members_found(1 / population) if population else None,
        )
