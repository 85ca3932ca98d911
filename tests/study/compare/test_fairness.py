import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from synthdp.config.settings import dump_settings, validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.evaluation.groups import MIN_PATIENTS, ONE_CLASS
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.statement import make_statement
from synthdp.storage.files import write_atomic, write_json
from synthdp.study.compare.fairness import (
    FAIRNESS_FILE,
    FairnessRow,
    fairness_of,
    read_fairness,
    write_fairness,
)
from synthdp.study.compare.results import ResultRow, evaluation_row, write_results
from synthdp.study.report.page import run_report
from synthdp.study.report.sections.fairness import fairness_views
from synthdp.study.report.settings import ReportSettings
from synthdp.study.settings import StudySettings
from synthdp.study.sweep.grid import evaluation_folder, refuse_unfit_attributes

N_PATIENTS = 48
EPSILONS = (1.0, 6.0, 20.0, None)
SEEDS = (0, 1)


def make_clinic(out: Path) -> Path:
    """Patients of one image each, by view, and by age, which some have not told."""
    with create_dataset(out, DatasetInfo(name="clinic", kind="real", size_px=8)) as writer:
        for patient in range(N_PATIENTS):
            writer.add(
                np.zeros((8, 8), np.uint8),
                patient_id=f"secret-{patient}",
                split="val",
                targets=[patient % 2],
                attributes={
                    "view": ("CC", "MLO")[patient // 2 % 2],
                    "age": "" if patient < 4 else str(40 + patient),
                    "side": "one-sided" if patient % 4 == 1 else "both",
                },
            )
    return out


def make_study(tmp_path: Path, **changes: object) -> tuple[Path, list[ResultRow]]:
    """A finished study whose models tell the classes apart the better, the larger epsilon."""
    clinic = open_dataset(make_clinic(tmp_path / "clinic"))
    study, rows = tmp_path / "study", []
    for epsilon in EPSILONS:
        for seed in SEEDS:
            run = f"finetune-{epsilon}-{seed}"
            out = evaluation_folder(study, run, "clinic", "val")
            rng = np.random.default_rng(seed)
            strength = 3.0 if epsilon is None else math.log(epsilon + 1)
            lines = ["image,patient_id,malignant,score_malignant"]
            for row in clinic.rows:
                logit = strength * (row.targets[0] - 0.5) + rng.normal()
                score = 1 / (1 + math.exp(-logit))
                lines.append(f"{row.image},{row.patient_id},{row.targets[0]:.0f},{score:.9g}")
            write_atomic(out / "predictions.csv", "\n".join(lines) + "\n")
            value = {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}
            names = ("auroc", "auprc", "sensitivity", "specificity")
            metrics = dict.fromkeys(names, value)
            counts = {"n_images": N_PATIENTS, "n_patients": N_PATIENTS, "threshold": 0.5}
            write_json(out / "metrics.json", {**metrics, **counts})
            mu = math.inf if epsilon is None else gaussian_mu(epsilon, 1e-4)
            stage = Release(stage="finetune", data="clinic", mu=mu)
            rows.append(
                evaluation_row(
                    strategy="real_only",
                    epsilon=epsilon,
                    seed=seed,
                    data_set="clinic",
                    split="val",
                    run=run,
                    metrics={**metrics, **counts},
                    statement=make_statement(
                        Lineage(releases=(stage,)), subject="model", stage=stage
                    ),
                )
            )
    write_results(study / "results.csv", rows)
    values = {
        "data": clinic.root,
        "out": study,
        "strategies": "real_only",
        "epsilons": ["none" if epsilon is None else epsilon for epsilon in EPSILONS],
        "seeds": SEEDS,
        "evaluate_on": [{"data": clinic.root}],
        "fairness": {"attributes": {"view": None, "age": [60]}, "redraws": 100},
        **changes,
    }
    settings = validate_settings(StudySettings, values, where="study")
    write_atomic(study / "config.yaml", dump_settings(settings))
    return study, rows


def chosen(rows: list[FairnessRow], **wanted: object) -> FairnessRow:
    (found,) = [
        row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())
    ]
    return found


def test_a_study_is_judged_by_the_mean_over_its_seeds(tmp_path: Path) -> None:
    study, results = make_study(tmp_path)
    rows = fairness_of(study, results)
    auroc = chosen(rows, epsilon=6.0, attribute="view", group="CC", measure="auroc")
    each = []
    for seed in SEEDS:
        folder = evaluation_folder(study, f"finetune-6.0-{seed}", "clinic", "val")
        lines = (folder / "predictions.csv").read_text().splitlines()[1:]
        here = [line.split(",")[2:] for index, line in enumerate(lines) if index // 2 % 2 == 0]
        each.append(roc_auc_score(*zip(*[(int(a), float(b)) for a, b in here], strict=True)))
    assert auroc.value == pytest.approx(np.mean(each), abs=1e-6)
    assert (auroc.n_seeds, auroc.n_images, auroc.n_patients, auroc.threshold) == (2, 24, 24, 0.5)
    unknown = chosen(rows, epsilon=6.0, attribute="age", group="unknown", measure="auroc")
    assert (unknown.value, unknown.n_images) == (None, 4)
    assert unknown.note.startswith("too few")
    assert {row.group for row in rows if row.attribute == "age"} == {
        "below 60", "60 and above", "unknown", "",
    }  # fmt: skip
    loss = chosen(rows, epsilon=1.0, attribute="view", group="CC", measure="auroc_loss")
    assert loss.value is not None
    assert loss.value > 0.05
    assert not [row for row in rows if row.epsilon is None and row.measure == "auroc_loss"]


def test_epsilon_and_parity_correlate_over_the_finite_epsilons(tmp_path: Path) -> None:
    study, results = make_study(tmp_path)
    rows = fairness_of(study, results)
    through = chosen(rows, epsilon="all", attribute="view", measure="r_epsilon_parity")
    assert (through.measure, through.n_points, through.note) == (
        "r_epsilon_parity", 3, "of 3 epsilons",
    )  # fmt: skip
    parities = [
        chosen(
            rows, epsilon=epsilon, attribute="view", measure="statistical_parity_difference"
        ).value
        for epsilon in (1.0, 6.0, 20.0)
    ]
    assert through.value == pytest.approx(np.corrcoef([1, 6, 20], parities)[0, 1])


def test_epsilon_and_the_papers_difference_correlate_with_an_interval(tmp_path: Path) -> None:
    study, results = make_study(tmp_path)
    rows = fairness_of(study, results)
    through = chosen(rows, epsilon="all", attribute="view", measure="r_epsilon_accuracy")
    differences = [
        chosen(
            rows, epsilon=epsilon, attribute="view", group="CC",
            measure="accuracy_difference_paper",
        ).value
        for epsilon in (1.0, 6.0, 20.0)
    ]  # fmt: skip
    assert through.value == pytest.approx(np.corrcoef([1, 6, 20], differences)[0, 1])
    assert through.ci_low is not None
    assert (through.group, through.n_points) == ("CC", 3)


def test_a_figure_through_epsilons_has_the_fewest_seeds_of_them(tmp_path: Path) -> None:
    study, results = make_study(tmp_path)
    fewer = [row for row in results if (row.epsilon, row.seed) != (6.0, 1)]
    rows = fairness_of(study, fewer)
    for measure in ("r_epsilon_parity", "r_epsilon_accuracy"):
        assert chosen(rows, epsilon="all", attribute="view", measure=measure).n_seeds == 1


def test_models_share_the_redraws_so_that_like_ones_lose_nothing(tmp_path: Path) -> None:
    study, results = make_study(tmp_path)
    for seed in SEEDS:
        free, private = (
            evaluation_folder(study, f"finetune-{epsilon}-{seed}", "clinic", "val")
            for epsilon in (None, 6.0)
        )
        shutil.copy(private / "predictions.csv", free / "predictions.csv")
    rows = fairness_of(study, results)
    auroc = chosen(rows, epsilon=6.0, attribute="view", group="CC", measure="auroc")
    assert auroc.ci_low != auroc.ci_high
    loss = chosen(rows, epsilon=6.0, attribute="view", group="CC", measure="auroc_loss")
    assert (loss.value, loss.ci_low, loss.ci_high) == (0, 0, 0)


def test_rows_survive_the_file_and_stand_until_asked_for_anew(tmp_path: Path) -> None:
    study, results = make_study(tmp_path)
    rows = fairness_of(study, results)
    again = read_fairness(study / FAIRNESS_FILE)
    assert [row.measure for row in again] == [row.measure for row in rows]
    for one, other in zip(rows, again, strict=True):
        assert other.model_dump(exclude={"value", "ci_low", "ci_high"}) == one.model_dump(
            exclude={"value", "ci_low", "ci_high"}
        )
        assert (other.value is None) == (one.value is None)
        assert other.value is None or other.value == pytest.approx(one.value, abs=1e-6)
    write_fairness(study / FAIRNESS_FILE, again[:3])
    assert fairness_of(study, results) == again[:3]
    text = (study / FAIRNESS_FILE).read_text()
    assert "secret" not in text
    assert str(tmp_path) not in text


def test_a_report_shows_groups_and_takes_other_columns(tmp_path: Path) -> None:
    study, _ = make_study(tmp_path, fairness=None)
    page = run_report(ReportSettings(study=study)).read_text()
    assert "serve all groups" not in page
    page = run_report(ReportSettings(study=study, fairness=["view"])).read_text()
    assert "Does it serve all groups alike?" in page
    assert "group CC" in page
    assert "secret" not in page
    assert "Groups by view, called positive from 0.500" in page
    (view,) = fairness_views(read_fairness(study / FAIRNESS_FILE))
    assert len(view.groups) == 2 * len(EPSILONS)
    assert len(view.between) == len(EPSILONS)
    assert [row.epsilon for row, _ in view.between] == [1.0, 6.0, 20.0, None]


def test_a_report_says_why_groups_cannot_be_shown(tmp_path: Path) -> None:
    study, _ = make_study(tmp_path)
    folder = evaluation_folder(study, "finetune-6.0-1", "clinic", "val")
    lines = (folder / "predictions.csv").read_text().splitlines()
    write_atomic(folder / "predictions.csv", "\n".join(lines[:-1]) + "\n")
    page = run_report(ReportSettings(study=study)).read_text()
    assert "made of other images" in page
    with pytest.raises(InputError, match="made of other images"):
        run_report(ReportSettings(study=study, fairness=["view"]))


@pytest.mark.parametrize(
    ("epsilon", "seeds"),
    [(6.0, SEEDS[1:]), (1.0, SEEDS), (None, SEEDS)],
    ids=["one seed", "the first cell", "the last cell"],
)
def test_models_of_other_labels_are_not_judged_on_shared_redraws(
    tmp_path: Path, epsilon: float | None, seeds: tuple[int, ...]
) -> None:
    study, results = make_study(tmp_path)
    for seed in seeds:
        folder = evaluation_folder(study, f"finetune-{epsilon}-{seed}", "clinic", "val")
        path = folder / "predictions.csv"
        path.write_text(path.read_text().replace("secret-0,0", "secret-0,1", 1))
    with pytest.raises(InputError, match=rf"finetune-{epsilon}-\d-clinic-val: .* labels") as caught:
        fairness_of(study, results)
    assert "secret" not in str(caught.value)


def test_a_report_tells_groups_of_one_class_and_which_setting_a_correlation_is_of(
    tmp_path: Path,
) -> None:
    study, results = make_study(tmp_path, fairness={"attributes": ["view", "side"], "redraws": 20})
    rows = fairness_of(study, results)
    one_class = [row for row in rows if row.group == "one-sided"]
    assert {row.note.split(";")[0] for row in one_class} == {ONE_CLASS}
    tuned = '{"finetune.steps": 400}'
    write_fairness(
        study / FAIRNESS_FILE,
        [row.model_copy(update={"tuned": tuned}) if row.epsilon == "all" else row for row in rows],
    )
    page = run_report(ReportSettings(study=study)).read_text()
    assert f'one-sided<span class="interval">{ONE_CLASS}</span>' in page
    assert "finetune.steps = 400: Pearson" in page
    assert f"fewer than {MIN_PATIENTS} patients of a class" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("secret-0,", "secret-1,", 1), r"1 image\(s\) are not those"),
        (lambda text: text.replace("malignant,score", "malignant,scope", 1), "no column of scores"),
        (lambda text: text.replace("secret-0,0", "secret-0,2", 1), "row 2: a label is not 0, 1"),
        (lambda text: text.replace("secret-0,0,0.", "secret-0,0,nan", 1), "row 2: .* no number"),
        (lambda _: "", "predictions.csv: "),
    ],
)
def test_damaged_predictions_are_refused_without_telling_patients(
    tmp_path: Path, change: object, message: str
) -> None:
    study, results = make_study(tmp_path)
    for epsilon in EPSILONS:
        for seed in SEEDS:
            folder = evaluation_folder(study, f"finetune-{epsilon}-{seed}", "clinic", "val")
            assert callable(change)
            text = change((folder / "predictions.csv").read_text())
            write_atomic(folder / "predictions.csv", text)
    with pytest.raises(InputError, match=message) as caught:
        fairness_of(study, results)
    assert "secret" not in str(caught.value)


def test_a_column_that_a_set_lacks_is_refused_with_those_it_has(tmp_path: Path) -> None:
    study, results = make_study(tmp_path)
    settings = validate_settings(ReportSettings, {"study": study, "fairness": ["sex"]}, where="x")
    assert settings.fairness is not None
    with pytest.raises(InputError, match=r"clinic: has no column sex; .*: view, age"):
        fairness_of(study, results, settings.fairness)
    places = validate_settings(
        StudySettings,
        {
            "data": study, "out": study, "strategies": "real_only", "epsilons": [1], "seeds": [0],
            "evaluate_on": [{"data": tmp_path / "clinic"}],
        },
        where="study",
    ).evaluate_on  # fmt: skip
    with pytest.raises(InputError, match="no column sex"):
        refuse_unfit_attributes(settings.fairness, places)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("measure", "meazure", 1), r"differ .*measure"),
        (lambda text: text.replace(",auroc,", ",auc,", 1), r"row \d+"),
        (lambda text: text.replace(",auroc,", ",auroc,x", 1), r"row \d+"),
        (lambda text: text.replace("note", "note,more", 1), r"differ .*more"),
    ],
)
def test_a_broken_table_says_where(tmp_path: Path, change: object, message: str) -> None:
    study, results = make_study(tmp_path)
    fairness_of(study, results)
    assert callable(change)
    path = study / FAIRNESS_FILE
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message):
        read_fairness(path)
