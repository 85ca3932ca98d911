"""Attacks on a head: sound trainings pass, canaries show what the promise says."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from classify.auditing.head.attack import attack_head
from classify.auditing.head.canaries import many_runs, many_runs_bounds, one_run, with_canaries
from classify.auditing.head.membership import patient_scores
from classify.auditing.head.replay import declared_sum, replay, without_patient
from classify.auditing.head.subject import HeadSubject, train_subject
from classify.head import train as dp_head
from classify.head.examples import HeadExamples, private_sum
from classify.head.train import HeadRecipe
from synthdp.privacy.attacks.membership import likelihood_ratios, members_found
from synthdp.privacy.attacks.rerun import RecordedNoise, scratch_folder
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseSource

STEPS = 12
FEW = {"canaries": 60, "runs": 20, "shadows": 4, "replayed": 1, "workers": 1}


def subject(n_patients: int = 12, features: int = 6) -> HeadSubject:
    generator = torch.Generator().manual_seed(0)
    units = torch.arange(n_patients).repeat_interleave(2)
    inputs = torch.randn(len(units), features, generator=generator)
    inputs = torch.nn.functional.normalize(inputs, dim=1)
    targets = (inputs[:, :2] > 0).float()
    targets[::5, 1] = math.nan
    return HeadSubject(
        examples=HeadExamples(inputs, targets, units),
        recipe=HeadRecipe(steps=STEPS, lr=2.0, average_from=0.5, block_steps=5),
        mechanism=Mechanism.reaching(epsilon=6, delta=1e-3, steps=STEPS, normaliser=20),
        start=torch.zeros(2, features),
        delta=1e-3,
        noise="philox",
    )


def test_the_reference_sum_is_that_of_the_code() -> None:
    audited = subject()
    weights = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    spoiled = audited.examples.inputs.clone() * 4
    spoiled[3] = math.nan
    data = HeadExamples(spoiled, audited.examples.targets, audited.examples.units)
    apart = declared_sum(data.gradients(weights), data.units, 1.0)
    assert torch.allclose(private_sum(weights, data, 1.0).flatten().double(), apart, atol=1e-5)


def test_without_leaves_out_one_patient_and_counts_on() -> None:
    data = subject().examples
    fewer = without_patient(data, 4)
    assert fewer.n_units == data.n_units - 1
    assert len(fewer.inputs) == len(data.inputs) - 2
    assert torch.equal(fewer.inputs[8], data.inputs[10])
    assert fewer.units[8] == 4


def test_a_sound_replay_finds_nothing_and_the_worst_patient_moves_it_by_the_clip_norm() -> None:
    replayed = replay(subject(), np.random.default_rng(0), patients=3, risk=1e-6)
    assert replayed.broken == ()
    assert replayed.largest_move == pytest.approx(1, abs=1e-3)
    assert replayed.draws == STEPS * 12


def test_noise_that_depends_on_who_is_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [0]

    def counting(weights: Tensor, examples: HeadExamples, clip_norm: float | None) -> Tensor:
        there[0] = examples.n_units
        return private_sum(weights, examples, clip_norm)

    def adapted(total: Tensor, mechanism: Mechanism, source: NoiseSource, step: int) -> Tensor:
        changed = mechanism.with_noise(mechanism.noise_multiplier * (1 + there[0] * 1e-4))
        return noisy_mean(total, changed, source, step)

    monkeypatch.setattr(dp_head, "private_sum", counting)
    monkeypatch.setattr(dp_head, "noisy_mean", adapted)
    replayed = replay(subject(), np.random.default_rng(0), patients=0, risk=1e-6)
    assert "steps, draws or ledger entries depend on who is there" in replayed.broken


def test_nobody_at_all_can_be_audited() -> None:
    empty = HeadExamples(torch.zeros(0, 6), torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    few = AuditSettings(run=Path("nowhere"), **FEW)
    result = attack_head(subject().on(empty), few)
    assert result.broken == ()
    assert result.members == ()


def test_canaries_disturb_no_real_coordinate_and_contribute_one_clip_norm() -> None:
    audited = subject()
    attacked = with_canaries(audited, np.array([True, False, True]))
    weights = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    wide = torch.nn.functional.pad(weights, (0, 3))
    total = private_sum(wide, attacked.examples, 1.0)
    assert torch.allclose(total[:, :6], private_sum(weights, audited.examples, 1.0), atol=1e-5)
    assert total[0, 6:].tolist() == pytest.approx([1, 0, 1], abs=1e-5)
    assert not total[1, 6:].any()


def test_scores_of_canaries_are_what_the_promise_says() -> None:
    audited = subject()
    scores = one_run(audited, np.random.default_rng(0), 1000)
    assert scores.inside.mean() == pytest.approx(audited.mu, abs=0.22)
    assert scores.outside.mean() == pytest.approx(0, abs=0.22)
    assert scores.inside.std() == pytest.approx(1, abs=0.15)


def test_many_runs_bound_the_promise_from_below() -> None:
    audited = subject()
    scores = many_runs(audited, np.random.default_rng(0), runs=80, dimensions=3, workers=1)
    bounds = many_runs_bounds(scores, audited, 0.99)
    assert all(bound.epsilon < audited.epsilon for bound in bounds)
    assert bounds[0].epsilon > 0.4 * audited.epsilon


def test_likelihood_ratios_find_members_as_often_as_their_scores_allow() -> None:
    generator = np.random.default_rng(0)
    heads, patients, apart = 40, 600, 2.0
    members = np.argsort(np.argsort(generator.random((heads, patients)), axis=0), axis=0) < 20
    scores = generator.normal(size=(heads, patients)) + generator.normal(0, 5, patients)
    none = members_found(likelihood_ratios(scores, members), members, 0.01)
    assert none == pytest.approx(0.01, abs=0.006)
    some = members_found(likelihood_ratios(scores + apart * members, members), members, 0.01)
    best = norm.cdf(norm.ppf(0.01) + apart)
    assert 0.75 * best < some < best + 0.02


def test_a_patients_score_is_the_mean_logit_towards_known_labels() -> None:
    data = HeadExamples(
        torch.tensor([[1.0], [3.0], [5.0]]),
        torch.tensor([[1.0], [0.0], [math.nan]]),
        torch.tensor([0, 0, 1]),
    )
    assert patient_scores(torch.tensor([[2.0]]), data).tolist() == [(2.0 - 6.0) / 2, 0.0]


def test_recorded_noise_is_the_same_noise(tmp_path: Path) -> None:
    audited, source = subject(), RecordedNoise(bytes(32), "philox")
    with scratch_folder() as folder:
        recorded = train_subject(audited, source, folder)
    assert torch.equal(recorded, train_subject(audited, NoiseSource(bytes(32), "philox"), tmp_path))
    assert len(source.draws) == STEPS
