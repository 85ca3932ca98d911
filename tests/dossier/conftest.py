"""A private run with an audit and an evaluation, and what else dossiers are made of."""

from pathlib import Path

import pytest
from made_up import clinic_set

from classify.audit import run_audit
from classify.evaluate import run_evaluate
from classify.finetune import run_finetune
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import EvaluateSettings
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.settings import PrivacySettings

PRIVACY = PrivacySettings(epsilon=6, delta=1e-3, population=50)
FEW = {"canaries": 60, "runs": 20, "shadows": 4, "replayed": 1, "workers": 1}


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clinic_set(tmp_path_factory.mktemp("mercy-hospital") / "ward-of-frau-mueller")


@pytest.fixture(scope="session")
def run(clinic: Path) -> Path:
    """A head trained for epsilon 6; its folder stands below one with a name that must not leak."""
    return run_finetune(
        FinetuneSettings.model_validate(
            {
                "data": clinic,
                "out": clinic.parent / "models-of-frau-mueller" / "dp",
                "privacy": PRIVACY,
                "backbone": FeatureSettings(name="test_vit", size_px=32),
                "head": {"steps": 12, "lr_times_steps": 24, "block_steps": 5},
            }
        )
    )


@pytest.fixture(scope="session")
def audited(run: Path) -> Path:
    run_audit(AuditSettings.model_validate({"run": run, **FEW}))
    return run


@pytest.fixture(scope="session")
def evaluation(run: Path, clinic: Path) -> Path:
    return run_evaluate(
        EvaluateSettings.model_validate(
            {"run": run, "dataset": clinic, "split": "train", "out": run.parent / "scored"}
            | {"redraws": 20}
        )
    )


@pytest.fixture
def synthetic(tmp_path: Path) -> Path:
    """A synthetic set of a generator with a promise; what its maker wrote tries to be a tag."""
    import numpy as np  # noqa: PLC0415

    release = Release(id="c" * 16, stage="train-gan", data="clinic", mu=gaussian_mu(2.0, 1e-4))
    info = DatasetInfo(
        name="made up",
        kind="synthetic",
        size_px=32,
        licence="<script>alert(1)</script>",
        description="<b>bold</b>",
        lineage=Lineage(releases=(release,)),
    )
    with create_dataset(tmp_path / "synthetic", info) as writer:
        for index in range(2):
            writer.add(
                np.zeros((32, 32), np.uint8),
                patient_id=f"s{index}",
                split="train",
                targets=[index],
            )
    return tmp_path / "synthetic"
