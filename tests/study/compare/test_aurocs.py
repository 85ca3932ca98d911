import csv
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from made_up import study_settings
from scipy.special import expit

from synthdp.config.settings import validate_settings
from synthdp.errors import InputError
from synthdp.evaluation.metrics import auroc
from synthdp.evaluation.predictions import read_predictions
from synthdp.evaluation.uncertainty.differences import holm
from synthdp.privacy.promise.stated import parse_statement
from synthdp.storage.files import read_json, write_json
from synthdp.study.compare.aurocs import (
    ComparisonRow,
    Comparisons,
    compare_study,
    comparison_rows,
    read_comparisons,
    write_comparisons,
)
from synthdp.study.compare.results import ResultRow, write_results
from synthdp.study.compare.thresholds import share_columns, threshold_rows
from synthdp.study.compared import ComparePlan, FixedOn, PrimaryDifference
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings
from synthdp.study.settings import StudySettings
from synthdp.study.sweep.grid import evaluation_folder
from tests.study.report.test_page import make_study
from tests.study.test_stage import values

__all__ = ["values"]

QUALITY = {("plain", None): 2.0, ("plain", 6.0): 1.9, ("plain", 1.0): 0.4, ("better", None): 3.5,
           ("better", 6.0): 3.4, ("synthetic", None): 1.0}  # fmt: skip
PLAN = ComparePlan(redraws=200)


def write_predictions(
    folder: Path, targets: np.ndarray, patients: np.ndarray, scores: np.ndarray
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "predictions.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["image", "patient_id", "malignant", "score_malignant"])
        for number, cells in enumerate(zip(patients, targets, scores, strict=True)):
            patient, target, score = cells
            known = "" if math.isnan(target) else int(target)
            writer.writerow([f"images/{number}.png", f"secret-{patient}", known, f"{score:.9g}"])


def made_up(
    study: Path, seeds: int = 3, splits: tuple[str, ...] = ("val",)
) -> tuple[list[ResultRow], dict[str, np.ndarray]]:
    """Rows and predictions of 40 patients with two images each; scores by run and split."""
    rows, kept = [], {}
    for split_number, split in enumerate(splits):
        generator = np.random.default_rng(split_number)
        patients = np.repeat(np.arange(40), 2)
        targets = (np.arange(40) % 2)[patients] * 1.0
        own = generator.normal(size=80)
        for number, ((strategy, epsilon), quality) in enumerate(QUALITY.items()):
            for seed in range(seeds):
                run = f"finetune-{number}-{seed}"
                scores = expit(own + 0.3 * generator.normal(size=80) + quality * (targets - 0.5))
                write_predictions(
                    evaluation_folder(study, run, "the clinic", split), targets, patients, scores
                )
                kept[run, split] = scores
                place = {"strategy": strategy, "epsilon": epsilon, "seed": seed, "run": run}
                figures = {"auroc": auroc(targets, scores), "epsilon_end_to_end": epsilon or "inf"}
                rows.append(
                    ResultRow.model_validate(
                        {**place, "data_set": "the clinic", "split": split, "state": "finished"}
                        | figures
                    )
                )
    return rows, kept


def row_of(found: list[ComparisonRow], kind: str, strategy: str, epsilon: float | None):
    (row,) = [
        one for one in found if (one.kind, one.strategy, one.epsilon) == (kind, strategy, epsilon)
    ]
    return row


def test_every_recipe_is_compared(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path)
    found = comparison_rows(tmp_path, rows, PLAN)
    assert len([row for row in found if row.kind == "mean"]) == len(QUALITY)
    mean = row_of(found, "mean", "plain", 6.0)
    own = [row.auroc for row in rows if (row.strategy, row.epsilon) == ("plain", 6.0)]
    assert mean.value == pytest.approx(np.mean(own), rel=1e-5)
    assert mean.sd_seeds == pytest.approx(np.std(own, ddof=1), rel=1e-4)
    assert mean.ci_low < mean.patients_ci_low + 0.03 < mean.value < mean.ci_high
    assert 0 <= mean.se_seeds**2 / (mean.se_seeds**2 + mean.se_patients**2) < 0.5
    close, far = (row_of(found, "without_privacy", "plain", epsilon) for epsilon in (6.0, 1.0))
    assert (close.noninferior, far.noninferior) == (True, False)
    assert far.p_holm < 0.01 < close.p_holm
    assert far.p_noninferior_holm > 0.5
    better = row_of(found, "reference", "better", 6.0)
    assert (better.against, better.n_seeds, better.n_seeds_against) == ("plain", 3, 3)
    assert 0 < better.ci_low < better.value
    assert row_of(found, "reference", "synthetic", None).value < 0
    assert not any(row.note for row in found)


def test_two_seeds_that_differ_do_not_make_an_interval_of_everything(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path, seeds=2)
    apart = []
    for row in rows:  # the second seed of every recipe is one that hardly learned
        folder = evaluation_folder(tmp_path, row.run, "the clinic", "val")
        table = list(csv.DictReader((folder / "predictions.csv").open(encoding="utf-8")))
        targets = np.array([float(line["malignant"]) for line in table])
        scores = np.array([float(line["score_malignant"]) for line in table])
        if row.seed == 1:
            scores = expit(np.random.default_rng(len(apart)).normal(size=80))
        write_predictions(folder, targets, np.repeat(np.arange(40), 2), scores)
        apart.append(row.model_copy(update={"auroc": auroc(targets, scores)}))
    mean = row_of(comparison_rows(tmp_path, apart, PLAN), "mean", "better", 6.0)
    assert mean.sd_seeds > 0.2
    assert 0.2 < mean.ci_low < mean.value - 0.1
    assert mean.value + 0.1 < mean.ci_high


def test_holm_counts_each_kind_and_reference_as_a_family(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path)
    plan = ComparePlan(reference=("plain", "better"), redraws=50)
    found = comparison_rows(tmp_path, rows, plan)
    families: dict[tuple[str, str], list[ComparisonRow]] = {}
    for row in found:
        if row.kind != "mean":
            key = (row.kind, row.against if row.kind == "reference" else "")
            families.setdefault(key, []).append(row)
    assert {key: len(family) for key, family in families.items()} == {
        ("without_privacy", ""): 3, ("reference", "plain"): 3, ("reference", "better"): 4,
    }  # fmt: skip
    for family in families.values():
        tested = [row for row in family if row.p is not None]
        least = min(tested, key=lambda row: row.p)
        assert least.p_holm == pytest.approx(min(1, least.p * len(tested)), rel=1e-4)


def test_a_reference_without_a_run_at_an_epsilon_says_so(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path)
    found = comparison_rows(tmp_path, rows, ComparePlan(reference=("better",), redraws=50))
    lost = row_of(found, "reference", "plain", 1.0)
    assert (lost.value, lost.p, lost.note) == (None, None, "better has no run at this epsilon")


def differences(*pairs: tuple[str, str], **where: object) -> tuple[PrimaryDifference, ...]:
    return tuple(PrimaryDifference(strategy=one, against=other, **where) for one, other in pairs)


def test_primary_differences_are_a_family_of_their_own(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path)
    named = differences(("better", "plain"), ("plain", "synthetic"), epsilons=(6.0, None))
    plan = ComparePlan(primary=named, reference=("plain", "synthetic"), redraws=50)
    found = comparison_rows(tmp_path, rows, plan)
    assert [row.kind for row in found[6:10]] == ["primary"] * 4, "they stand behind the means"
    family = found[6:10]
    assert [(row.strategy, row.against, row.epsilon) for row in family] == [
        ("better", "plain", 6.0), ("better", "plain", None),
        ("plain", "synthetic", 6.0), ("plain", "synthetic", None),
    ]  # fmt: skip
    for row in family:  # the same figures, adjusted for the others of this family alone
        same = {"kind": "reference", "p_holm": None, "p_noninferior_holm": None}
        if (row.against, row.epsilon) == ("synthetic", 6.0):  # no reference: it has no such run
            continue
        key = ("reference", row.strategy, row.against, row.epsilon)
        (twin,) = [
            one for one in found if (one.kind, one.strategy, one.against, one.epsilon) == key
        ]
        assert twin.model_copy(update=same) == row.model_copy(update=same)
    adjusted = holm([row.p for row in family])
    assert [row.p_holm for row in family] == pytest.approx(adjusted, rel=1e-4)


def test_a_strategy_that_meets_no_patient_is_beside_each_epsilon(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path)
    plan = ComparePlan(primary=differences(("better", "synthetic")), redraws=50)
    family = [row for row in comparison_rows(tmp_path, rows, plan) if row.kind == "primary"]
    assert [(row.epsilon, row.n_seeds) for row in family] == [(None, 3), (6.0, 3), (1.0, 0)]
    assert family[0].value > family[1].value > 0
    lost = family[2]
    assert (lost.value, lost.p_holm, lost.note) == (None, None, "better has no run there")
    assert family[0].p_holm == pytest.approx(2 * min(row.p for row in family[:2]), rel=1e-4)


def test_a_primary_difference_of_failed_runs_counts_as_no_test(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path)
    refused = [
        row.model_copy(update={"state": "failed", "error": "refused", "auroc": None})
        if (row.strategy, row.epsilon) == ("better", 6.0)
        else row
        for row in rows
    ]
    named = differences(("better", "plain"), epsilons=(6.0, None))
    plan = ComparePlan(primary=named, redraws=50)
    family = [row for row in comparison_rows(tmp_path, refused, plan) if row.kind == "primary"]
    assert [(row.n_seeds, row.n_seeds_against, row.note) for row in family] == [
        (0, 3, "3 of 3 runs failed"), (3, 3, ""),
    ]  # fmt: skip
    assert family[1].p_holm == family[1].p


def test_what_is_lost_cut_or_of_other_images_is_told_and_the_rest_stands(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path)
    folders = [
        evaluation_folder(tmp_path, f"finetune-1-{seed}", "the clinic", "val") for seed in range(3)
    ]
    shutil.rmtree(folders[0])
    whole = (folders[1] / "predictions.csv").read_bytes()
    (folders[1] / "predictions.csv").write_bytes(whole[: len(whole) // 2])
    lines = (folders[2] / "predictions.csv").read_text().splitlines(keepends=True)
    (folders[2] / "predictions.csv").write_text("".join(lines[:40]))
    (
        evaluation_folder(tmp_path, "finetune-3-0", "the clinic", "val") / "predictions.csv"
    ).write_text("image,patient_id,malignant,score_malignant\nimages/0.png,secret-0,1,high\n")
    found = comparison_rows(tmp_path, rows, PLAN)
    lost = row_of(found, "mean", "plain", 6.0)
    assert (lost.n_seeds, lost.value) == (0, None)
    assert lost.note == (
        "1 of 3 runs: no predictions; 1 of 3 runs: predictions cut off or damaged; "
        "1 of 3 runs: scored on other images"
    )
    part = row_of(found, "mean", "better", None)
    assert (part.n_seeds, part.note) == (2, "1 of 3 runs: predictions cut off or damaged")
    assert part.value is not None
    assert row_of(found, "without_privacy", "plain", 6.0).value is None
    assert "compared with: 1 of 3 runs" in row_of(found, "reference", "better", 6.0).note
    assert row_of(found, "mean", "plain", 1.0).note == ""


def test_failed_runs_and_one_seed_are_told(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path, seeds=1)
    cell = {"strategy": "plain", "epsilon": 6.0, "seed": 1, "run": "finetune-x"}
    failed = ResultRow(**cell, state="failed", data_set="the clinic", split="val", error="no luck")
    found = comparison_rows(tmp_path, [*rows, failed], PLAN)
    row = row_of(found, "mean", "plain", 6.0)
    assert row.note == "1 of 2 runs failed; one seed, so the interval holds patients alone"
    assert (row.n_seeds, row.sd_seeds, row.se_seeds) == (1, None, 0.0)
    alone = comparison_rows(tmp_path, [failed], PLAN)
    assert [(one.value, one.note) for one in alone] == [(None, "1 of 1 runs failed")]


def test_one_class_is_told(tmp_path: Path) -> None:
    rows, kept = made_up(tmp_path)
    for run, split in kept:
        folder = evaluation_folder(tmp_path, run, "the clinic", split)
        write_predictions(folder, np.ones(80), np.repeat(np.arange(40), 2), kept[run, split])
    found = comparison_rows(tmp_path, rows, PLAN)
    assert {row.value for row in found} == {None}
    assert all("the set holds one class alone" in row.note for row in found)


def test_a_perfect_ranking_beside_a_constant_one_is_not_tested(tmp_path: Path) -> None:
    rows, kept = made_up(tmp_path, seeds=1)
    targets, patients = (np.arange(80) // 2 % 2) * 1.0, np.repeat(np.arange(40), 2)
    for run, split in kept:
        scores = np.full(80, 0.5) if run.startswith("finetune-0") else targets * 0.9
        write_predictions(
            evaluation_folder(tmp_path, run, "the clinic", split), targets, patients, scores
        )
    found = row_of(comparison_rows(tmp_path, rows, PLAN), "without_privacy", "plain", 6.0)
    assert (found.value, found.p, found.p_noninferior) == (0.5, None, None)
    assert "no variance on these patients, so nothing is tested" in found.note


def test_tables_survive_their_files_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path, splits=("val", "test"))
    plan = PLAN.model_copy(update={"threshold_on": FixedOn(data_set="the clinic", split="val")})
    found = compare_study(tmp_path, rows, plan)
    assert len(found.thresholds) == len(QUALITY)
    write_comparisons(tmp_path, found)
    assert read_comparisons(tmp_path) == found
    shutil.rmtree(tmp_path / "evaluations")
    assert (
        compare_study(tmp_path, rows, plan) == found
    )  # a released study, which has no predictions
    text = (tmp_path / "comparisons.csv").read_text()
    assert "secret" not in text
    (tmp_path / "comparisons.csv").write_text(text.replace("p_holm", "p_bonferroni", 1))
    with pytest.raises(InputError, match=r"columns differ .*p_bonferroni, p_holm.*synthdp report"):
        read_comparisons(tmp_path)
    write_comparisons(tmp_path, Comparisons(found.aurocs, ()))
    assert not (tmp_path / "thresholds.csv").exists()


def test_thresholds_are_fixed_on_one_split_and_applied_to_the_other(tmp_path: Path) -> None:
    rows, kept = made_up(tmp_path, splits=("val", "test"))
    fixed = FixedOn(data_set="the clinic", split="val")
    found = threshold_rows(tmp_path, rows, ComparePlan(threshold_on=fixed, sensitivity=0.8))
    assert {row.split for row in found} == {"test"}
    (row,) = [one for one in found if (one.strategy, one.epsilon) == ("better", 6.0)]
    malignant = (np.arange(40) % 2)[np.repeat(np.arange(40), 2)] == 1
    shares = []
    for seed in range(3):
        run = f"finetune-4-{seed}"
        threshold = np.sort(kept[run, "val"][malignant])[::-1][31]  # finds 32 of the 40
        called = kept[run, "test"] >= threshold - 1e-6
        shares.append((called[malignant].mean(), 1 - called[~malignant].mean()))
        assert row.threshold_low <= threshold <= row.threshold_high + 0.1
    assert (row.sensitivity, row.specificity) == pytest.approx(np.mean(shares, axis=0), abs=0.03)
    assert row.sensitivity_ci_low < row.sensitivity < row.sensitivity_ci_high <= 1
    assert (row.n_seeds, row.at_sensitivity, row.note) == (3, 0.8, "")
    shutil.rmtree(evaluation_folder(tmp_path, "finetune-4-0", "the clinic", "val"))
    found = threshold_rows(tmp_path, rows, ComparePlan(threshold_on=fixed))
    (row,) = [one for one in found if (one.strategy, one.epsilon) == ("better", 6.0)]
    assert (row.n_seeds, row.note) == (2, "1 of 3 runs have no threshold or no predictions")
    assert threshold_rows(tmp_path, rows, PLAN) == []


@pytest.mark.parametrize("found", [0.0, 1.0])
def test_a_share_of_all_or_none_has_no_interval_of_no_width(found: float) -> None:
    hits = np.full((2, 6), found == 1)
    share = share_columns("sensitivity", hits, np.array([0, 0, 1, 2, 3, 3]))
    assert share["sensitivity"] == found
    assert (share["sensitivity_ci_low"], share["sensitivity_ci_high"]) == (None, None)
    hits[0, 2] = not found
    share = share_columns("sensitivity", hits, np.array([0, 0, 1, 2, 3, 3]))
    assert (
        0 <= share["sensitivity_ci_low"] < share["sensitivity"] < share["sensitivity_ci_high"] <= 1
    )


def test_predictions_say_what_is_wrong_and_name_no_patient(tmp_path: Path) -> None:
    for text, message in (
        ("", "empty|missing|cut off"),
        ("image,patient_id,malignant,score\na,secret,1,0.5\n", "no column of scores"),
        ("image,patient_id,malignant,score_malignant\n", "cut off"),
        ("image,patient_id,malignant,score_malignant\na,secret,1,0.", "cut off"),
        ("image,patient_id,malignant,score_malignant\na,secret,1\n", "cells"),
        ("image,patient_id,malignant,score_malignant\na,secret,1,nan\n", "row 2"),
        ("image,patient_id,malignant,score_malignant\na,secret,2,0.5\n", "row 2"),
    ):
        (tmp_path / "predictions.csv").write_text(text)
        with pytest.raises(InputError, match=message) as refused:
            read_predictions(tmp_path)
        assert "secret" not in str(refused.value)


def test_the_report_writes_and_shows_comparisons(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path)
    write_results(tmp_path / "results.csv", rows)
    write_json(tmp_path / "study.json", {"compare": {"reference": "better", "redraws": 50}})
    page = run_report(ReportSettings(study=tmp_path)).read_text()
    assert "Less better at the same epsilon" in page
    assert "Less the same strategy without privacy" in page
    assert "better has no run at this epsilon" in page
    assert "secret" not in page
    changed = ReportSettings(study=tmp_path, compare=ComparePlan(margin=0.001, redraws=50))
    assert "Less plain at the same epsilon" in run_report(changed).read_text()
    found = read_comparisons(tmp_path)
    assert {row.margin for row in found.aurocs} == {None, 0.001}


def test_a_report_refuses_to_compare_what_a_study_has_not(tmp_path: Path) -> None:
    rows, _ = made_up(tmp_path)
    write_results(tmp_path / "results.csv", rows)
    elsewhere = FixedOn(data_set="elsewhere", split="val")
    for plan, message in (
        (ComparePlan(reference=("magic",)), "magic: not among this study's strategies"),
        (ComparePlan(threshold_on=elsewhere), "elsewhere, val: models were not scored there"),
        (
            ComparePlan(primary=differences(("magic", "plain"))),
            "primary: magic less plain: magic: ",
        ),
        (
            ComparePlan(primary=differences(("better", "plain"), epsilons=(3.0,))),
            r"epsilon 3: not among this study's epsilons \(epsilon none, epsilon 6, epsilon 1\)",
        ),
        (
            ComparePlan(primary=differences(("better", "plain"), shares=(0.8,))),
            r"a share of 0.8: not among this study's shares \(it names none\)",
        ),
        (
            ComparePlan(primary=differences(("better", "plain"), ("plain", "better"))),
            "better and plain are compared 2 times at epsilon none; keep one",
        ),
    ):
        with pytest.raises(InputError, match=message):
            run_report(ReportSettings(study=tmp_path, compare=plan))
        table = {"format": "markdown", "table": "comparisons"}
        with pytest.raises(InputError, match=message):
            run_report(ReportSettings(study=tmp_path, compare=plan, **table))
    shutil.rmtree(tmp_path / "evaluations")
    with pytest.raises(InputError, match="nothing can be compared anew"):
        run_report(ReportSettings(study=tmp_path, compare=PLAN))
    assert not (tmp_path / "report.html").exists()


def test_private_rows_alone_are_stated_for_programs(tmp_path: Path) -> None:
    make_study(tmp_path)
    run_report(ReportSettings(study=tmp_path))
    stated = parse_statement(read_json(tmp_path / "privacy-dp.json"), where="privacy-dp.json")
    assert 60 < stated.epsilon < math.inf
    assert not stated.lineage.unprotected
    assert len(stated.lineage.releases) > 5
    for path in tmp_path.glob("runs/*/privacy.json"):  # nothing private is left
        if read_json(path)["epsilon"] != "inf":
            path.unlink()
    run_report(ReportSettings(study=tmp_path))
    assert not (tmp_path / "privacy-dp.json").exists()


PAIR = {"strategy": "phantoms_then_finetune", "against": "real_only"}


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        ({"reference": "magic"}, "compare.reference: magic: not among this study's strategies"),
        ({"threshold_on": {"data": "elsewhere"}}, "models are not scored there; add it"),
        ({"margin": 0}, "compare.margin"),
        ({"primary": []}, "compare.primary: .*at least 1"),
        (
            {"primary": [{"strategy": "magic", "against": "real_only"}]},
            "compare.primary: magic less real_only: magic: not among this study's strategies",
        ),
        (
            {"primary": [{"strategy": "real_only", "against": "real_only"}]},
            "compare.primary.0: real_only less itself is nothing to test",
        ),
        (
            {"primary": [{**PAIR, "epsilons": [6, 3]}]},
            r"epsilon 3: not among this study's epsilons \(epsilon 6, epsilon none\)",
        ),
        ({"primary": [{**PAIR, "shares": [0.5]}]}, "a share of 0.5: not among this study's shares"),
        (
            {"primary": [PAIR, {**PAIR, "epsilons": ["none"]}]},
            "phantoms_then_finetune and real_only are compared 2 times at epsilon none; keep one",
        ),
        (
            {
                "primary": [
                    {"strategy": "synthetic_only", "against": "real_only", "epsilons": [6, 6]}
                ]
            },
            "real_only and synthetic_only are compared 2 times at epsilon 6; keep one",
        ),
    ],
)
def test_comparisons_that_do_not_fit_are_refused(
    values: Mapping[str, object], compare: Mapping[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        study_settings(dict(values), compare=compare)


def test_the_plan_names_sets_instead_of_places(values: Mapping[str, object]) -> None:
    on = {"data": values["data"], "split": "val"}
    compare = {"reference": "real_only", "threshold_on": on, "sensitivity": 0.8}
    study = validate_settings(StudySettings, {**values, "compare": compare}, where="study")
    assert study.compare is not None
    plan = study.compare.plan
    assert plan.threshold_on == FixedOn(data_set="clinic", split="val")
    assert (plan.reference, plan.sensitivity, plan.margin) == (("real_only",), 0.8, 0.05)


def test_primary_differences_are_of_the_shares_of_a_study(values: Mapping[str, object]) -> None:
    crossed = {key: value for key, value in values.items() if key != "evaluate_on"}
    crossed["cross_validation"] = {"folds": 3, "shares": {0.25: 20, 0.5: 45}}
    study = study_settings(crossed, compare={"primary": [{**PAIR, "shares": [0.5]}, {
        "strategy": "real_only", "against": "phantoms_then_finetune", "shares": [0.25],
    }]})  # fmt: skip
    assert study.compare is not None
    assert study.compare.plan.primary == study.compare.primary
    with pytest.raises(InputError, match=r"shares \(a share of 0.25, a share of 0.5\)"):
        study_settings(crossed, compare={"primary": [{**PAIR, "shares": [0.8]}]})
    with pytest.raises(InputError, match=r"2 times at epsilon 6, a share of 0\.25; keep one"):
        study_settings(crossed, compare={"primary": [PAIR, {**PAIR, "shares": [0.25]}]})
