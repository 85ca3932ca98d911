from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import kstest, norm

from synthdp.privacy.keys import new_key
from synthdp.privacy.noisy_sum import noise
from synthdp.privacy.noisy_sum.noise import NoiseKind, NoiseSource, open_noise_source
from synthdp.privacy.settings import PrivacySettings

KEY = bytes(range(32))
SHAPE = (200, 100)
#: What the correlation of so many independent pairs passes with a chance of 1e-9: 6.1 / sqrt(n).
UNRELATED = float(norm.isf(0.5e-9)) / SHAPE[0] ** 0.5 / SHAPE[1] ** 0.5


KINDS: tuple[NoiseKind, ...] = ("philox", "shake256", "discrete")


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_is_the_one_asked_for(kind: NoiseKind) -> None:
    draws = NoiseSource(KEY, kind).gaussian((20_000,), 3e6, stream=0).numpy()
    assert kstest(draws / 3e6, "norm").pvalue > 1e-3
    for wrong in (2e6, 4.5e6):  # two thirds, three halves: the test has the power to see both
        assert kstest(draws / wrong, "norm").pvalue < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_streams_and_keys_are_independent(kind: NoiseKind) -> None:
    def draw(key: bytes, stream: int) -> NDArray[np.float64]:
        drawn = NoiseSource(key, kind).gaussian(SHAPE, 1e6, stream=stream)
        return drawn.numpy().ravel()

    base = draw(KEY, 0)
    for key, stream in ((KEY, 1), (new_key(), 0)):
        assert abs(np.corrcoef(base, draw(key, stream))[0, 1]) < UNRELATED
    assert (draw(KEY, 0) == base).all()


def test_coordinates_are_independent_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_CHUNK", 1000)
    draws = NoiseSource(KEY, "shake256").gaussian((20_000,), 1.0, stream=0).numpy()
    assert kstest(draws, "norm").pvalue > 1e-3
    for lag in (1, 2, 3, 4, 1000):
        assert abs(np.corrcoef(draws[lag:], draws[:-lag])[0, 1]) < 0.03


def test_threads_change_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_CHUNK", 100)
    draws = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        draws.append(NoiseSource(KEY, "shake256").gaussian((1234,), 1.0, stream=5))
    assert torch.equal(*draws)


def test_the_key_is_in_no_text() -> None:
    assert KEY.hex() not in repr(NoiseSource(KEY))
    assert str(KEY) not in repr(NoiseSource(KEY))


def test_each_start_has_a_key_of_its_own_that_no_file_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    privacy = PrivacySettings(noise="philox")
    keys = {open_noise_source(privacy).key for _ in range(3)}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {32}
    assert not list(tmp_path.iterdir())


def test_a_fixed_key_is_a_function_of_the_setting() -> None:
    privacy = [PrivacySettings(fixed_noise_key=key) for key in (1, 1, 2)]
    fixed = [open_noise_source(one).key for one in privacy]
    assert fixed[0] == fixed[1] != fixed[2]
