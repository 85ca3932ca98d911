from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from synthdp.privacy.noise import gaussian_noise, keep_key, new_key

KEY = bytes(range(32))


def test_the_scale_is_the_one_asked_for() -> None:
    draws = gaussian_noise((20_000,), 3.0, key=KEY, stream=0).numpy()
    assert kstest(draws / 3.0, "norm").pvalue > 1e-3
    for wrong in (2.0, 4.5):  # two thirds, three halves: the test has the power to see both
        assert kstest(draws / wrong, "norm").pvalue < 1e-6


def test_streams_and_keys_are_independent() -> None:
    base = gaussian_noise((20_000,), 1.0, key=KEY, stream=0).numpy()
    for key, stream in ((KEY, 1), (new_key(), 0)):
        other = gaussian_noise((20_000,), 1.0, key=key, stream=stream).numpy()
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.03
    again = gaussian_noise((20_000,), 1.0, key=KEY, stream=0).numpy()
    assert (again == base).all()


def test_a_key_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "noise.key"
    key = keep_key(path)
    assert len(key) == 32
    assert keep_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", [b"", b"torn"])
def test_a_torn_key_is_replaced(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "noise.key"
    path.write_bytes(left)
    assert len(keep_key(path)) == 32
