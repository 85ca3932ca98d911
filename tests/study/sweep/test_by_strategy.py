from pathlib import Path

import pytest
from made_up import small_study, study_settings

from synthdp.errors import InputError
from synthdp.study.sweep.grid import expand_grid


def values(root: Path) -> dict[str, object]:
    network = {"steps": 3, "lr": 0.5, "optimizer": "nadam"}
    return small_study(root) | {
        "strategies": ["real_only", "blocks_only", "whole_only"],
        "network": network,
        "epsilons": [6],
        "seeds": [0],
    }


def test_a_strategy_has_settings_of_its_own_over_those_of_all(tmp_path: Path) -> None:
    own = {
        "whole_only": {"network": {"lr": 0.25}, "finetune": {"head": {"bias_input": 0.1}}},
        "real_only": {"finetune": {"head": {"steps": 30}}},
    }
    rows = expand_grid(study_settings(values(tmp_path), by_strategy=own))
    of = {row.strategy: row.calls[-1].settings for row in rows}
    assert (of["blocks_only"].network.lr, of["whole_only"].network.lr) == (0.5, 0.25)
    assert of["whole_only"].network.steps == 3
    heads = {name: (one.head.steps, one.head.bias_input) for name, one in of.items()}
    assert heads == {"real_only": (30, 0.5), "blocks_only": (20, 0.5), "whole_only": (20, 0.1)}


def test_without_them_runs_are_called_as_before(tmp_path: Path) -> None:
    asked = values(tmp_path)
    before, same = (
        expand_grid(study_settings(asked, by_strategy=own))
        for own in ({}, {"whole_only": {"network": {"lr": 0.5}}})
    )
    assert [row.model.name for row in before] == [row.model.name for row in same]


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ({"paper": {"network": {"lr": 0.1}}}, "by_strategy: paper: not among this study's"),
        ({"whole_only": {"epsilons": [1]}}, "whole_only.epsilons: name settings of pretrain"),
        ({"whole_only": {"network": 3}}, "whole_only.network: name settings of pretrain"),
    ],
)
def test_what_is_none_of_a_strategys_own_is_refused(
    own: dict[str, object], why: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=why):
        study_settings(values(tmp_path), by_strategy=own)


def test_an_unknown_key_is_refused_before_anything_runs(tmp_path: Path) -> None:
    own = {"whole_only": {"network": {"rate": 0.1}}}
    with pytest.raises(InputError, match="rate: unknown key"):
        expand_grid(study_settings(values(tmp_path), by_strategy=own))


@pytest.mark.parametrize("stage", ["finetune", "pretrain"])
@pytest.mark.parametrize(
    "own",
    [
        {"privacy": {"epsilon": 50, "population": 50, "delta": 1e-3}},
        {"data": "other"},
        {"out": "elsewhere"},
        {"seed": 7},
    ],
)
def test_what_a_row_says_of_its_run_is_no_setting_of_a_stage(
    stage: str, own: dict[str, object], tmp_path: Path
) -> None:
    """A row of epsilon 1 was trained at 50, and counted once for all epsilons."""
    (key,), asked = own, values(tmp_path)
    for changes in ({stage: own}, {"by_strategy": {"real_only": {stage: own}}}):
        with pytest.raises(InputError, match=rf"{stage}\.{key}: the study itself gives"):
            study_settings(asked, **changes)
