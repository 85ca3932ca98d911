"""Whose release counts: a set of patients taken for a public one, and the reverse, is found out."""

from pathlib import Path

import pytest
from made_up import clinic_set

from classify.audit import run_audit
from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError, RunError
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.privacy.promise.plan import PrivacyPlan
from tests.releases.test_release import finetuned

FEW = {"canaries": 60, "runs": 20, "shadows": 4, "replayed": 0, "workers": 1}


@pytest.mark.parametrize(("kind", "protected"), [("real", False), ("public", True)])
def test_code_that_takes_a_set_for_another_kind_meets_its_ledger(
    kind: str, protected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic = clinic_set(tmp_path / "clinic", kind)
    monkeypatch.setattr(DatasetInfo, "protects_patients", property(lambda self: protected))
    with pytest.raises(InputError, match="something else than the set's ledger"):
        finetuned(clinic, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "counted", "words"),
    [
        ("real", False, "a release on patients is not counted"),
        ("public", True, "counts a release on images of which no patient is protected"),
    ],
)
def test_a_plan_that_counts_the_wrong_sets_is_named_by_the_audit(
    kind: str, counted: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(PrivacyPlan, "counted", property(lambda self: counted))
        clinic = clinic_set(tmp_path / "clinic", kind)
        run = finetuned(clinic, tmp_path / "run", head={"steps": 4, "block_steps": 2})
    with pytest.raises(RunError, match=words):
        run_audit(AuditSettings.model_validate({"run": run, **FEW}))
