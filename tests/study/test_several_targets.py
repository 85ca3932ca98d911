"""A study of sites whose targets differ: they meet by their names, whatever their order."""

from pathlib import Path

import numpy as np
import pytest
from made_up import random_run, study_settings

from classify.evaluate import run_evaluate
from classify.settings.finished import EvaluateSettings
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.study.compare.aurocs import read_comparisons
from synthdp.study.compare.fairness import read_fairness
from synthdp.study.compare.transfer.table import read_transfer
from synthdp.study.plan import plan_study
from synthdp.study.stage import run_study


def make_site(out: Path, targets: tuple[str, ...], *, kind: str = "real") -> Path:
    """Patients of one image; each finding, by its name, brightens a corner of its own."""
    rng = np.random.default_rng(len(out.name))
    with create_dataset(
        out, DatasetInfo(name=out.name, kind=kind, size_px=32, targets=targets)
    ) as writer:
        for patient in range(96):
            labels = {name: int(rng.integers(0, 2)) for name in sorted(targets)}
            pixels = rng.normal(90, 20, (32, 32))
            for name, label in labels.items():
                row, column = divmod("abcd".index(name), 2)
                pixels[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 70 * label
            writer.add(
                pixels.clip(0, 255).astype(np.uint8),
                patient_id=f"secret-{patient}",
                split=("train", "val")[patient % 2],
                targets=[labels[name] for name in targets],
                attributes={"sex": "FM"[patient // 2 % 2]},
            )
    return out


@pytest.fixture
def values(tmp_path: Path) -> dict[str, object]:
    first = make_site(tmp_path / "first", ("a", "b", "c"))
    second = make_site(tmp_path / "second", ("d", "c", "b"))
    return {
        "data": first,
        "out": tmp_path / "study",
        "strategies": "real_only",
        "epsilons": [60],
        "seeds": [0],
        "transfer": {"data": [second]},
        "evaluate_on": [{"data": first}, {"data": second}],
        "fairness": {"attributes": ["sex"], "redraws": 30},
        "privacy": {"population": 60, "delta": 1e-3},
        "backbone": {"name": "test_vit", "size_px": 32},
        "finetune": {"head": {"steps": 30}},
    }


def test_sites_of_other_targets_are_compared_on_those_that_they_share(
    values: dict[str, object],
) -> None:
    fixed_on = {"threshold_on": {"data": values["data"]}, "sensitivity": 0.8}
    study = study_settings(values, shortcut=True, compare=fixed_on)
    page = run_study(study).read_text()
    rows = read_transfer(study.out / "transfer.csv")
    scored = {
        (row.trained_on, row.data_set): {
            one.target
            for one in rows
            if (one.trained_on, one.data_set, one.measure)
            == (row.trained_on, row.data_set, "auroc")
        }
        for row in rows
    }
    assert scored == {
        ("first", "first"): {"a", "b", "c", "macro"},
        ("first", "second"): {"b", "c", "macro"},
        ("second", "first"): {"b", "c", "macro"},
        ("second", "second"): {"b", "c", "d", "macro"},
    }
    loss = [
        row
        for row in rows
        if (row.trained_on, row.data_set, row.target, row.measure, row.epsilon)
        == ("first", "second", "macro", "off_site_loss", 60.0)
    ]
    assert [row.note for row in loss] == ["paired, over c, b"]
    fairness = read_fairness(study.out / "fairness.csv")
    assert {row.target for row in fairness if row.data_set == "second"} == {"b", "c", "d", "macro"}
    decided = read_comparisons(study.out).thresholds
    assert {(row.data_set, row.target) for row in decided} == {("second", "b"), ("second", "c")}
    assert all(row.sensitivity is not None and not row.note for row in decided)
    compared = read_comparisons(study.out).aurocs
    assert {row.target for row in compared} == {
        "macro",
        "b",
        "c",
    }  # what all models were scored for
    aurocs = {(row.trained_on, row.data_set, row.target): row.value for row in compared}
    for row in rows:
        key = row.trained_on, row.data_set, row.target
        if row.measure == "auroc" and row.target in "bc":
            assert aurocs[key] == pytest.approx(row.value, abs=1e-5)
    assert "Do a few pixels do as well?" in page
    assert "Across findings" in page
    assert "secret" not in page


def test_sites_without_a_target_in_common_are_refused_before_anything_runs(
    values: dict[str, object], tmp_path: Path
) -> None:
    other = make_site(tmp_path / "other", ("d",))
    study = study_settings(values, evaluate_on=[{"data": values["data"]}, {"data": other}])
    words = r"evaluate_on: other has d, and models of first score a, b, c: no target in common; imp"
    for stage in (plan_study, run_study):
        with pytest.raises(InputError, match=words):
            stage(study)
    assert not study.out.exists()


def test_a_run_is_scored_for_some_of_its_targets(tmp_path: Path) -> None:
    data, run = make_site(tmp_path / "set", ("d", "c")), random_run(tmp_path / "run", ("a", "c"))
    asked = {"run": run, "dataset": data, "out": tmp_path / "out"}
    with pytest.raises(InputError, match=r"has no target a, .*evaluate what both have: targets="):
        run_evaluate(EvaluateSettings(**asked))
    with pytest.raises(
        InputError, match=r"targets: d: name some of those that the run scores.*a, c"
    ):
        run_evaluate(EvaluateSettings(**asked, targets=("d",)))
    out = run_evaluate(EvaluateSettings(**asked, targets=("c",)))
    assert (out / "predictions.csv").read_text().startswith("image,patient_id,c,score_c\n")
    whole = make_site(tmp_path / "whole", ("c", "a"))
    asked = {"run": run, "dataset": whole}
    every = run_evaluate(EvaluateSettings(**asked, out=tmp_path / "every"))
    one = run_evaluate(EvaluateSettings(**asked, out=tmp_path / "one", targets=("c",)))
    scores = [
        [line.split(",")[-1] for line in (folder / "predictions.csv").read_text().splitlines()[1:]]
        for folder in (every, one)
    ]
    assert scores[0] == scores[1]
