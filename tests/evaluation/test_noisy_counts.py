import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from synthdp.evaluation.noisy_counts import (
    BINS,
    auroc_of_counts,
    haar_basis,
    likely_counts,
    logit_at,
    noisy_aurocs,
    released_coefficients,
    unit_counts,
    unit_rows,
)
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource

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


def test_a_row_hangs_on_no_other_to_the_last_bit() -> None:
    owners = np.repeat(np.arange(5), 3)
    rng = np.random.default_rng(0)
    targets, scores = rng.integers(0, 2, (15, 1)).astype(float), rng.random((15, 1))
    everybody = unit_rows(targets, scores, owners)
    for n in range(1, 5):
        some = slice(0, 3 * n)
        assert torch.equal(unit_rows(targets[some], scores[some], owners[some]), everybody[:n])


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
    assert torch.equal(others[[*range(7), *range(8, 40)]], rows[[*range(7), *range(8, 40)]])
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


def clinic(n_patients: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two images a patient whose logits have an AUROC of about 0.7 at a spread of 1."""
    malignant = (rng.random(n_patients) < 0.45).astype(float)
    shift = np.sqrt(2) * norm.ppf(0.7) * (malignant - 0.5)
    logits = (shift + rng.normal(size=n_patients))[:, None] + 0.3 * rng.normal(size=(n_patients, 2))
    ids = [f"p{index}" for index in range(n_patients) for _ in range(2)]
    return malignant.repeat(2), 1 / (1 + np.exp(-logits.ravel())), ids


def test_without_noise_it_is_the_auroc_of_patients_with_weight_one() -> None:
    rng = np.random.default_rng(2)
    targets, scores, ids = clinic(400, rng)
    targets, scores, ids = targets[:-1], scores[:-1], ids[:-1]  # a patient with one image
    _, owners = np.unique(ids, return_inverse=True)
    weights = 1 / np.bincount(owners)[owners]
    exact = roc_auc_score(targets, scores, sample_weight=weights)
    counts = unit_counts(targets, scores, owners).sum(dim=0).double().numpy()
    assert auroc_of_counts(counts) == pytest.approx(exact, abs=0.005)  # 64 bins' ties
    assert auroc_of_counts(counts[::-1]) == pytest.approx(1 - exact, abs=0.005)


def test_the_error_is_what_the_noise_makes_it_and_is_said() -> None:
    rng = np.random.default_rng(3)
    targets, scores, ids = clinic(102, rng)
    exact = roc_auc_score(targets, scores)
    for epsilon, most in ((6.0, 0.035), (20.0, 0.015)):
        mechanism = Mechanism.reaching(epsilon=epsilon, delta=1e-4, steps=1, normaliser=200)
        assert mechanism.steps == 1
        assert mechanism.loss().epsilon(1e-4) == pytest.approx(epsilon, rel=1e-3)
        found = [
            noisy_aurocs(
                targets[:, None],
                scores[:, None],
                ids,
                mechanism=mechanism,
                noise_source=NoiseSource(bytes([draw]) * 32, "philox"),
            ).targets[0]
            for draw in range(100)
        ]
        values = np.array([one.value for one in found])
        said = np.array([one.standard_error for one in found])
        assert values.std() < most
        assert abs(values.mean() - exact) < 0.02
        assert np.median(said) == pytest.approx(values.std(), rel=0.35)  # sd of 100: 7 %


def test_too_much_noise_still_gives_a_number_in_range() -> None:
    targets, scores, ids = clinic(10, np.random.default_rng(4))
    mechanism = Mechanism.reaching(epsilon=0.05, delta=1e-4, steps=1, normaliser=200)
    for draw in range(20):
        source = NoiseSource(bytes([draw]) * 32, "philox")
        (found,) = noisy_aurocs(
            targets[:, None], scores[:, None], ids, mechanism=mechanism, noise_source=source
        ).targets
        assert 0 <= found.value <= 1
        assert found.standard_error > 0.1


def test_a_patient_beyond_the_population_is_not_told_by_a_refusal() -> None:
    targets, scores, ids = clinic(11, np.random.default_rng(5))
    mechanism = Mechanism.reaching(epsilon=6, delta=1e-4, steps=1, normaliser=10)
    source = NoiseSource(b"k" * 32)
    (released,) = noisy_aurocs(
        targets[:, None], scores[:, None], ids, mechanism=mechanism, noise_source=source
    ).targets
    assert 0 <= released.value <= 1


def test_several_targets_share_the_noise_of_one_release() -> None:
    """Each is as noisy as the square root of their number says; a class that is hardly there has
    no part in their mean."""
    rng = np.random.default_rng(6)
    first, scores, ids = clinic(500, rng)
    rare = np.zeros_like(first)
    rare[0] = 1
    targets = np.stack([first, 1 - first, np.full_like(first, np.nan), rare], axis=1)
    four = np.stack([scores, 1 - scores, scores, scores], axis=1)
    mechanism = Mechanism.reaching(epsilon=6, delta=1e-4, steps=1, normaliser=1000)
    found = [
        noisy_aurocs(
            targets,
            four,
            ids,
            mechanism=mechanism,
            noise_source=NoiseSource(bytes([draw]) * 32, "philox"),
        )
        for draw in range(60)
    ]
    assert {one.over for one in found} == {(0, 1)}
    alone = noisy_aurocs(
        targets[:, :1],
        four[:, :1],
        ids,
        mechanism=mechanism,
        noise_source=NoiseSource(b"k" * 32, "philox"),
    ).targets[0]
    values = np.array([[target.value for target in one.targets] for one in found])
    assert values[:, 0].std() == pytest.approx(2 * alone.standard_error, rel=0.4)
    said = np.median([one.targets[0].standard_error for one in found])
    assert said == pytest.approx(values[:, 0].std(), rel=0.35)
    for one, of_draw in zip(found, values, strict=True):
        assert one.macro.value == pytest.approx(of_draw[:2].mean())
        assert ((of_draw >= 0) & (of_draw <= 1)).all()


def test_nothing_that_is_surely_there_gives_no_mean() -> None:
    targets, scores, ids = clinic(10, np.random.default_rng(7))
    two = np.stack([targets, targets], axis=1)
    mechanism = Mechanism.reaching(epsilon=0.05, delta=1e-4, steps=1, normaliser=200)
    source = NoiseSource(b"k" * 32, "philox")
    found = noisy_aurocs(
        two, np.stack([scores, scores], axis=1), ids, mechanism=mechanism, noise_source=source
    )
    assert found.over == ()
    assert np.isnan(found.macro.value)
