"""The public numbers of one release, and what they are worth.

>>> mechanism = Mechanism.reaching(epsilon=6.0, delta=1e-4, steps=60, normaliser=600)
>>> round(mechanism.noise_multiplier, 3)
5.307
>>> round(mechanism.loss().epsilon(1e-4), 2)
6.0
"""

import math

from pydantic import Field

from synthdp.config.settings import Settings
from synthdp.errors import InputError
from synthdp.privacy.accounting.privacy_loss import NO_LOSS, PrivacyLoss, noise_for
from synthdp.privacy.accounting.sampled_step import SampledSteps
from synthdp.privacy.settings import RiskTarget
from synthdp.privacy.target import Target
from synthdp.privacy.units import Unit

#: Share of the target's mu from which on what is left is rounding alone.
_NOTHING_LEFT = 1 - 1e-6
#: The most noise, in clip norms: 64 standard deviations of it do not wrap around on a lattice.
MOST_NOISE = 2.0**16


class Mechanism(Settings):
    """One Gaussian release over `steps` steps: all of it public, none of it read from the data.

    A step draws each unit with probability `sampling_rate`, sums the drawn units' vectors, each
    clipped to `clip_norm`, adds Gaussian noise of standard deviation `noise_multiplier *
    clip_norm` to each coordinate, and divides by `normaliser`.

    Guarantee: with add/remove neighbours, the whole costs a unit `loss()`; with `sampling_rate` 1
    that is a mu-Gaussian release with mu = sqrt(steps) / noise_multiplier.

    >>> mechanism = Mechanism.reaching(epsilon=6, delta=1e-4, steps=100, normaliser=600)
    >>> mechanism.loss().epsilon(1e-4) <= 6
    True
    """

    unit: Unit = "patient"
    sampling_rate: float = Field(default=1.0, gt=0, le=1)
    noise_multiplier: float = Field(ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    steps: int = Field(ge=1)
    normaliser: float = Field(gt=0)

    @classmethod
    def reaching(
        cls,
        *,
        epsilon: float | None = None,
        risk: RiskTarget | None = None,
        delta: float,
        steps: int,
        normaliser: float,
        sampling_rate: float = 1.0,
        before: PrivacyLoss = NO_LOSS,
        clip_norm: float = 1.0,
        unit: Unit = "patient",
    ) -> "Mechanism":
        """The mechanism that, after `before` on the same units, ends at `epsilon` or at `risk`.

        One of the two is given. `before` is taken off exactly where all of it and all of this are
        steps of every unit (in mu squared), by composed privacy loss distributions elsewhere: for a
        risk at its own point of the trade-off curve, whatever their epsilon.

        Guarantee: `before` and the result together never exceed (epsilon, delta), or never let more
        members be found than the risk says. Their epsilon is within 0.1 % of the target, or the mu
        that finds as many members is.

        Raises:
            InputError: when `before` has spent the target already.
        """
        assert (epsilon is None) != (risk is None)
        base = cls(
            unit=unit,
            sampling_rate=sampling_rate,
            noise_multiplier=1.0,
            clip_norm=clip_norm,
            steps=steps,
            normaliser=normaliser,
        )
        target = Target(delta, epsilon, risk)
        of_all = target.mu
        spent_already = target.spent_by(before) >= target.limit
        if spent_already or (not before.sampled and before.mu >= of_all * _NOTHING_LEFT):
            asked = f"{epsilon:g}" if risk is None else str(risk)
            raise InputError(
                f"{target.key} is {asked}, but what this starts from has "
                f"{target.spent_words(before)} already; raise it, or start from something that "
                "spent less"
            )
        if sampling_rate == 1.0 and not before.sampled:
            mu = math.sqrt(of_all**2 - before.mu**2)
            return base.with_noise(math.sqrt(steps) / mu)

        def spent_at(noise_multiplier: float) -> float:
            return target.spent_by(before.with_loss(base.with_noise(noise_multiplier).loss()))

        left = math.sqrt(max(of_all**2 - before.mu**2, 1e-4))
        guess = sampling_rate * math.sqrt(steps) / left
        return base.with_noise(noise_for(target.limit, spent_at, guess=guess, asked=str(target)))

    def with_noise(self, noise_multiplier: float) -> "Mechanism":
        """The same release under another noise multiplier."""
        return self.model_copy(update={"noise_multiplier": noise_multiplier})

    def loss(self, steps: int | None = None) -> PrivacyLoss:
        """What the first `steps` steps cost each unit; all of them by default."""
        taken = self.steps if steps is None else steps
        if taken == 0:
            return NO_LOSS
        if self.noise_multiplier == 0:
            return PrivacyLoss(mu=math.inf)
        if self.sampling_rate == 1.0:
            return PrivacyLoss(mu=math.sqrt(taken) / self.noise_multiplier)
        part = SampledSteps(self.noise_multiplier, self.sampling_rate, taken)
        return PrivacyLoss(sampled=(part,))

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise on each coordinate of a step's sum."""
        return self.noise_multiplier * self.clip_norm

    @property
    def mu(self) -> float:
        """Signal-to-noise of the whole release, without credit for sampling."""
        return self.mu_of(self.steps)

    def mu_of(self, steps: int) -> float:
        """Signal-to-noise of the first `steps` steps: for `sampling_rate` 1 their exact cost.

        Guarantee: with sampling an upper bound, since a unit that takes part less often shows less.
        """
        if steps == 0:
            return 0.0
        if self.noise_multiplier == 0:
            return math.inf
        return math.sqrt(steps) / self.noise_multiplier


def refuse_too_much_noise(mechanism: Mechanism) -> None:
    """Refuse a mechanism whose noise is more than a lattice holds (`privacy.noisy_sum.lattice`).

    A plan asks before anything is spent (`synthdp.privacy.promise.plan`).

    Raises:
        InputError: when it is; with so much noise nothing is learnt.
    """
    if mechanism.noise_multiplier > MOST_NOISE:
        raise InputError(
            f"a noise multiplier of {mechanism.noise_multiplier:.3g} is beyond all use; raise "
            "privacy.epsilon or privacy.delta, or take fewer steps"
        )
