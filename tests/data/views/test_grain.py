import numpy as np
import pytest

from synthdp.data.views.grain import with_grain


def flat(value: float = 0.0, n: int = 40) -> list[np.ndarray]:
    """Images of one grey each, all different."""
    return [np.full((32, 32), value + index / 1e4, np.float32) for index in range(n)]


def test_the_sizes_fill_the_range_and_no_more() -> None:
    shares = np.array([float(with_grain(one, 0.08).std()) / 2 for one in flat()])
    assert shares.max() <= 0.085
    assert shares.min() < 0.012
    assert shares.mean() == pytest.approx(0.04, rel=0.25)


def test_a_copy_is_a_function_of_its_image_alone() -> None:
    one, other = flat(n=2)
    assert np.array_equal(with_grain(one, 0.08), with_grain(one.copy(), 0.08))
    assert not np.allclose(with_grain(one, 0.08) - one, with_grain(other, 0.08) - other, atol=1e-3)
    assert not np.allclose(with_grain(one, 0.08), with_grain(one, 0.09), atol=1e-3)


def test_what_leaves_the_range_is_held_at_its_end() -> None:
    ends = [with_grain(one, 0.2) for value in (-1, 1) for one in flat(value, 5)]
    assert min(one.min() for one in ends) == -1
    assert max(one.max() for one in ends) == 1
    assert all(one.dtype == np.float32 for one in ends)
