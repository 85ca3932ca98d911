"""Who takes part in a step: all units, or a Poisson sample of them."""

import hmac
from collections.abc import Sequence

import torch
from torch import Tensor

from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource

_BITS = 64


def sampled_units(
    mechanism: Mechanism, tags: Sequence[bytes], noise_source: NoiseSource, step: int
) -> Tensor:
    """The units that take part in a step; there may be none.

    Args:
        mechanism: its sampling rate.
        tags: one name a unit, secret and different for each, such as a keyed digest of its id.
        noise_source: the run's secret key.
        step: the number of the step.

    Returns:
        (K,) int64, indices into `tags`, ascending.

    Guarantee: at rate 1 everybody; below, each unit with that probability, independently of all
    others, as far as HMAC-SHA-256 is a random function. Whether a unit is drawn does not depend on
    who else is there.
    """
    if mechanism.sampling_rate == 1.0:
        return torch.arange(len(tags))
    keyed = hmac.new(noise_source.key, f"sample {step} ".encode(), "sha256")
    below = int(mechanism.sampling_rate * 2**_BITS)

    def drawn(tag: bytes) -> bool:
        digest = keyed.copy()
        digest.update(tag)
        return int.from_bytes(digest.digest()[: _BITS // 8], "big") < below

    indices = [index for index, tag in enumerate(tags) if drawn(tag)]
    return torch.tensor(indices, dtype=torch.int64)
