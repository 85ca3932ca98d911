import numpy as np
import pytest
import torch

from synthdp.evaluation.noisy_counts import (
    BINS,
    haar_basis,
    likely_counts,
    logit_at,
    released_coefficients,
    unit_counts,
    unit_rows,
)
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import NoiseSource

UNKNOWN = float("nan")


def test_one_patient_moves_the_coefficients_by_at_most_one() -> None:
    rng = np.random.default_rng(0)
    basis = haar_basis()
    concentrated = np.zeros((2, BINS))
    concentrated[1, 17] = 1
    spread = rng.dirichlet(np.full(2 * BINS, 0.05), size=2000).reshape(-1, 2, BINS)
    norms = np.linalg.norm((spread @ basis.T).reshape(len(spread), -1), axis=1)
    assert norms.max() <= 1 + 1e-12
    assert np.linalg.norm(concentrated @ basis.T) == pytest.approx(1)  # the bound is met
    assert np.linalg.matrix_rank(basis) == BINS


@pytest.mark.parametrize("gone", ["few", "many", "mixed", "odd", "unknown"])
def test_neighbours_differ_by_one_bounded_row(gone: str) -> None:
    ids = [*["few"], *["many"] * 500, *["mixed"] * 7, *["odd"] * 3, *["unknown"] * 2, "stays"]
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, len(ids)).astype(float)
    targets[[index for index, name in enumerate(ids) if name == "unknown"]] = UNKNOWN
    scores = rng.random(len(ids))
    scores[-4:-1] = (0.0, 1.0, 0.5)
    scores[ids.index("odd")] = UNKNOWN
    left = [index for index, name in enumerate(ids) if name != gone]
    totals = []
    for chosen in (list(range(len(ids))), left):
        _, owners = np.unique([ids[index] for index in chosen], return_inverse=True)
        counts = unit_counts(targets[chosen], scores[chosen], owners)
        assert bool((counts >= 0).all())
        assert float(counts.sum(dim=(1, 2)).max()) <= 1 + 1e-5
        totals.append((counts.double() @ torch.from_numpy(haar_basis().T)).sum(dim=0))
    moved = float(torch.linalg.vector_norm(totals[0] - totals[1]))
    assert moved <= 1 + 1e-5
    assert (moved == 0) == (gone == "unknown")


def test_bins_tell_scores_apart_on_any_scale() -> None:
    for spread in (0.3, 1.0, 10.0):
        logits = torch.linspace(-spread, spread, 101).double()
        counts = unit_counts(np.ones(101), torch.sigmoid(logits).numpy(), np.arange(101))
        assert int((counts.sum(dim=(0, 1)) > 0).sum()) >= 12


@pytest.mark.parametrize("n_targets", [1, 3])
def test_all_targets_together_move_by_at_most_one(n_targets: int) -> None:
    rng = np.random.default_rng(2)
    owners = np.repeat(np.arange(40), rng.integers(1, 5, 40))
    targets = rng.integers(0, 2, (len(owners), n_targets)).astype(float)
    targets[rng.random(targets.shape) < 0.2] = UNKNOWN
    scores = rng.random(targets.shape)
    rows = unit_rows(targets, scores, owners)
    assert rows.shape == (40, n_targets * 2 * BINS)
    assert float(torch.linalg.vector_norm(rows, dim=1).max()) <= 1 + 1e-5
    kept = owners != 7
    others = unit_rows(targets[kept], scores[kept], owners[kept])
    moved = rows.sum(dim=0) - others.sum(dim=0)
    assert float(torch.linalg.vector_norm(moved)) <= 1 + 1e-4
    alone = unit_rows(np.ones((1, n_targets)), np.full((1, n_targets), 0.3), np.array([0]))
    assert float(torch.linalg.vector_norm(alone)) == pytest.approx(1)  # the bound is met


def test_little_noise_gives_the_counts_back() -> None:
    rng = np.random.default_rng(3)
    targets = rng.integers(0, 2, (200, 2)).astype(float)
    scores = rng.random((200, 2))
    ids = [f"p{index // 2}" for index in range(200)]
    mechanism = Mechanism(noise_multiplier=1e-6, steps=1, normaliser=500)
    found = released_coefficients(
        targets, scores, ids, mechanism=mechanism, noise_source=NoiseSource(b"k" * 32, "philox")
    )
    owners = np.arange(200) // 2
    for index in range(2):
        counts = unit_counts(targets[:, index], scores[:, index], owners).sum(dim=0).numpy()
        assert likely_counts(found[index]) == pytest.approx(counts, abs=1e-2)


def test_likely_counts_leave_little_of_the_noise() -> None:
    rng = np.random.default_rng(4)
    true = np.zeros((300, BINS))
    true[:, 25:35] = 10
    noisy = true @ haar_basis().T + rng.normal(size=true.shape)
    found = likely_counts(noisy)
    assert found.min() >= 0
    clamped = np.maximum(noisy @ np.linalg.inv(haar_basis()).T, 0)
    empty = true[0] == 0
    assert found[:, empty].sum(axis=1).mean() < clamped[:, empty].sum(axis=1).mean() / 4
    assert found.sum(axis=1).mean() == pytest.approx(100, abs=6)


def test_hopeless_noise_gives_finite_counts() -> None:
    rng = np.random.default_rng(5)
    for scale in (1e3, 1e8):
        found = likely_counts(scale * rng.normal(size=(20, 2, BINS)))
        assert found.shape == (20, 2, BINS)
        assert np.isfinite(found).all()
        assert found.min() >= 0


def test_a_place_is_where_its_logit_is_counted() -> None:
    place = (np.arange(BINS) + 0.5) / BINS
    scores = 1 / (1 + np.exp(-logit_at(place)))
    counts = unit_counts(np.ones(BINS), scores, np.arange(BINS))[:, 1]
    inner = slice(1, -1)  # scores near 1 are cut by rounding
    assert bool((counts.argmax(dim=1) == torch.arange(BINS))[inner].all())
