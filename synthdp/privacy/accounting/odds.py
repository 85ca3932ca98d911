"""What an attacker can do against a promise: bounds that hold for the best possible attack.

Beside finding members there are three guesses about one patient: who a person is, what is true of
the person, and what the person's image shows. Each is bounded by the same curve: a guess that comes
right blind at some rate comes right no more often than a member is found at that rate of false
alarms (`PrivacyLoss.success`; arXiv 2507.06969). The rates are public and fixed here: an attribute
that is as often true as not, one of ten equally likely values, and an image (or what counts as
the same image) that a blind guess hits once in a million.
"""

from collections.abc import Sequence

from pydantic import Field

from synthdp.config.settings import Settings
from synthdp.privacy.accounting.privacy_loss import PrivacyLoss

#: How often blind guesses come right: of a yes/no attribute that is as often true as not, of one
#: of ten equally likely values, and of an image.
EVEN, ONE_OF_TEN, BLIND_IMAGE = 0.5, 0.1, 1e-6


class Odds(Settings):
    """What an attacker who knows every other patient can do: the best possible attack.

    Computed from the full trade-off curve (`PrivacyLoss.true_positive_rate`, `best_accuracy`,
    `success`). reidentified: of guesses of who somebody is among `population` units; attribute_even
    and attribute_of_ten: of guesses of an attribute that blind come right in 50 % and 10 %;
    reconstructed: of guesses of an image that blind come right once in a million; gain: how much
    more often than blind any guess about a unit comes right, in shares of guesses. The last four
    are None in statements before version 3.

    Guarantee: upper bounds, each rounded up.
    """

    found_at_1_percent: float = Field(ge=0, le=1)
    found_at_01_percent: float = Field(ge=0, le=1)
    best_accuracy: float = Field(ge=0, le=1)
    reidentified: float | None = Field(default=None, ge=0, le=1)
    attribute_even: float | None = Field(default=None, ge=0, le=1)
    attribute_of_ten: float | None = Field(default=None, ge=0, le=1)
    reconstructed: float | None = Field(default=None, ge=0, le=1)
    gain: float | None = Field(default=None, ge=0, le=1)

    @classmethod
    def of(cls, losses: Sequence[PrivacyLoss], population: int | None) -> "Odds":
        """The odds against the worst protected patient among `population` units."""

        def members_found(false_alarms: float) -> float:
            return max(loss.true_positive_rate(false_alarms) for loss in losses)

        def success(blind: float) -> float:
            return max(loss.success(blind) for loss in losses)

        return cls(
            found_at_1_percent=members_found(0.01),
            found_at_01_percent=members_found(0.001),
            best_accuracy=max(loss.best_accuracy for loss in losses),
            reidentified=success(1 / population) if population else None,
            attribute_even=success(EVEN),
            attribute_of_ten=success(ONE_OF_TEN),
            reconstructed=success(BLIND_IMAGE),
            gain=max(loss.gain for loss in losses),
        )
