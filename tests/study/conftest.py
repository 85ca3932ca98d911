from pathlib import Path

import pytest
from made_up import clinic_set, small_study


@pytest.fixture
def values(tmp_path: Path) -> dict[str, object]:
    return small_study(tmp_path)


@pytest.fixture
def shared(values: dict[str, object], tmp_path: Path) -> dict[str, object]:
    """A study in which all models but two start from one pretraining."""
    return {
        **values,
        "phantoms": clinic_set(tmp_path / "phantoms", "phantom"),
        "strategies": ["real_only", "phantoms_then_finetune"],
        "epsilons": [6, 12, "none"],
        "pretrain": {"trainable_blocks": 0, "epochs": 1},
        "pretrain_seed": 0,
    }
