"""Which runs of a study are made together."""

from collections import Counter
from pathlib import Path

import pytest
from made_up import clinic_set, study_settings

from synthdp.runs.folder import StageCall
from synthdp.study.sweep.grid import expand_evaluations, expand_grid
from synthdp.study.sweep.run import jobs_for


@pytest.fixture
def study(values: dict[str, object], tmp_path: Path) -> dict[str, object]:
    """Heads on a network from a file, whose features no seed decides."""
    backbone = {"name": "test_vit", "size_px": 32, "weights": "w.safetensors", "sha256": "0" * 64}
    return {
        **values,
        "phantoms": clinic_set(tmp_path / "phantoms", "phantom"),
        "strategies": ["real_only", "paper", "blocks_only"],
        "epsilons": [1, 6, 12, "none"],
        "seeds": [0, 1, 2],
        "backbone": backbone,
    }


def sizes(calls: list[StageCall], n_workers: int) -> Counter[int]:
    jobs = jobs_for(calls, n_workers)
    folders = [call.folder for job in jobs for call in job]
    assert sorted(folders) == sorted(call.folder for call in calls), "each call is in one job"
    return Counter(map(len, jobs))


def test_heads_of_one_recipe_at_all_epsilons_and_seeds_are_one_job(
    study: dict[str, object],
) -> None:
    calls = [row.calls[-1] for row in expand_grid(study_settings(study))]
    assert len(calls) == 36
    # 9 with a promise and 3 without of `real_only`; all others have products of their own
    assert sizes(calls, 1) == {9: 1, 3: 1, 1: 24}


def test_jobs_are_as_many_as_keep_all_workers_at_work(study: dict[str, object]) -> None:
    only = {**study, "strategies": ["real_only"], "epsilons": [1, 6, 12]}
    calls = [row.calls[-1] for row in expand_grid(study_settings(only))]
    assert sizes(calls, 1) == {9: 1}
    assert sizes(calls, 2) == {2: 4, 1: 1}
    assert sizes(calls, 100) == {1: 9}


def test_tuned_rates_are_one_job(study: dict[str, object]) -> None:
    tuned = {
        **study,
        "data": study["phantoms"],
        "evaluate_on": [{"data": study["phantoms"], "split": "train"}],
        "phantoms": None,
        "strategies": ["real_only"],
        "epsilons": [6],
        "tune": {"finetune.head.lr_times_steps": [10, 20, 40]},
    }
    settings = study_settings({key: value for key, value in tuned.items() if value is not None})
    calls = [row.calls[-1] for row in expand_grid(settings)]
    assert sizes(calls, 1) == {9: 1}


def test_evaluations_on_one_split_are_one_job(study: dict[str, object]) -> None:
    settings = study_settings(study)
    rows = expand_grid(settings)
    calls = [one.call for one in expand_evaluations(settings, rows)]
    assert sizes(calls, 1) == {36: 1}
    assert sizes(calls, 2) == {9: 4}
