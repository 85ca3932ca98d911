"""The audit stage: what it writes, what it refuses, and how it ends."""

import json
from pathlib import Path

import pytest
import torch
from made_up import clinic_set

from classify.audit import head_subject, run_audit
from classify.finetune import run_finetune
from classify.settings.finetune import FinetuneSettings
from classify.settings.head import HeadSettings
from classify.settings.network import NetworkSettings
from synthdp.cli import main
from synthdp.config.settings import validate_settings
from synthdp.errors import InputError, RunError
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.settings import PrivacySettings

STEPS = 12
FEW = {"canaries": 60, "runs": 20, "shadows": 4, "replayed": 1, "workers": 1}
FEW_OF_NETWORK = {"canaries": 60, "replayed": 1, "workers": 1}
PRIVACY = PrivacySettings(epsilon=6, delta=1e-3, population=30, noise="philox")


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
    words = capsys.readouterr().err
    assert "the promise is broken" in words
    assert "the noise is of another scale" in words
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
    ("privacy", "words"),
    [
        (PrivacySettings(delta=1e-3, population=30), "no promise to audit"),
        (PRIVACY.model_copy(update={"fixed_noise_key": 1}), "fixed key, so nothing is promised"),
    ],
)
def test_a_run_that_promises_nothing_is_refused(
    clinic: Path, privacy: PrivacySettings, words: str
) -> None:
    run = trained(clinic, f"nothing-{privacy.epsilon}", privacy)
    with pytest.raises(InputError, match=words):
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
    audited = head_subject(run, settings)
    assert audited.mu == pytest.approx(gaussian_mu(6, 1e-3), rel=1e-3)
    assert audited.examples.n_units == 12
    assert audited.recipe.steps == STEPS
    other = settings.model_copy(update={"head": HeadSettings(steps=STEPS + 1)})
    with pytest.raises(InputError, match="has changed since"):
        head_subject(run, other)


def trained_network(data: Path, out: Path) -> Path:
    values = {
        "data": data,
        "out": out,
        "privacy": {"epsilon": 6, "delta": 1e-3, "population": 30, "noise": "philox"},
        "backbone": {"name": "test_vit", "size_px": 32},
        "network": {"trainable_blocks": 1, "steps": 6, "sampling_rate": 0.5, "block_steps": 3},
    }
    return run_finetune(validate_settings(FinetuneSettings, values, where="finetune"))


def test_a_network_is_audited_from_the_command_line(tmp_path: Path) -> None:
    run = trained_network(clinic_set(tmp_path / "clinic"), tmp_path / "run")
    asked = ["audit", str(run), *(f"{key}={value}" for key, value in FEW_OF_NETWORK.items())]
    assert main(asked) == 0
    stored = json.loads((run / "private" / "audit" / "audit.json").read_text())
    assert stored["audited"] == "network"
    assert stored["broken"] == []
    assert stored["date"]
    assert {bound["method"] for bound in stored["bounds"]} == {"f-DP", "Gaussian fit"}
    assert all(bound["epsilon"] < 6 for bound in stored["bounds"])
    assert stored["membership"] == []  # nobody is held out
    text = (run / "private" / "audit" / "audit.md").read_text()
    assert "# Audit of a private network" in text
    assert "secret" not in text
