"""One bounded vector a patient for all findings, what it says of them, and what is made of it."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import clinic_set
from pydantic import ValidationError

from gan.methods.embedding import DIRECTIONS
from gan.methods.release import SUMS_FILE
from gan.plans.train import plan_train_gan
from gan.private.embedding import (
    Matching,
    fit_public_features,
    matched_findings,
    released_sums,
)
from gan.private.findings import FindingMeans, finding_means, finding_vectors
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training.guidance import BinnedSpectrum
from synthdp.checkpoint import load_weights
from synthdp.cli import EXIT_DONE, main
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.networks.frozen import build_pyramid
from synthdp.networks.settings import BackboneSettings
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource

RANDOM_NET = BackboneSettings(name="test_efficientnet", size_px=32)
TARGETS = ("bright", "disc", "stripe")
SHARES = (0.3, 0.2, 0.5)
CONSTANT = 0.25
TinySettings = Callable[..., TrainGanSettings]


def patients_of_findings(
    n: int, *, unknown: float = 0.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (n, 9) of norm 1, led by a constant, which findings move; and their labels (n, 3)."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, 3, generator=generator) < torch.tensor([0.25, 0.1, 0.45])).long()
    moves = 0.5 * torch.randn(3, 8, generator=generator)
    rest = torch.randn(n, 8, generator=generator) + labels.float() @ moves
    rest = math.sqrt(1 - CONSTANT**2) * torch.nn.functional.normalize(rest, dim=1)
    labels[torch.rand(n, 3, generator=generator) < unknown] = -1
    return torch.cat([torch.full((n, 1), CONSTANT), rest], dim=1), labels


def test_a_patient_moves_the_sum_by_at_most_one_and_nobody_elses_bits() -> None:
    vectors, labels = patients_of_findings(40, unknown=0.2)
    vectors[:12], labels[:12] = vectors[0], 1  # one patient with twelve images of every finding
    labels[12:14] = -1  # and one of whom nothing is known
    units = torch.cat([torch.zeros(12), torch.ones(2), torch.arange(2, 28)]).long()
    whole = finding_vectors(vectors, labels, units, 28, SHARES)
    assert whole.shape == (28, 4 * 9 + 3)
    assert whole.double().norm(dim=1).max() <= 1 + 1e-6
    assert whole[0].norm() > 0.95
    for gone in (0, 1, 7):
        kept = units != gone
        others = units[kept] - (units[kept] > gone).long()
        rows = finding_vectors(vectors[kept], labels[kept], others, 27, SHARES)
        assert torch.equal(rows, torch.cat([whole[:gone], whole[gone + 1 :]]))


def test_an_unknown_label_adds_nothing_to_its_finding_and_leaves_the_others() -> None:
    vectors, labels = patients_of_findings(10)
    labels[:, 0] = 0
    masked = labels.clone()
    masked[:, 1] = -1
    rows, fewer = (
        finding_vectors(vectors, one, torch.arange(10), 10, SHARES) for one in (labels, masked)
    )
    assert torch.equal(fewer[:, 18:27], torch.zeros(10, 9))
    assert torch.equal(fewer[:, -2], torch.zeros(10))
    few = (labels == 1).sum(dim=1) < 2  # not scaled by what it has
    assert torch.equal(rows[few][:, :18], fewer[few][:, :18])
    assert fewer.norm(dim=1).max() <= 1


@pytest.mark.parametrize("unknown", [0.0, 0.4])
def test_means_of_each_finding_come_out_again(unknown: float) -> None:
    vectors, labels = patients_of_findings(20_000, unknown=unknown)
    rows = finding_vectors(vectors, labels, torch.arange(20_000), 20_000, SHARES)
    # a third of the declared patients are not there
    sums = rows.sum(dim=0) / 30_000
    means = finding_means(sums, None, shares=SHARES, constant=CONSTANT)
    assert (means.whole - vectors[:, 1:].mean(dim=0)).norm() < 0.02
    for finding in range(3):
        having, without = (vectors[labels[:, finding] == one, 1:].mean(dim=0) for one in (1, 0))
        assert (means.differences[finding] - (having - without)).norm() < 0.03
        known = labels[:, finding] >= 0
        share = (labels[known, finding] == 1).double().mean().item()
        assert means.shares[finding].item() == pytest.approx(share, rel=0.08)
    assert (means.whole_deviation, means.deviations.tolist()) == (0, [0, 0, 0])


def test_the_deviations_are_those_of_the_noise() -> None:
    vectors, labels = patients_of_findings(600)
    rows = finding_vectors(vectors, labels, torch.arange(600), 600, SHARES)
    mechanism = Mechanism(noise_multiplier=0.5, steps=1, normaliser=800)
    plain = finding_means(rows.sum(dim=0) / 800, None, shares=SHARES, constant=CONSTANT)
    off, said = [], None
    for number in range(60):
        noise = NoiseSource(bytes([number]) * 32)
        sums = released_sums(rows, mechanism=mechanism, noise_source=noise)
        said = finding_means(sums, mechanism, shares=SHARES, constant=CONSTANT)
        off.append(said.differences - plain.differences)
    assert said is not None
    # 480 draws each, of fixed keys; what noise in a rare finding's share does is not said
    assert torch.allclose(torch.stack(off).std(dim=(0, 2)), said.deviations, rtol=0.3)
    drowned = finding_means(-rows.sum(dim=0), mechanism, shares=SHARES, constant=CONSTANT)
    assert all(
        torch.isfinite(part).all() for part in (drowned.whole, drowned.differences, drowned.shares)
    )
    assert ((drowned.shares > 0) & (drowned.shares < 1)).all()


def test_both_classes_of_a_finding_lie_about_the_mean_of_all() -> None:
    means = FindingMeans(
        whole=torch.tensor([1.0, 0.0]),
        whole_deviation=torch.tensor(0.0),
        differences=torch.tensor([[0.0, 2.0], [0.01, 0.0]]),
        deviations=torch.tensor([0.0, 1.0]),
        shares=torch.tensor([0.25, 0.5]),
    )
    matched = matched_findings(means, separation=2)
    assert torch.allclose(matched[:2], torch.tensor([[1.0, -1.0], [1.0, 3.0]]))
    assert torch.equal(matched[2:], torch.tensor([[1.0, 0.0]] * 2))  # noise alone is shrunk away


def test_features_along_public_directions_have_norm_one_and_few_numbers() -> None:
    images = torch.rand(12, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    about = (build_pyramid(RANDOM_NET, 32), BinnedSpectrum(32, torch.device("cpu")), images)
    features = fit_public_features(*about, constant=CONSTANT, components=5)
    assert features(images).shape == (12, 6)
    assert torch.allclose(features(images).norm(dim=1), torch.ones(12), atol=1e-5)
    directions = features.directions
    assert directions is not None
    assert torch.allclose(directions @ directions.T, torch.eye(5), atol=1e-4)
    with pytest.raises(InputError, match=r"components: 12 are asked for.*lower it"):
        fit_public_features(*about, constant=CONSTANT, components=12)


def test_matching_moves_each_finding_to_what_was_released() -> None:
    """Images of a row of numbers, whose features are these: all and each finding move them."""
    target = torch.tensor([[0.0, 0.2], [0.6, 0.2], [0.1, 0.0], [0.1, 0.8]])
    matching = Matching(lambda images: images[:, 0, 0], target)  # type: ignore[arg-type]
    middle, moved = torch.zeros(2, requires_grad=True), torch.zeros(2, 2, requires_grad=True)
    optimiser = torch.optim.Adam([middle, moved], lr=0.004)
    generator = torch.Generator().manual_seed(0)
    for _ in range(800):
        labels = (torch.rand(32, 2, generator=generator) < torch.tensor([0.2, 0.3])).long()
        drawn = middle + labels.float() @ moved + 0.1 * torch.randn(32, 2, generator=generator)
        rows = torch.cat([torch.full((32, 1), CONSTANT), drawn], dim=1)
        loss, gap = matching.loss(rows[:, None, None], torch.empty(0), torch.empty(0), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert gap < 0.3
    assert torch.allclose(moved.detach(), torch.tensor([[0.6, 0.0], [0.0, 0.8]]), atol=0.15)


# A whole run.


def set_of_findings(out: Path, *, seed: int = 0, without: str = "", as_real: bool = False) -> Path:
    """Patients of one to three images with any of three findings; one in eight is unknown."""
    rng = np.random.default_rng(seed)
    info = DatasetInfo(name="clinic", kind="phantom", size_px=32, targets=TARGETS, as_real=as_real)
    rows, columns = np.mgrid[:32, :32] - 15.5
    with create_dataset(out, info) as writer:
        for patient in range(20):
            for _ in range(1 + patient % 3):
                has = rng.random(3) < 0.4
                grey = 60 + 60 * has[0] + 60 * has[1] * (np.hypot(rows, columns) < 7)
                grey = grey + 60 * has[2] * (np.abs(rows + 10) < 2) + rng.normal(0, 4, (32, 32))
                labels = [float(one) if rng.random() < 0.875 else math.nan for one in has]
                if f"p{patient}" != without:
                    writer.add(
                        np.clip(grey, 0, 255).astype(np.uint8),
                        patient_id=f"p{patient}",
                        split="train",
                        targets=labels,
                    )
    return out


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return set_of_findings(tmp_path_factory.mktemp("public") / "set", seed=1)


@pytest.fixture
def private(public: Path, tiny_settings: TinySettings) -> TinySettings:
    def settings(data: Path, out: Path, **changes: object) -> TrainGanSettings:
        about: dict[str, object] = {
            "method": "embedding",
            "privacy": {"epsilon": 6.0, "population": 30, "delta": 1e-3},
            "embedding": {"features": RANDOM_NET, "public": public, "components": 6},
            "findings": dict(zip(TARGETS, SHARES, strict=True)),
            "kimg": 0.04,
        }
        return tiny_settings(data, out, **{**about, **changes})

    return settings


@pytest.fixture
def run(private: TinySettings, tmp_path: Path) -> Path:
    data = set_of_findings(tmp_path / "clinic", as_real=True)
    return run_train_gan(private(data, tmp_path / "run"))


def test_a_run_releases_once_states_it_and_is_drawn_from_audited_and_repeated(run: Path) -> None:
    kept = load_weights(run / "private" / SUMS_FILE)
    assert kept["sums"].shape == (4 * 7 + 3,)
    assert kept[DIRECTIONS].shape[0] == 6
    ledger = open_dataset(run.parent / "clinic").ledger_path
    (release,) = recorded_releases(ledger)
    assert release.mechanism is not None
    assert release.mechanism.steps == 1
    out = run.parent / "drawn"
    assert main(["generate", str(run), "--out", str(out), "--total", "40"]) == EXIT_DONE
    made = open_dataset(out)
    assert made.info.targets == TARGETS
    labels = np.array([row.targets for row in made.rows])
    assert set(np.unique(labels)) == {0, 1}
    few = ["canaries=100", "runs=20", "shadows=8", "replayed=1"]
    assert main(["audit", str(run), *few]) == EXIT_DONE
    assert [one.id for one in recorded_releases(ledger)] == [release.id]


def test_without_public_shares_or_with_certain_ones_it_is_refused(
    private: TinySettings, public: Path, tmp_path: Path
) -> None:
    data = set_of_findings(tmp_path / "clinic", as_real=True)
    for changes, told in (
        ({"findings": None}, r"findings: method: embedding draws 3 findings.*findings_table"),
        ({"findings": {"bright": 0.2}}, "findings: disc, stripe: give a share"),
        ({"findings": dict.fromkeys(TARGETS, 0.0)}, "bright, disc, stripe.*between 0 and 1"),
        (
            {"method": "dp_discriminator", "loss": "non_saturating",
             "dp_discriminator": {"channels": (8, 8, 8)}},
            "method: dp_discriminator knows one target, not 3",
        ),
    ):  # fmt: skip
        with pytest.raises(InputError, match=told):
            plan_train_gan(private(data, tmp_path / "run", **changes))
    table = {"table": public / "manifest.csv"}
    with pytest.raises(ValidationError, match="table_is_public: true of a published one"):
        private(data, tmp_path / "run", findings=None, findings_table=table)
    own = {"table": data / "manifest.csv", "table_is_public": True}
    with pytest.raises(InputError, match="is one of the patients of the data set clinic"):
        plan_train_gan(private(data, tmp_path / "run", findings=None, findings_table=own))
    seen = Release(id="0" * 16, stage="train-gan", data="clinic", mu=math.inf, note="no noise")
    of_patients = Lineage(releases=(seen,))
    drawn = clinic_set(tmp_path / "drawn", "synthetic", lineage=of_patients) / "manifest.csv"
    made = {"table": drawn, "table_is_public": True}
    with pytest.raises(InputError, match="the set drawn, which was made from patients"):
        plan_train_gan(private(data, tmp_path / "run", findings=None, findings_table=made))


def test_a_public_table_gives_the_shares_and_stands_in_the_statement(
    private: TinySettings, public: Path, tmp_path: Path
) -> None:
    data = set_of_findings(tmp_path / "clinic", as_real=True)
    table = {"table": public / "manifest.csv", "table_is_public": True}
    settings = private(data, tmp_path / "run", findings=None, findings_table=table, kimg=0.008)
    assert "manifest" in plan_train_gan(settings).lineage.public
    assert run_train_gan(settings) == settings.out
    assert "manifest, whose patients are not protected" in (settings.out / "card.md").read_text()
