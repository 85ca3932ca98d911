import hmac

import numpy as np
import pytest
from scipy.stats import binomtest

from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.noisy_sum.sampling import sampled_units

SOURCE = NoiseSource(bytes(range(32)))
TAGS = [f"patient {n}".encode() for n in range(200)]


def mechanism(rate: float) -> Mechanism:
    return Mechanism(sampling_rate=rate, noise_multiplier=1.0, steps=100, normaliser=20.0)


def drawn(tags: list[bytes], rate: float, step: int) -> list[bytes]:
    return [tags[index] for index in sampled_units(mechanism(rate), tags, SOURCE, step)]


def test_at_rate_1_everybody_takes_part() -> None:
    assert sampled_units(mechanism(1.0), TAGS, SOURCE, 3).tolist() == list(range(200))


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.9])
def test_each_unit_is_drawn_at_the_rate(rate: float) -> None:
    steps = [drawn(TAGS, rate, step) for step in range(100)]
    count = sum(len(step) for step in steps)
    assert binomtest(count, 100 * 200, rate).pvalue > 1e-4
    assert binomtest(count, 100 * 200, rate * 0.9).pvalue < 0.05 or rate == 0.01
    assert np.var([len(step) for step in steps]) < 200 * 2 * rate  # no lock step of all units


def test_a_neighbour_moves_nobody_else() -> None:
    without = TAGS[:7] + TAGS[8:]
    for step in range(50):
        expected = [tag for tag in drawn(TAGS, 0.3, step) if tag != TAGS[7]]
        assert drawn(without, 0.3, step) == expected


def test_steps_and_keys_draw_anew() -> None:
    assert drawn(TAGS, 0.5, 0) != drawn(TAGS, 0.5, 1)
    other = sampled_units(mechanism(0.5), TAGS, NoiseSource(bytes(32)), 0)
    assert [TAGS[index] for index in other] != drawn(TAGS, 0.5, 0)


def test_an_empty_sample_is_one() -> None:
    assert sampled_units(mechanism(0.5), [], SOURCE, 0).shape == (0,)
    assert any(len(drawn(TAGS[:3], 0.01, step)) == 0 for step in range(20))


@pytest.mark.parametrize("key", [bytes(range(32)), b"short", bytes(range(100))])
def test_who_is_drawn_is_decided_by_hmac_sha_256(key: bytes) -> None:
    source = NoiseSource(key)
    for step in (0, 7, 12345):
        for rate in (0.01, 0.3, 1 - 2**-40):
            digests = [hmac.digest(key, b"sample %d " % step + tag, "sha256") for tag in TAGS]
            below = int(rate * 2**64)
            expected = [
                index
                for index, digest in enumerate(digests)
                if int.from_bytes(digest[:8], "big") < below
            ]
            assert sampled_units(mechanism(rate), TAGS, source, step).tolist() == expected
