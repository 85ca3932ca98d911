import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import clinic_set
from scipy.stats import norm
from torch import Tensor

from classify.audit import attack, run_audit, subject_of
from classify.auditing.canaries import many_runs, many_runs_bounds, one_run, with_canaries
from classify.auditing.membership import patient_scores
from classify.auditing.replay import declared_sum, replay, without_patient
from classify.auditing.subject import Subject, train_subject
from classify.finetune import run_finetune
from classify.head import train as dp_head
from classify.head.examples import HeadExamples, private_sum
from classify.head.train import HeadRecipe
from classify.settings.finetune import FinetuneSettings
from classify.settings.head import HeadSettings
from classify.settings.network import NetworkSettings
from synthdp.cli import main
from synthdp.config.settings import AuditSettings, FeatureSettings, PrivacySettings
from synthdp.errors import InputError, RunError
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.attacks.membership import likelihood_ratios, members_found
from synthdp.privacy.attacks.rerun import RecordedNoise, scratch_folder
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseSource

STEPS = 12
FEW = {"canaries": 60, "runs": 20, "shadows": 4, "replayed": 1, "workers": 1}
PRIVACY = PrivacySettings(epsilon=6, delta=1e-3, population=30, noise="philox")


def subject(n_patients: int = 12, features: int = 6) -> Subject:
    generator = torch.Generator().manual_seed(0)
    units = torch.arange(n_patients).repeat_interleave(2)
    inputs = torch.randn(len(units), features, generator=generator)
    inputs = torch.nn.functional.normalize(inputs, dim=1)
    targets = (inputs[:, :2] > 0).float()
    targets[::5, 1] = math.nan
    return Subject(
        examples=HeadExamples(inputs, targets, units),
        recipe=HeadRecipe(steps=STEPS, lr=2.0, average_from=0.5, block_steps=5),
        mechanism=Mechanism.reaching(epsilon=6, delta=1e-3, steps=STEPS, normaliser=20),
        start=torch.zeros(2, features),
        delta=1e-3,
        noise="philox",
    )


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clinic_set(tmp_path_factory.mktemp("audit") / "clinic")


def trained(clinic: Path, out: str, privacy: PrivacySettings = PRIVACY) -> Path:
    return run_finetune(
        FinetuneSettings(
            data=clinic,
            out=clinic.parent / out,
            privacy=privacy,
            backbone=FeatureSettings(name="test_vit", size_px=32),
            head=HeadSettings(steps=STEPS, block_steps=5),
        )
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
    result = attack(subject().on(empty), few)
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


def test_an_audit_of_a_sound_run_passes_and_returns_at_once_the_second_time(
    clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(clinic, "sound")
    command = ["audit", str(run), *(f"{key}={value}" for key, value in FEW.items())]
    assert main(command) == 0
    out = run / "private" / "audit"
    assert capsys.readouterr().out.strip() == str(out)
    audit = json.loads((out / "audit.json").read_text())
    assert audit["broken"] == []
    assert audit["promise"]["epsilon"] == pytest.approx(6, rel=1e-3)
    assert len(audit["bounds"]) == 5
    assert "The promise held" in (out / "audit.md").read_text()
    assert "secret" not in (out / "audit.md").read_text()
    before = (out / "audit.json").stat().st_mtime_ns
    assert main(command) == 0
    assert (out / "audit.json").stat().st_mtime_ns == before


def test_a_broken_promise_is_exit_code_1_each_time(
    clinic: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(clinic, "broken")
    monkeypatch.setattr(
        NoiseSource, "gaussian", lambda self, shape, scale, *, stream: torch.zeros(shape)
    )
    command = ["audit", str(run), *(f"{key}={value}" for key, value in FEW.items())]
    assert main(command) == 1
    told = capsys.readouterr().err
    assert "the promise is broken" in told
    assert "the noise is of another scale" in told
    assert "PROMISE IS BROKEN" in (run / "private" / "audit" / "audit.md").read_text()
    monkeypatch.undo()
    with pytest.raises(RunError, match="the promise is broken"):
        run_audit(AuditSettings(run=run, **FEW))


def test_a_key_left_behind_and_a_statement_below_its_ledger_are_found(clinic: Path) -> None:
    run = trained(clinic, "careless")
    (run / "private" / "noise.key").write_bytes(bytes(32))
    stated = json.loads((run / "privacy.json").read_text())
    stated["epsilon_stage"] = 1.0
    (run / "privacy.json").write_text(json.dumps(stated))
    with pytest.raises(RunError, match=r"promises less than the ledger.*noise key"):
        run_audit(AuditSettings(run=run, **FEW))


@pytest.mark.parametrize(
    ("privacy", "told"),
    [
        (PrivacySettings(delta=1e-3, population=30), "no promise to audit"),
        (PRIVACY.model_copy(update={"fixed_noise_key": 1}), "fixed key, so nothing is promised"),
    ],
)
def test_a_run_that_promises_nothing_is_refused(
    clinic: Path, privacy: PrivacySettings, told: str
) -> None:
    run = trained(clinic, f"nothing-{privacy.epsilon}", privacy)
    with pytest.raises(InputError, match=told):
        run_audit(AuditSettings(run=run, **FEW))


def test_what_is_no_head_is_refused(clinic: Path) -> None:
    run = trained(clinic, "network")
    with pytest.raises(InputError, match="not a finished run"):
        run_audit(AuditSettings(run=clinic, **FEW))
    config = (run / "config.yaml").read_text()
    network = json.dumps(NetworkSettings().model_dump())
    (run / "config.yaml").write_text(config.replace("network: null", f"network: {network}"))
    with pytest.raises(InputError, match="has changed since it was trained"):
        run_audit(AuditSettings(run=run, **FEW))


def test_the_subject_is_the_runs_own_training(clinic: Path) -> None:
    run = trained(clinic, "own")
    settings = FinetuneSettings(
        data=clinic,
        out=run,
        privacy=PRIVACY,
        backbone=FeatureSettings(name="test_vit", size_px=32),
        head=HeadSettings(steps=STEPS, block_steps=5),
    )
    audited = subject_of(run, settings)
    assert audited.mu == pytest.approx(gaussian_mu(6, 1e-3), rel=1e-3)
    assert audited.examples.n_units == 12
    assert audited.recipe.steps == STEPS
    other = settings.model_copy(update={"head": HeadSettings(steps=STEPS + 1)})
    with pytest.raises(InputError, match="has changed since"):
        subject_of(run, other)
