"""Studies that ask for what they cannot have are refused before anything runs."""

from pathlib import Path

import pytest
from made_up import clinic_set, study_settings

from synthdp.errors import InputError
from synthdp.study.stage import run_study


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"strategies": 2 * ["real_only"], "epsilons": [6, 1, 6.0], "seeds": [3, 3]},
            ["strategies: real_only: named twice", "epsilons: 6: named twice", "seeds: 3: named"],
        ),
        ({"epsilons": ["none", "none"]}, ["epsilons: none: named twice"]),
        ({"evaluate_on": ["val", "val"]}, ["evaluate_on: split val of clinic: named twice"]),
        (
            {"evaluate_on": ["test", "tests"], "synthetic": "clinic", "phantoms": "phantoms"},
            [
                "evaluate_on.0: clinic: no image has split 'test'",
                "evaluate_on.1: split 'tests': choose one of",
                "synthetic: clinic is named as data already",
            ],
        ),
        (
            {"strategies": ["phantoms_only"], "epsilons": [1, 6, "none"], "phantoms": "phantoms"},
            ["epsilons: 1, 6: no strategy of this study meets a patient again"],
        ),
        (
            {"strategies": ["synthetic_only", "phantoms_only", "private_pretrain_then_finetune"]},
            ["`synthetic`", "`phantoms`", "`private_synthetic`"],
        ),
    ],
)
def test_a_contradictory_grid_is_refused_with_all_that_is_wrong(
    values: dict[str, object], tmp_path: Path, changes: dict[str, object], words: list[str]
) -> None:
    clinic_set(tmp_path / "phantoms", "phantom")
    for key in changes.keys() & {"synthetic", "phantoms"}:
        changes = {**changes, key: tmp_path / str(changes[key])}
    splits = changes.get("evaluate_on", [])
    assert isinstance(splits, list)
    if splits:
        changes = {**changes, "evaluate_on": [{"data": values["data"], "split": s} for s in splits]}
    with pytest.raises(InputError) as error:
        run_study(study_settings(values, **changes))
    assert [text for text in words if text not in str(error.value)] == []
    assert not study_settings(values).out.exists()
