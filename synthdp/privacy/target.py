"""What a promise may spend at most: an epsilon at delta, or a risk of being found.

The two are one where all steps are of every unit, since both then bound mu; with samples they are
not, and each is calibrated to by itself.
"""

from dataclasses import dataclass

from synthdp.errors import InputError
from synthdp.privacy.accounting.bounds import epsilon_text, percent
from synthdp.privacy.accounting.gaussian import MAX_MU, gaussian_mu, mu_between
from synthdp.privacy.accounting.privacy_loss import PrivacyLoss
from synthdp.privacy.settings import PrivacySettings, RiskTarget

#: Share taken of a mu, so that rounding on its way to noise and back never spends more.
_SAFE_SIDE = 1 - 1e-9


@dataclass(frozen=True)
class Target:
    """What may be spent in all: either `epsilon` at `delta`, or `risk`.

    delta: at which an epsilon is stated in any case.
    """

    delta: float
    epsilon: float | None = None
    risk: RiskTarget | None = None

    @classmethod
    def of(cls, privacy: PrivacySettings) -> "Target | None":
        """What settings ask for; None where they ask for nothing."""
        if not privacy.protects:
            return None
        return cls(privacy.delta, privacy.epsilon, privacy.risk)

    @property
    def mu(self) -> float:
        """The largest mu of steps of every unit that keeps the target.

        Formula: of a risk, Phi^-1(found) - Phi^-1(false alarms) (Dong, Roth and Su,
        arXiv 1905.02383, equation 6); of an epsilon `gaussian_mu`.

        Guarantee: a release with this mu keeps the target.

        Raises:
            InputError: when no noise is needed or none is enough, or delta is not in (0, 1).
        """
        if self.risk is None:
            assert self.epsilon is not None  # one of the two is given
            return gaussian_mu(self.epsilon, self.delta)
        mu = mu_between(self.risk.false_alarms, self.risk.found) * _SAFE_SIDE
        mu, step = min(mu, MAX_MU), 1 - _SAFE_SIDE
        while not self.kept_by(PrivacyLoss(mu)):
            mu, step = mu * (1 - step), min(2 * step, 0.5)
            if mu < 1e-100:
                raise InputError(f"{self}: no noise is enough; raise found")
        return mu

    def kept_by(self, loss: PrivacyLoss) -> bool:
        """Whether something that costs each unit `loss` keeps the target."""
        if self.risk is None:
            assert self.epsilon is not None  # one of the two is given
            return loss.epsilon(self.delta) <= self.epsilon
        return loss.true_positive_rate(self.risk.false_alarms) <= self.risk.found

    def spent_by(self, loss: PrivacyLoss) -> float:
        """What a loss spends, in a unit in which `limit` is what may be spent.

        Of a risk it is the mu that finds as many members at its false alarms: it falls with noise
        as an epsilon does, where a share of members found ends at chance.
        """
        if self.risk is None:
            return loss.epsilon(self.delta)
        rate = self.risk.false_alarms
        return mu_between(rate, loss.true_positive_rate(rate))

    @property
    def limit(self) -> float:
        """What may be spent, in the unit of `spent_by`."""
        return self.mu if self.risk is not None else float(self.epsilon or 0)

    def spent_words(self, loss: PrivacyLoss) -> str:
        """What a loss spends, in words beside which the target stands."""
        if self.risk is None:
            return f"spent {epsilon_text(loss.epsilon(self.delta))}"
        rate = percent(loss.true_positive_rate(self.risk.false_alarms))
        return f"spent so much that {rate} may be found"

    @property
    def key(self) -> str:
        """The setting that the target was asked for by."""
        return "privacy.epsilon" if self.risk is None else "privacy.risk"

    def __str__(self) -> str:
        return (
            f"privacy.epsilon {self.epsilon:g}"
            if self.risk is None
            else f"privacy.risk ({self.risk})"
        )
