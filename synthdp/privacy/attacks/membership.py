"""Who was in? Members told from strangers by the scores of many trainings on halves; figures alone.

A likelihood ratio over shadow trainings (Carlini et al., "Membership Inference Attacks From First
Principles", arXiv 2112.03570, the online attack with one variance for all).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported at their first use
from numpy.typing import NDArray

from synthdp.privacy.accounting.privacy_loss import PrivacyLoss

_REDRAWS = 200


@dataclass(frozen=True)
class MembersFound:
    """How often members are found at a rate of false alarms, by the attack and at most.

    rate: over all members and shadow heads; low, high: its interval at the stated confidence, from
    redrawing patients; alarm: a lower limit that a sound training passes with the stated small
    chance; promised: the bound that the mechanism promises; people: how many false alarms the rate
    means in one head.
    """

    false_alarms: float
    rate: float
    low: float
    high: float
    alarm: float
    promised: float
    people: float

    @property
    def broken(self) -> bool:
        """Whether more are found than any attack can find where the promise is kept."""
        return self.alarm > self.promised


def likelihood_ratios(
    scores: NDArray[np.float64], members: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Log likelihood ratios, in against out, of each head and patient, (S, U).

    Means in and out are those of all other heads; the variance is one for all patients.

    Args:
        scores: (S, U) of S heads and U patients.
        members: (S, U), whose images a head was trained on.
    """

    def mean_of_others(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        # over the heads that are chosen for a patient, the attacked head left out: it may not be
        # judged by what it showed itself
        kept = np.where(chosen, scores, 0.0)
        number = chosen.sum(axis=0) - chosen
        mean: NDArray[np.float64] = (kept.sum(axis=0) - kept) / np.maximum(number, 1)
        return mean

    inside, outside = mean_of_others(members), mean_of_others(~members)
    own = np.where(members, inside, outside)  # one variance of all, about the mean that is true
    variance = max(float(((scores - own) ** 2).mean()), 1e-30)
    # log N(score; inside, variance) - log N(score; outside, variance)
    squares: NDArray[np.float64] = (scores - outside) ** 2 - (scores - inside) ** 2
    return squares / (2 * variance)


def members_found(
    ratios: NDArray[np.float64], members: NDArray[np.bool_], false_alarms: float
) -> float:
    """Share of members whose ratio is above all but a share `false_alarms` of the others'."""
    outside = np.sort(ratios[~members])
    passed = min(int(np.floor(false_alarms * len(outside))), len(outside) - 1)
    return float((ratios[members] > outside[len(outside) - 1 - passed]).mean())


def members_at_rates(
    scores: NDArray[np.float64],
    members: NDArray[np.bool_],
    *,
    promised: PrivacyLoss,
    rates: Sequence[float],
    confidence: float,
    risk: float,
    generator: np.random.Generator,
) -> list[MembersFound]:
    """How many members the likelihood ratio finds at each rate of false alarms.

    Args:
        scores: (S, U), as `likelihood_ratios`.
        members: (S, U), each patient in as many trainings as out.
        promised: what a training costs each patient.
        rates: of false alarms.
        confidence: of the intervals, two-sided, from redrawing patients.
        risk: chance that a sound training is called broken, for each rate.
        generator: draws patients.
    """
    n_units = scores.shape[1]
    ratios = likelihood_ratios(scores, members)
    redrawn = [generator.integers(n_units, size=n_units) for _ in range(_REDRAWS)]
    at_rates = []
    for false_alarms in rates:
        rate = members_found(ratios, members, false_alarms)
        again = [members_found(ratios[:, who], members[:, who], false_alarms) for who in redrawn]
        tails = np.quantile(again, [(1 - confidence) / 2, (1 + confidence) / 2])
        alarm = rate - float(scipy.stats.norm.isf(risk)) * float(np.std(again))
        at_rates.append(
            MembersFound(
                false_alarms=false_alarms,
                rate=rate,
                low=float(tails[0]),
                high=float(tails[1]),
                alarm=alarm,
                promised=promised.true_positive_rate(false_alarms),
                people=false_alarms * n_units / 2,
            )
        )
    return at_rates


def members_of_one_model(
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    *,
    promised: PrivacyLoss,
    rates: Sequence[float],
    confidence: float,
    generator: np.random.Generator,
) -> list[MembersFound]:
    """How many members one threshold finds at each rate of false alarms, from one model's scores.

    Members and strangers are other people, who may differ otherwise too: nothing is called broken.

    Args:
        inside: (M,), scores of members.
        outside: (N,), of strangers.
        promised: what the training cost each member.
        rates: of false alarms.
        confidence: of the intervals, two-sided, from redrawing patients on both sides.
        generator: draws patients.
    """

    def at_rates(of_members: NDArray[np.float64], of_strangers: NDArray[np.float64]) -> list[float]:
        values = np.concatenate([of_members, of_strangers])[None]
        members = np.arange(values.shape[1])[None] < len(of_members)
        return [members_found(values, members, rate) for rate in rates]

    again = np.array(
        [
            at_rates(generator.choice(inside, len(inside)), generator.choice(outside, len(outside)))
            for _ in range(_REDRAWS)
        ]
    )
    tails = np.quantile(again, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return [
        MembersFound(
            false_alarms=rate,
            rate=share,
            low=float(low),
            high=float(high),
            alarm=0.0,
            promised=promised.true_positive_rate(rate),
            people=rate * len(outside),
        )
        for rate, share, low, high in zip(rates, at_rates(inside, outside), *tails, strict=True)
    ]
