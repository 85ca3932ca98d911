"""The audit of an embedding's release: sound it passes, and each planted fault is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import clinic_set
from torch import Tensor

from gan.auditing.canaries import broken_promise, many_runs, one_run
from gan.auditing.declared import declared_sum
from gan.auditing.membership import membership
from gan.auditing.replay import replay
from gan.auditing.subject import EmbeddingSubject
from gan.methods.release import SUMS_FILE
from gan.private import embedding
from gan.private.condition_means import ConditionPart, value_vectors
from gan.private.embedding import fit_public_features
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training.examples import Examples
from gan.training.guidance import BinnedSpectrum
from synthdp.checkpoint import load_weights, save_weights
from synthdp.cli import main
from synthdp.networks.frozen import build_pyramid
from synthdp.networks.settings import BackboneSettings
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum import lattice
from synthdp.privacy.noisy_sum.noise import NoiseSource

RANDOM_NET = BackboneSettings(name="test_efficientnet", size_px=32)
RISK = 1e-5
#: What a run itself released, under a key that nobody knows, is held against its noise too: at the
#: default one audit in 8000 of a sound run fails.
FEW = {"canaries": 200, "runs": 40, "shadows": 8, "replayed": 1, "false_alarms": 1e-8}


@pytest.fixture(scope="module")
def subject() -> EmbeddingSubject:
    """Twenty patients of one to three images, one of them unlabelled, at epsilon 6."""
    generator = torch.Generator().manual_seed(0)
    units = torch.arange(20).repeat_interleave(1 + torch.arange(20) % 3)
    images = torch.rand(len(units), 1, 32, 32, generator=generator) * 2 - 1
    labels = torch.arange(len(units)) % 2
    labels[5] = -1
    cpu = torch.device("cpu")
    features = fit_public_features(
        build_pyramid(RANDOM_NET, 32),
        BinnedSpectrum(32, cpu),
        torch.rand(12, 1, 32, 32, generator=generator) * 2 - 1,
        constant=0.25,
    )
    return EmbeddingSubject.of(
        features,
        Examples(images, labels, torch.zeros(len(units), 0).long()),
        units,
        mechanism=Mechanism.reaching(epsilon=6, delta=1e-3, steps=1, normaliser=30),
        delta=1e-3,
        noise="philox",
    )


@pytest.fixture(scope="module")
def told(subject: EmbeddingSubject) -> EmbeddingSubject:
    """The same patients, with conditions of which they have several values, and unknown ones."""
    numbers = torch.arange(len(subject.units))
    codes = torch.stack([numbers % 3, (numbers // 2) % 5], dim=1)
    share = ConditionPart(0.4, (2, 4))
    return replace(
        subject,
        examples=replace(subject.examples, attributes=codes),
        embedded=replace(subject.embedded, codes=codes, part=share),
    )


def test_a_sound_release_of_conditions_passes(told: EmbeddingSubject) -> None:
    rows = told.embedded.rows()
    assert rows.shape[1] == told.embedded.row_size
    assert torch.allclose(declared_sum(told.embedded, 1.0), rows.double().sum(0), atol=1e-5)
    replayed = replay(told, np.random.default_rng(0), patients=2, risk=RISK)
    assert replayed.broken == ()
    assert replayed.largest_move == pytest.approx(1, abs=1e-4)
    one = one_run(told, np.random.default_rng(1), 1000)
    many = many_runs(told, np.random.default_rng(2), runs=100, dimensions=4)
    assert broken_promise(told, one, many, RISK) == []
    for scores in (one, many):
        assert scores.inside.mean() == pytest.approx(told.mechanism.mu, abs=0.5)
    members = membership(
        told, np.random.default_rng(3), shadows=32, rates=(0.1,), confidence=0.95, risk=RISK
    )
    assert not members[0].broken


def test_blocks_of_conditions_beside_the_bound_are_named(
    told: EmbeddingSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes as if nothing went to conditions, and nothing clipped: the bound is passed."""

    def beside(
        vectors: Tensor, labels: Tensor, units: Tensor, n_units: int, *, codes: Tensor,
        part: ConditionPart,
    ) -> Tensor:  # fmt: skip
        rows = value_vectors(vectors, labels, units, n_units, codes=codes, part=part)
        size = 2 * vectors.shape[1]
        return torch.cat([rows[:, :size] / (1 - part.share) ** 0.5, rows[:, size:]], dim=1)

    monkeypatch.setattr(embedding, "value_vectors", beside)
    replayed = replay(told, np.random.default_rng(0), patients=0, risk=RISK)
    assert any("not the clipped sum" in said for said in replayed.broken), replayed.broken
    no_clipping(monkeypatch)
    replayed = replay(told, np.random.default_rng(0), patients=0, risk=RISK)
    assert any("by more than the clip norm" in said for said in replayed.broken), replayed.broken


def test_conditions_clipped_apart_from_the_classes_are_named(
    told: EmbeddingSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patient counts twice: as a row of classes, and as one of conditions, each of norm 1."""

    def twice(
        vectors: Tensor, labels: Tensor, units: Tensor, n_units: int, *, codes: Tensor,
        part: ConditionPart,
    ) -> Tensor:  # fmt: skip
        rows = value_vectors(vectors, labels, units, n_units, codes=codes, part=part)
        of_conditions = rows.clone()
        of_conditions[:, : 2 * vectors.shape[1]] = 0
        return torch.cat([rows - of_conditions, of_conditions])

    monkeypatch.setattr(embedding, "value_vectors", twice)
    replayed = replay(told, np.random.default_rng(0), patients=0, risk=RISK)
    assert any("by more than the clip norm" in said for said in replayed.broken), replayed.broken


def test_the_sum_of_its_own_is_that_of_the_code(subject: EmbeddingSubject) -> None:
    rows = subject.embedded.rows()
    assert torch.allclose(declared_sum(subject.embedded, 1.0), rows.double().sum(0), atol=1e-5)
    assert float(declared_sum(subject.embedded, 0.01).norm()) <= 20 * 0.01


def test_a_sound_release_passes(subject: EmbeddingSubject) -> None:
    replayed = replay(subject, np.random.default_rng(0), patients=2, risk=RISK)
    assert replayed.broken == ()
    assert replayed.largest_move == pytest.approx(1, abs=1e-4)
    assert replayed.neighbours >= 8
    one = one_run(subject, np.random.default_rng(1), 1000)
    many = many_runs(subject, np.random.default_rng(2), runs=100, dimensions=4)
    assert broken_promise(subject, one, many, RISK) == []
    for scores in (one, many):
        assert scores.inside.mean() == pytest.approx(subject.mechanism.mu, abs=0.5)
        assert scores.outside.mean() == pytest.approx(0, abs=0.5)
    members = membership(
        subject, np.random.default_rng(3), shadows=32, rates=(0.1,), confidence=0.95, risk=RISK
    )
    assert not members[0].broken


Plant = Callable[[pytest.MonkeyPatch], None]
true_gaussian = NoiseSource.gaussian


def scaled_noise(share: float) -> Plant:
    def gaussian(self: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int) -> Tensor:
        return share * true_gaussian(self, shape, scale, stream=stream)

    return lambda patch: patch.setattr(NoiseSource, "gaussian", gaussian)


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lattice, "clip_rows", lambda rows, clip_norm: torch.nan_to_num(rows))


def nan_lets_through(patch: pytest.MonkeyPatch) -> None:
    """A row with a NaN is not left out: what is a number of it stays, beside clipped others."""
    clip = lattice.clip_rows
    patch.setattr(lattice, "clip_rows", lambda rows, bound: clip(torch.nan_to_num(rows), bound))


def summed_images(patch: pytest.MonkeyPatch) -> None:
    """A patient is the sum of the images, not their mean, and is not clipped."""

    def sums(gradients: Tensor, units: Tensor, n_units: int) -> Tensor:
        return gradients.new_zeros(n_units, gradients.shape[1]).index_add_(0, units, gradients)

    patch.setattr(embedding, "unit_means", sums)
    no_clipping(patch)


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (scaled_noise(0.0), "the noise is of another scale"),
        (scaled_noise(2 / 3), "the noise is of another scale"),
        (no_clipping, "by more than the clip norm"),
        (nan_lets_through, "not the clipped sum"),
        (summed_images, "by more than the clip norm"),
    ],
)
def test_a_planted_fault_is_named(
    subject: EmbeddingSubject, plant: Plant, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    replayed = replay(subject, np.random.default_rng(0), patients=0, risk=RISK)
    assert any(words in said for said in replayed.broken), replayed.broken


@pytest.mark.parametrize("plant", [scaled_noise(0.0), scaled_noise(0.5), no_clipping])
def test_scores_alone_show_a_broken_promise(
    subject: EmbeddingSubject, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    one = one_run(subject, np.random.default_rng(0), 400)
    many = many_runs(subject, np.random.default_rng(2), runs=100, dimensions=4)
    assert broken_promise(subject, one, many, RISK)


@pytest.fixture(scope="module")
def run(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embedded")
    values = {
        "data": clinic_set(root / "clinic"),
        "out": root / "run",
        "method": "embedding",
        "size_px": 32,
        "channels": (8, 8, 8),
        "z_dim": 8,
        "batch": 8,
        "kimg": 0.02,
        "privacy": {"epsilon": 6, "delta": 1e-3, "population": 30, "noise": "philox"},
        "embedding": {"features": RANDOM_NET, "public": discs},
    }
    return run_train_gan(TrainGanSettings.model_validate(values))


def test_a_finished_run_is_audited_from_the_command_line(run: Path) -> None:
    asked = ["audit", str(run), *(f"{key}={value}" for key, value in FEW.items())]
    assert main(asked) == 0
    stored = json.loads((run / "private" / "audit" / "audit.json").read_text())
    assert stored["audited"] == "embedding"
    assert stored["broken"] == []
    assert stored["date"]
    assert len(stored["membership"]) == 2
    assert all(bound["epsilon"] < 6 for bound in stored["bounds"])
    text = (run / "private" / "audit" / "audit.md").read_text()
    assert "# Audit of a private embedding" in text
    assert "secret" not in text


def test_what_the_run_itself_released_is_looked_at(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "private" / SUMS_FILE
    kept = path.read_bytes()
    sums = load_weights(path)["sums"]
    save_weights(path, {"sums": torch.zeros_like(sums)})  # as if the noise had been left out
    asked = ["audit", str(run), "seed=1", *(f"{key}={value}" for key, value in FEW.items())]
    try:
        assert main(asked) == 1
    finally:
        path.write_bytes(kept)
    assert "in what the run released the noise is of another scale" in capsys.readouterr().err


def test_runs_that_promise_nothing_are_refused(
    discs: Path, finished_run: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(finished_run(discs))]) == 2
    assert "no promise to audit" in capsys.readouterr().err
