"""Who takes part in a step: all units, or a Poisson sample of them."""

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource

_BYTES = 8
_BLOCK_BYTES, _INNER, _OUTER = 64, 0x36, 0x5C


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
    # the first bytes of a digest are a uniform number: a unit takes part where it is below the
    # rate's share of 2^64
    below = int(mechanism.sampling_rate * 2 ** (8 * _BYTES)).to_bytes(_BYTES, "big")
    digest = _keyed(noise_source.key, f"sample {step} ".encode())
    indices = [index for index, tag in enumerate(tags) if digest(tag)[:_BYTES] < below]
    return torch.tensor(indices, dtype=torch.int64)


def _keyed(key: bytes, prefix: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA-256 of a prefix and what is given.

    Written out as RFC 2104 has it: `hmac` takes more than twice the time for each of many short
    messages, and in each step everybody's is asked for.
    """
    short = key if len(key) <= _BLOCK_BYTES else hashlib.sha256(key).digest()
    padded = short.ljust(_BLOCK_BYTES, b"\0")
    inner = hashlib.sha256(bytes(byte ^ _INNER for byte in padded) + prefix)
    outer = hashlib.sha256(bytes(byte ^ _OUTER for byte in padded))

    def digest(message: bytes) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(message)
        second.update(first.digest())
        return second.digest()

    return digest
