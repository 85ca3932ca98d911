"""Public shares of positives: how much a positive weighs, and where a head starts.

Weights from counts of the patients would be a release of their own. A public share, such as a
registry's, costs nothing: positives of a target of share p weigh (1 - p) / p, so that both classes
weigh alike in the mean, but at most `MOST_WEIGHT`, since patients are clipped: a larger weight
would take from all other targets of a patient what it adds to this one.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

MOST_WEIGHT = 10.0


def positive_weights(prior: Mapping[str, float] | None, targets: Sequence[str]) -> Tensor | None:
    """What the loss of a positive is multiplied by, (T,) float32; None without a prior.

    >>> positive_weights({"effusion": 0.2, "hernia": 0.001}, ["effusion", "mass", "hernia"])
    tensor([ 4.,  1., 10.])
    >>> positive_weights(None, ["effusion"]) is None
    True
    """
    if prior is None:
        return None
    return torch.tensor([_weight(prior.get(name)) for name in targets])


def start_bias(prior: Mapping[str, float] | None, targets: Sequence[str]) -> Tensor:
    """The bias, (T,) float32, at which positives and negatives, as weighed, are as expected.

    It is the logarithm of the weighed odds: 0 where the weight is not held at its most, and of a
    target without a share.

    >>> start_bias({"effusion": 0.2}, ["effusion", "mass"])
    tensor([0., 0.])
    """
    return torch.tensor([_bias((prior or {}).get(name)) for name in targets])


def _weight(share: float | None) -> float:
    return 1.0 if share is None else min((1 - share) / share, MOST_WEIGHT)


def _bias(share: float | None) -> float:
    return 0.0 if share is None else math.log(_weight(share) * share / (1 - share))
