import math
from pathlib import Path

import numpy as np
import pytest
from made_up import clinic_set, several_targets_set

from classify import cross_validate as cross_validation
from classify.cross_validate import cross_validate
from classify.settings.finetune import FinetuneSettings
from synthdp.config.settings import validate_settings
from synthdp.errors import InputError


def settings(clinic: Path, **changes: object) -> FinetuneSettings:
    values = {
        "data": clinic,
        "out": clinic.parent / "unused",
        "privacy": {"epsilon": 60, "delta": 1e-3, "population": 50},
        "backbone": {"name": "test_vit", "size_px": 32},
        "head": {"steps": 40, "lr_times_steps": 400},
    }
    return validate_settings(FinetuneSettings, {**values, **changes}, where="finetune")


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return clinic_set(tmp_path / "clinic", "real", n_patients=30)


def test_what_separates_patients_is_found_in_those_left_out(clinic: Path) -> None:
    plain = {"epsilon": None, "delta": 1e-3, "population": 50}
    found = list(cross_validate(settings(clinic, privacy=plain), folds=5, repeats=2, seeds=1))
    assert [(one.repeat, one.seed) for one in found] == [(0, 0), (1, 0)]
    assert min(one.auroc for one in found) > 0.9
    views = settings(clinic, privacy=plain, head={"steps": 40, "lr_times_steps": 400, "views": 2})
    (with_views,) = cross_validate(views, folds=5, repeats=1, seeds=1)
    assert with_views.auroc > 0.9


def test_privacy_adds_noise_and_leaves_nothing_behind(
    clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By fixed keys: by new ones all three would be 1 now and then."""
    keys = (bytes([number]) * 32 for number in range(9))
    monkeypatch.setattr(cross_validation, "new_key", lambda: next(keys))
    before = sorted(path.name for path in (clinic / "private").iterdir())
    asked = settings(clinic, privacy={"epsilon": 0.1, "delta": 1e-3, "population": 50})
    found = [one.auroc for one in cross_validate(asked, folds=3, repeats=1, seeds=3)]
    assert len(set(found)) > 1
    assert all(math.isfinite(one) for one in found)
    after = sorted(path.name for path in (clinic / "private").iterdir())
    assert {*after} - {*before} <= {"features"}
    assert not asked.out.exists()


def test_nobody_is_scored_by_a_head_that_saw_the_patient(
    clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    train = cross_validation._trained

    def counted(*args: object) -> object:
        seen.append(args[3].n_units)
        return train(*args)

    monkeypatch.setattr(cross_validation, "_trained", counted)
    list(cross_validate(settings(clinic), folds=5, repeats=1, seeds=1))
    assert seen == [24] * 5
    folds = cross_validation._folds(30, 5, 0)
    assert np.bincount(folds).tolist() == [6] * 5


def test_blocks_are_not_cross_validated(clinic: Path) -> None:
    with pytest.raises(InputError, match="leave `network` out"):
        list(cross_validate(settings(clinic, network={}), folds=2, repeats=1, seeds=1))


def test_each_of_several_targets_is_scored_where_it_is_known(tmp_path: Path) -> None:
    """One that nobody has is left out of the mean."""
    plain = {"epsilon": None, "delta": 1e-3, "population": 50}
    data = several_targets_set(tmp_path / "clinic", n_patients=30)
    (found,) = cross_validate(settings(data, privacy=plain), folds=5, repeats=1, seeds=1)
    assert list(found.by_target) == ["bright", "dark", "rare"]
    assert math.isnan(found.by_target["rare"])
    assert found.by_target["bright"] > 0.9
    assert found.auroc == pytest.approx(
        np.mean([found.by_target["bright"], found.by_target["dark"]])
    )
