"""A study whose models are scored on the patients that they never met."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree, rmtree

import pytest
from made_up import clinic_set, study_settings

from synthdp.data.dataset import open_dataset
from synthdp.data.people.folds import fold_of, rows_outside_fold
from synthdp.errors import InputError, RunError
from synthdp.evaluation.predictions import read_predictions
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.stated import read_statement
from synthdp.releases.release import Asked, release
from synthdp.runs.folder import StageCall
from synthdp.stages import STAGES
from synthdp.storage.files import read_json
from synthdp.study import stage
from synthdp.study.compare.cross_validated import laid_together
from synthdp.study.compare.results import read_results, result_rows, write_results
from synthdp.study.plan import plan_study
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings
from synthdp.study.settings import StudySettings
from synthdp.study.stage import run_study
from synthdp.study.sweep import run as sweep
from synthdp.study.sweep.grid import evaluation_folder, expand_evaluations, expand_grid

FOLDS = {"folds": 3}


def cross_validated(values: dict[str, object], **changes: object) -> StudySettings:
    without = {key: value for key, value in values.items() if key != "evaluate_on"}
    return study_settings(without, **{"cross_validation": FOLDS, **changes})


def test_each_model_is_scored_on_the_fold_that_it_never_met(values: dict[str, object]) -> None:
    settings = cross_validated(values, epsilons=[6], seeds=[0])
    rows = expand_grid(settings)
    assert [str(row.fold) for row in rows] == ["1/3", "2/3", "3/3"]
    for one in expand_evaluations(settings, rows):
        left_out = one.row.calls[-1].setting("leave_out")
        assert left_out == one.row.fold == one.call.setting("fold")
        assert (one.split, one.call.setting("split")) == ("cross-validated", "train")


def test_shares_declare_their_own_number_of_patients(values: dict[str, object]) -> None:
    asked = {"folds": 3, "shares": {0.25: 20, 2 / 3: 45}}
    rows = expand_grid(cross_validated(values, epsilons=[6], seeds=[0], cross_validation=asked))
    calls = [row.calls[-1] for row in rows]
    seen = {(row.trained_on, call.setting("share"), call.setting("privacy").population)
            for row, call in zip(rows, calls, strict=True)}  # fmt: skip
    assert seen == {("a share of 0.25", 0.375, 20), ("a share of 0.666667", None, 45)}
    assert Counter(row.trained_on for row in rows) == {
        "a share of 0.25": 3,
        "a share of 0.666667": 3,
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudySettings:
    """A finished study of two recipes, of which one never meets a patient."""
    from made_up import small_study  # noqa: PLC0415 (as the fixture `values` has it)

    root = tmp_path_factory.mktemp("cross-validated")
    settings = cross_validated(
        small_study(root),
        phantoms=clinic_set(root / "phantoms", "phantom"),
        strategies=["real_only", "phantoms_only"],
        pretrain={"trainable_blocks": 0, "epochs": 1},
        epsilons=[6],
    )
    run_study(settings)
    return settings


def test_results_have_a_row_for_all_folds_of_a_seed(study: StudySettings) -> None:
    rows = read_results(study.out / "results.csv")
    assert [(row.strategy, row.seed) for row in rows] == [
        ("real_only", 0), ("real_only", 1), ("phantoms_only", 0), ("phantoms_only", 1),
    ]  # fmt: skip
    dataset = open_dataset(study.data)
    for row in rows:
        assert (row.data_set, row.split, row.state) == ("clinic", "cross-validated", "finished")
        assert row.n_patients == len({one.patient_id for one in dataset.rows})
        folder = evaluation_folder(study.out, row.run, row.data_set, row.split)
        assert read_predictions(folder).images == tuple(one.image for one in dataset.rows)
    assert "cross-validated" in (study.out / "report.html").read_text()


def test_scores_of_a_fold_are_of_the_model_that_never_met_it(study: StudySettings) -> None:
    dataset = open_dataset(study.data)
    for one in expand_evaluations(study, expand_grid(study)):
        if one.row.fold is None:
            continue
        met = rows_outside_fold(dataset.rows, one.row.fold, None)
        scored = set(read_predictions(one.folder).images)
        assert scored.isdisjoint(row.image for row in met)
        assert {fold_of(row.patient_id, 3) for row in dataset.rows if row.image in scored} == {
            one.row.fold.part
        }


def test_the_study_promises_for_the_models_of_all_folds(study: StudySettings) -> None:
    spent = {release.id for release in read_statement(study.out).lineage.releases}
    trained = [row.model for row in expand_grid(study) if row.strategy == "real_only"]
    own = {release.id for run in trained for release in read_statement(run).lineage.releases}
    assert len(own) == 6  # three folds, two seeds
    assert own <= spent
    private = read_json(study.out / "privacy-dp.json")
    assert {one["id"] for one in private["lineage"]["releases"]} == own
    assert plan_study(study).epsilon == pytest.approx(read_statement(study.out).epsilon, rel=1e-6)


def test_scores_are_laid_together_anew_when_a_fold_has_others(
    study: StudySettings, tmp_path: Path
) -> None:
    settings = study.model_copy(update={"out": tmp_path / "study"})
    copytree(study.out, settings.out)
    row = read_results(settings.out / "results.csv")[0]
    folder = evaluation_folder(settings.out, row.run, row.data_set, row.split)
    before = read_predictions(folder)
    fold = evaluation_folder(settings.out, row.run, row.data_set, "fold 1 of 3")
    lines = (fold / "predictions.csv").read_text().splitlines()
    first, *cells = lines[1].split(",")
    moved = ",".join([first, *cells[:-1], f"{1 - float(cells[-1]):.9g}"])
    (fold / "predictions.csv").write_text("\n".join([lines[0], moved, *lines[2:]]) + "\n")
    laid_together(settings.out, expand_evaluations(settings, expand_grid(settings)), {})
    assert not (read_predictions(folder).scores == before.scores).all()


def test_the_card_holds_no_score_of_patients_who_trained_other_folds(study: StudySettings) -> None:
    card = (study.out / "model-card.md").read_text()
    assert "## Privacy of each row" in card
    assert "## Results" not in card
    assert "model-index" not in card
    assert "AUROC" not in card


def test_a_row_promises_what_the_weakest_of_its_folds_does(
    study: StudySettings, tmp_path: Path
) -> None:
    settings = study.model_copy(update={"out": tmp_path / "study", "seeds": (0,)})
    copytree(study.out, settings.out)
    rows = [row for row in expand_grid(settings) if row.strategy == "real_only"]
    second = rows[1].calls[-1].settings
    rmtree(second.out)
    privacy = second.privacy.model_copy(update={"epsilon": 9})
    STAGES["finetune"].start(second.model_copy(update={"privacy": privacy}))
    weak = read_statement(second.out)
    assert weak.epsilon > 8 > max(read_statement(row.model).epsilon for row in rows[::2])

    evaluations = expand_evaluations(settings, rows)
    rmtree(evaluations[1].folder)  # scores of the model that stood there before
    STAGES["evaluate"].start(evaluations[1].call.settings)
    (row,) = result_rows(*laid_together(settings.out, evaluations, {}))
    assert (row.run, row.state) == (second.out.name, "finished")
    assert (row.epsilon_end_to_end, row.epsilon_stage) == (weak.epsilon, weak.epsilon_stage)
    folder = evaluation_folder(settings.out, row.run, row.data_set, row.split)
    assert len(read_predictions(folder).images) == row.n_images

    write_results(settings.out / "results.csv", [row])
    (settings.out / "privacy.json").unlink()  # as of a study that is not finished
    page = run_report(ReportSettings(study=settings.out)).read_text()
    assert "its promise is that of one model, the weakest over its folds" in page
    together = read_json(settings.out / "privacy-dp.json")
    assert together["epsilon"] > weak.epsilon + 1  # of all folds: more than of any row

    (rows[2].model / "privacy.json").unlink()
    (row,) = result_rows(*laid_together(settings.out, evaluations, {}))
    assert (row.state, row.epsilon_end_to_end) == ("failed", None)
    assert rows[2].model.name in row.error


def test_a_fold_that_failed_fails_its_cell_and_says_which(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cross_validated(values, epsilons=[6], seeds=[0])
    lost = expand_grid(settings)[1].model.name
    real = stage.run_grid

    def failing(*args: object, **named: object) -> dict[str, str]:
        return {**real(*args, **named), lost: "the disk is full"}

    monkeypatch.setattr(stage, "run_grid", failing)
    with pytest.raises(RunError, match="1 run"):
        run_study(settings)
    (row,) = read_results(settings.out / "results.csv")
    assert (row.state, row.error) == ("failed", "fold 2/3: the disk is full")


def test_what_is_left_of_a_failed_cell_is_stated_for_it_spent_what_it_spent(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cross_validated(values, epsilons=[6], seeds=[0])
    rows = expand_grid(settings)
    lost, real = rows[1].model.name, sweep.run_alike

    def failing(calls: Sequence[StageCall]) -> list[Exception | None]:
        return [ValueError() if one.folder == lost else real([one])[0] for one in calls]

    monkeypatch.setattr(sweep, "run_alike", failing)
    with pytest.raises(RunError, match="1 run"):
        run_study(settings)
    stand = [row.model for row in rows if row.model.name != lost]
    spent = {one.id for run in stand for one in read_statement(run).lineage.releases}
    assert len(spent) == 2
    assert private_releases(settings.out) == spent
    (settings.out / "study.json").unlink()  # as of a study that was killed before it was written
    run_report(ReportSettings(study=settings.out))
    assert private_releases(settings.out) == spent


def test_a_report_of_an_interrupted_study_counts_the_models_of_all_folds(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cross_validated(values, epsilons=[6], seeds=[0, 1])
    models = [row.model for row in expand_grid(settings)]
    last, real = models[-1].name, sweep.run_alike

    def interrupted(calls: Sequence[StageCall]) -> list[Exception | None]:
        if any(one.folder == last for one in calls):
            raise KeyboardInterrupt
        return real(calls)

    monkeypatch.setattr(sweep, "run_alike", interrupted)
    monkeypatch.setattr(sweep, "_JOBS_A_WORKER", 6)  # none waits for the last one
    with pytest.raises(KeyboardInterrupt):
        run_study(settings)
    run_report(ReportSettings(study=settings.out))
    stand = [run for run in models if (run / "privacy.json").is_file()]
    assert private_releases(settings.out) == {
        one.id for run in stand for one in read_statement(run).lineage.releases
    }


def test_where_a_fold_has_lost_its_promise_nothing_is_stated_of_the_others(
    study: StudySettings, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    copytree(study.out, out)
    run_report(ReportSettings(study=out))
    assert (out / "privacy-dp.json").is_file()
    fold = expand_grid(study)[1].model.name  # no row of the results names it
    (out / "runs" / fold / "privacy.json").unlink()
    (out / "privacy.json").unlink()  # as of a study that is not finished
    run_report(ReportSettings(study=out))
    assert not (out / "privacy-dp.json").exists()
    page = (out / "report.html").read_text()
    assert fold in page
    assert "Everything in this study" not in page


def test_what_leaves_of_it_tells_no_score_and_counts_nobody(
    study: StudySettings, tmp_path: Path
) -> None:
    """Each patient trained the models of all folds but one."""
    release(study.out, tmp_path / "left")
    inside = read_results(study.out / "results.csv")
    for row in read_results(tmp_path / "left" / "results.csv"):
        assert (row.auroc, row.n_patients, row.n_images) == (None, None, None)
    told = {f"{row.brier:.6f}"[:6] for row in inside if row.brier is not None}
    texts = [
        path.read_text()
        for path in (tmp_path / "left").rglob("*")
        if path.suffix in {".html", ".md", ".csv", ".json", ".yaml"}
    ]
    assert all(score in (study.out / "results.csv").read_text() for score in told)
    assert told
    assert not [score for score in told for text in texts if score in text]
    with pytest.raises(InputError, match="patients were trained on"):
        release(study.out, tmp_path / "scores", Asked(include=("scores",)))


def private_releases(study: Path) -> set[str]:
    """The releases that a study's `privacy-dp.json` counts."""
    return {one["id"] for one in read_json(study / "privacy-dp.json")["lineage"]["releases"]}


@pytest.mark.parametrize("role", ["synthetic", "private_synthetic", "phantoms"])
def test_a_set_whose_generator_met_those_who_are_held_out_is_refused(
    role: str, values: dict[str, object], tmp_path: Path
) -> None:
    for data in ("clinic", "elsewhere"):
        met = Lineage(releases=(Release(stage="train-gan", data=data, mu=0.1),))
        made = clinic_set(tmp_path / f"of-{data}", "synthetic", lineage=met)
        settings = cross_validated(values, **{role: made}, strategies=[f"real_and_{role}"])
        unused = cross_validated(values, **{role: made}, strategies=["real_only"])
        if data == "elsewhere":
            plan_study(settings)
            continue
        with pytest.raises(InputError, match="of-clinic: was made from patients of clinic"):
            plan_study(settings)
        if role != "phantoms":  # by which its features are centred
            plan_study(unused)


def test_a_share_declares_fewer_patients_than_the_import_did(
    values: dict[str, object], tmp_path: Path
) -> None:
    data = clinic_set(tmp_path / "imported", population=50)
    asked = {"folds": 3, "shares": {0.5: 20}}
    settings = cross_validated(values, data=data, epsilons=[6], seeds=[0], cross_validation=asked)
    assert plan_study(settings).epsilon > 6
    whole = cross_validated(values, data=data, epsilons=[6], seeds=[0], cross_validation=None,
                            evaluate_on=[{"data": data, "split": "train"}],
                            privacy={"population": 20, "delta": 1e-3})  # fmt: skip
    with pytest.raises(InputError, match="imported with a population of 50"):
        plan_study(whole)
    # delta is below one over all patients of the set, not over those of a share alone
    loose = settings.model_copy(
        update={"privacy": settings.privacy.model_copy(update={"delta": 0.03})}
    )
    with pytest.raises(InputError, match="not below 1/50"):
        plan_study(loose)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate_on": [{"data": "d", "split": "val"}]}, "leave evaluate_on out"),
        ({"transfer": {"sites": ["A"]}}, "leave transfer out"),
        ({"tune": {"finetune.head.steps": [10, 20]}}, "leave tune out"),
        ({"cross_validation": None}, "evaluate_on: name a split"),
        ({"cross_validation": {"folds": 1}}, "folds"),
        ({"cross_validation": {"folds": 4, "shares": {0.8: 10}}}, "hold 0.75 of the patients"),
        ({"finetune": {"leave_out": "1/3"}}, "the study itself gives"),
    ],
)
def test_what_does_not_fit_is_refused(
    values: dict[str, object], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        cross_validated(values, **changes)
