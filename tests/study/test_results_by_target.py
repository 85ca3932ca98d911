"""A study of several targets: a row for each and for their mean, in the table, report and cards."""

from pathlib import Path

import pytest
from made_up import several_targets_set, study_settings

from synthdp.errors import InputError
from synthdp.study.compare.results import (
    COLUMNS_OF_ONE_TARGET,
    headline_rows,
    read_results,
    result_rows,
    results_csv,
    rows_by_target,
)
from synthdp.study.report.page import report_table
from synthdp.study.report.settings import ReportSettings
from synthdp.study.stage import run_study
from synthdp.study.sweep.grid import expand_evaluations, expand_grid


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    root = tmp_path_factory.mktemp("study")
    data = several_targets_set(root / "clinic", n_patients=24, splits=("train", "val"))
    return {
        "data": data,
        "out": root / "study",
        "strategies": ["real_only"],
        "epsilons": [6, "none"],
        "seeds": [0],
        "evaluate_on": [{"data": data, "split": "val"}],
        "fairness": ["view"],
        "privacy": {"population": 50, "delta": 1e-3},
        "backbone": {"name": "test_vit", "size_px": 32},
        "finetune": {"head": {"steps": 20}},
    }


@pytest.fixture(scope="module")
def study(values: dict[str, object]) -> Path:
    return run_study(study_settings(values)).parent


def test_results_hold_the_mean_and_each_target(study: Path) -> None:
    rows = read_results(study / "results.csv")
    assert [row.target for row in rows[:4]] == ["macro", "bright", "dark", "rare"]
    assert len(headline_rows(rows)) == 2
    assert len(rows_by_target(rows)) == 6
    macro, bright, dark, rare = rows[:4]
    assert macro.auroc == pytest.approx((bright.auroc + dark.auroc) / 2, abs=1e-6)
    assert rare.auroc is None
    assert dark.n_images < bright.n_images == macro.n_images


def test_the_report_shows_each_target_beside_their_mean(study: Path) -> None:
    page = (study / "report.html").read_text()
    assert "Each target" in page
    for name in ("macro", "bright", "dark", "rare"):
        assert f">{name}</th>" in page
    assert "best macro AUROC is" in page
    card = (study / "model-card.md").read_text()
    assert "| strategy | epsilon asked for | macro | bright | dark | rare |" in card
    assert "name: Macro AUROC" in card


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("csv", "members_found_at_1_percent,target"),
        ("markdown", "| strategy | epsilon asked for | macro | bright | dark | rare |"),
        ("latex", "Target & real only, 6 & real only, none"),
    ],
)
def test_tables_for_papers_have_each_target(study: Path, kind: str, head: str) -> None:
    assert head in report_table(ReportSettings(study=study, format=kind))


def test_a_failed_run_stands_beside_the_means(values: dict[str, object], study: Path) -> None:
    settings = study_settings(values)
    evaluations = expand_evaluations(settings, expand_grid(settings))
    first = evaluations[0].row.model.name
    rows = result_rows(evaluations, {first: "it broke"})
    (failed,) = (row for row in rows if row.state == "failed")
    assert failed.target == "macro"
    assert failed in headline_rows(rows)


def test_a_table_of_one_target_has_the_columns_that_it_had(study: Path) -> None:
    rows = [
        row.model_copy(update={"target": ""})
        for row in headline_rows(read_results(study / "results.csv"))
    ]
    text = results_csv(rows)
    assert text.splitlines()[0] == ",".join(COLUMNS_OF_ONE_TARGET)
    older = study.parent / "older.csv"
    older.write_text(text)
    assert read_results(older) == rows
    older.write_text(text.replace("calibration_intercept_ci_high", "other", 1))
    with pytest.raises(InputError, match="columns differ"):
        read_results(older)
