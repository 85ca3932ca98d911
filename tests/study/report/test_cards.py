from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard
from made_up import clinic_set
from made_up_study import describe, make_patches, make_study

from synthdp.data.dataset import open_dataset
from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.privacy.lineage import Lineage, Release
from synthdp.study.compare.results import ResultRow, write_results
from synthdp.study.record import SetFacts, read_sets
from synthdp.study.report.cards import DATA_CARD, MODEL_CARD, subject_tags
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mercy-hospital") / "study"
    make_study(folder, sets=("val", "train"))
    real = make_patches(folder.parent / "real", "real")
    synthetic = make_patches(folder.parent / "synthetic", "synthetic")
    describe(folder, real=str(real), synthetic=str(synthetic))
    settings = {
        "data": str(real),
        "synthetic": str(synthetic),
        "phantoms": "/srv/gone",
        "evaluate_on": [{"data": str(real), "split": "val"}],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    run_report(ReportSettings(study=folder))
    return folder


def test_the_model_card_is_read_by_the_hubs_own_library(study: Path) -> None:
    card = ModelCard.load(study / MODEL_CARD)
    assert card.data.pipeline_tag == "image-classification"
    found = [
        one
        for one in card.data.eval_results
        if one.metric_type == "roc_auc" and one.dataset_split == "val"
    ]
    assert len(found) == 14
    assert all(0.4 < one.metric_value < 0.9 for one in found)
    assert {one.dataset_type for one in found} == {"cbis-ddsm"}
    assert card.data["privacy"]["unit"] == "patient"


def test_scores_of_patients_who_were_trained_on_are_left_out(study: Path) -> None:
    text = (study / MODEL_CARD).read_text()
    assert "split: train" not in text
    assert "cbis-ddsm, train" not in text
    assert "| real only | 6 | 6 | 20 % |" in text
    assert "all of its runs published together: epsilon = inf" in text


def test_the_card_tells_of_held_out_patients_though_others_are_scored_first(tmp_path: Path) -> None:
    study = tmp_path / "study"
    make_study(study, sets=("train", "val"))
    run_report(ReportSettings(study=study))
    assert "These are figures of cbis-ddsm, train" in (study / "report.html").read_text()
    text = (study / MODEL_CARD).read_text()
    said = text.partition("# What it is")[2].partition("\n#")[0]
    assert "AUROC" in said
    assert "cbis-ddsm, train" not in said


def test_the_data_card_tells_what_is_public_of_each_set_and_counts_nothing(study: Path) -> None:
    path = study / DATA_CARD
    card = DatasetCard.load(path)
    assert card.data.task_categories == ["image-classification"]
    text = path.read_text()
    for told in ("made-up real", "made-up synthetic", "images of patients", "32 x 32 px"):
        assert told in text
    real = open_dataset(study.parent / "real")
    assert "evaluation, split val" in text
    assert str(len(real.rows)) not in text


def test_what_a_set_spent_stands_at_its_own_delta(tmp_path: Path) -> None:
    release = Release(stage="train-gan", data="clinic", mu=1.5)
    lineage = Lineage(releases=(release,))
    made = clinic_set(tmp_path / "made", "synthetic", lineage=lineage, delta=1e-6)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"synthetic": str(made)}))
    (facts,) = read_sets(tmp_path)
    assert facts.delta == 1e-6
    assert facts.epsilon == lineage.epsilon(1e-6) > lineage.epsilon(1e-4)
    write_results(tmp_path / "results.csv", [])
    run_report(ReportSettings(study=tmp_path))
    card = DatasetCard.load(tmp_path / DATA_CARD)
    assert f"(delta 1e-06): {epsilon_text(facts.epsilon)}" in card.content.replace("*", "")


@pytest.mark.parametrize("name", [MODEL_CARD, DATA_CARD])
def test_no_card_names_a_path_or_a_patient(study: Path, name: str) -> None:
    text = (study / name).read_text()
    for secret in ("mercy", str(study.parent), "/tmp", "/srv", "secret"):
        assert secret not in text


def test_a_study_without_a_finished_run_has_cards_too(tmp_path: Path) -> None:
    cell = {"strategy": "real_only", "data_set": "cbis", "split": "val", "run": "finetune-1"}
    failed = ResultRow(**cell, state="failed", epsilon=6, seed=0, error="gone")
    write_results(tmp_path / "results.csv", [failed])
    run_report(ReportSettings(study=tmp_path))
    card = ModelCard.load(tmp_path / MODEL_CARD)
    assert card.data.eval_results is None
    assert "None of the 1 runs finished" in card.content
    assert "role: evaluation, split val" in (tmp_path / DATA_CARD).read_text()


def test_cards_are_of_mammograms_where_the_patients_are() -> None:
    def one(name: str, role: str, *columns: str) -> SetFacts:
        return SetFacts(
            name=name,
            kind="real",
            stands_for_patients=True,
            roles=(role,),
            size_px=32,
            targets=("malignant",),
            unit="patient",
            columns=columns,
        )

    phantoms = one("phantoms", "pretraining, or centring of features", "breast_density")
    assert subject_tags([one("chest", "training", "view"), phantoms]) == ["medical-imaging"]
    tags = ["medical-imaging", "mammography"]
    assert subject_tags([one("cbis-ddsm", "training"), phantoms]) == tags
    assert subject_tags([one("clinic", "training", "breast_density")]) == tags
