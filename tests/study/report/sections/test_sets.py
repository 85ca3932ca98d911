from pathlib import Path

import pytest
from made_up import clinic_set, made_up_assessment
from pydantic import ValidationError

from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError
from synthdp.storage.files import write_json
from synthdp.study.compare.results import ResultRow, write_results
from synthdp.study.plan import plan_study
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings
from synthdp.study.settings import StudySettings
from synthdp.study.stage import run_study

INFO = DatasetInfo(name="made up", kind="synthetic", size_px=32)


def reported(study: Path, assessment: Path | None) -> str:
    """The report of a study without a finished run, which names an assessment."""
    cell = {"strategy": "real_only", "data_set": "clinic", "split": "val", "run": "finetune-1"}
    study.mkdir(exist_ok=True)
    failed = ResultRow(**cell, state="failed", epsilon=6, seed=0, error="none")
    write_results(study / "results.csv", [failed])
    write_json(study / "study.json", {"assessment": str(assessment) if assessment else None})
    return run_report(ReportSettings(study=study)).read_text()


def test_main_figures_stand_in_the_report_with_n_features_and_split(tmp_path: Path) -> None:
    html = reported(tmp_path / "study", made_up_assessment(tmp_path / "judged", INFO))
    for shown in ("FD-Net", "73.9", "n = 40, 24", "all images against train", "21.2", "n = 12, 12",
                  "halves of train", "exact functions of the patients"):  # fmt: skip
        assert shown in html
    assert "one class &lt;only&gt;" in html
    assert "a detail" not in html
    assert "Baseline" not in html
    assert "left out when the study is released" in html
    assert str(tmp_path) not in html


def test_a_study_without_one_has_no_section(tmp_path: Path) -> None:
    assert "How close the synthetic set is" not in reported(tmp_path / "study", None)


def test_an_assessment_that_is_gone_or_damaged_is_said(tmp_path: Path) -> None:
    gone = reported(tmp_path / "study", tmp_path / "gone")
    assert "The assessment can't be shown: " in gone
    assert str(tmp_path) not in gone
    folder = made_up_assessment(tmp_path / "judged", INFO)
    (folder / "quality.json").write_text('{"figures": 3}')
    assert "The assessment can't be shown: " in reported(tmp_path / "study", folder)


def study_settings(root: Path, synthetic: Path | None, assessment: Path) -> StudySettings:
    return StudySettings(
        data=root / "clinic",
        out=root / "study",
        strategies="real_only",
        epsilons=(None,),
        seeds=(0,),
        evaluate_on=({"data": root / "clinic", "split": "train"},),
        synthetic=synthetic,
        assessment=assessment,
        backbone={"name": "test_vit", "size_px": 32},
    )


def test_a_study_refuses_the_assessment_of_another_set(tmp_path: Path) -> None:
    clinic_set(tmp_path / "clinic")
    synthetic = clinic_set(tmp_path / "synthetic", "synthetic")
    of_another = made_up_assessment(tmp_path / "other", INFO)
    for run in (plan_study, run_study):
        with pytest.raises(InputError, match="of another synthetic set"):
            run(study_settings(tmp_path, synthetic, of_another))
        with pytest.raises(InputError, match="synthdp assess"):
            run(study_settings(tmp_path, synthetic, tmp_path / "none"))
    assert not (tmp_path / "study").exists()
    with pytest.raises(ValidationError, match="name that set as synthetic too"):
        study_settings(tmp_path, None, of_another)
    its_own = made_up_assessment(tmp_path / "own", open_dataset(synthetic).info)
    plan_study(study_settings(tmp_path, synthetic, its_own))
