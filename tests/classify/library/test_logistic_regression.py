"""The estimator: what it promises, what it reads, and how it goes with scikit-learn."""

import math
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from made_up import clinic_set
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import Tensor

import synthdp
from classify.head import train as head_training
from classify.library.logistic_regression import PrivateLogisticRegression
from synthdp.data.writer import DatasetWriter
from synthdp.errors import InputError
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.ledger import run_ledger as ledgers
from synthdp.privacy.noisy_sum import noise
from synthdp.privacy.promise.plan import statement_of

PUBLIC = {"epsilon": 6, "delta": 1e-3, "population": 100, "steps": 20}
#: Checks of scikit-learn that don't hold, and why they can't.
BY_DESIGN = {
    "check_estimators_empty_data_messages": "that a patient is missing is not to be told",
    "check_estimators_pickle": "a score of what is no number is refused",
    "check_classifiers_classes": "labels are declared (classes), never read from y",
    "check_classifiers_train": "labels are declared (classes), never read from y",
    "check_supervised_y_no_nan": "a label may be unknown",
    "check_decision_proba_consistency": "of more than two classes each is against all others",
}
NOISE = {
    "check_classifier_data_not_an_array": "two fits differ by their noise",
    "check_supervised_y_2d": "two fits differ by their noise",
    "check_fit_idempotent": "two fits differ by their noise",
}


@parametrize_with_checks(
    [
        PrivateLogisticRegression(math.inf, 1e-3, 100, steps=2, classes=(0, 1, 2, 3)),
        PrivateLogisticRegression(20, 1e-3, 100, steps=2, classes=(0, 1, 2, 3)),
    ],
    expected_failed_checks=lambda estimator: (
        BY_DESIGN if math.isinf(estimator.epsilon) else BY_DESIGN | NOISE
    ),
)
def test_what_scikit_learn_asks_of_an_estimator(estimator: object, check: object) -> None:
    check(estimator)


def clinic(n_patients: int = 40, images: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of patients, of whom every second is malignant, and the patients' names."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(n_patients), images)
    y = patients % 2
    rows = rng.normal(size=(len(y), 6)) + np.outer(2 * y - 1, np.ones(6))
    return rows, y, np.array([f"secret-{patient:03d}" for patient in patients])


def fitted(ledger: Path | None = None, **changes: object) -> PrivateLogisticRegression:
    rows, y, patients = clinic()
    model = PrivateLogisticRegression(**(PUBLIC | changes), ledger=ledger)
    return model.fit(rows, y, groups=patients)


def test_it_learns_and_states_what_it_promises() -> None:
    rows, y, patients = clinic(200)
    model = PrivateLogisticRegression(6, 1e-4, 300).fit(rows, y, groups=patients)
    assert model.score(rows, y) > 0.9
    assert model.epsilon_ == model.statement_.epsilon == pytest.approx(6, rel=1e-3)
    shares = model.predict_proba(rows)
    assert np.allclose(shares.sum(axis=1), 1)
    assert ((shares[:, 1] > 0.5) == model.predict(rows)).all()
    message = str(model.statement_)
    assert "epsilon = 6 for each patient, end to end" in message
    assert "kept in memory, so that no record counts it" in message
    assert "which rows are one patient's" in message


def test_rows_without_groups_are_each_a_patient_and_that_is_said(tmp_path: Path) -> None:
    rows, y, _ = clinic()
    model = PrivateLogisticRegression(**PUBLIC, ledger=tmp_path / "mine").fit(rows, y)
    assert "that each row is one patient, since no groups were given" in str(model.statement_)
    together = str(statement_of([tmp_path / "mine"]))  # made of records alone
    assert "each row counted as a patient, since no groups were given" in together


def sums(
    monkeypatch: pytest.MonkeyPatch, *fit: object, **changes: object
) -> tuple[list[Tensor], PrivateLogisticRegression]:
    """What each step sums before its noise, which has one key; and the fitted model."""
    totals: list[Tensor] = []
    noisy_mean = head_training.noisy_mean

    def recorded(total: Tensor, *rest: object) -> Tensor:
        totals.append(total)
        return noisy_mean(total, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(head_training, "noisy_mean", recorded)
        patch.setattr(noise, "new_key", lambda: b"k" * KEY_BYTES)
        patch.setattr(ledgers, "new_token", lambda: "a" * 16)
        patch.setattr("classify.library.ledger_folder.new_release_id", lambda: "b" * 16)
        model = PrivateLogisticRegression(**(PUBLIC | changes)).fit(*fit)
    return totals, model


@pytest.mark.parametrize("extreme", [1.0, 1e6, math.inf])
def test_a_neighbour_moves_a_sum_by_the_clip_norm_and_no_public_number(
    monkeypatch: pytest.MonkeyPatch, extreme: float
) -> None:
    rows, y, patients = clinic()
    rows[patients == "secret-007"] *= extreme
    without = patients != "secret-007"
    whole, model = sums(monkeypatch, rows, y, patients, clip_norm=0.01)
    others, neighbour = sums(
        monkeypatch, rows[without], y[without], patients[without], clip_norm=0.01
    )
    assert len(whole) == len(others) == PUBLIC["steps"]
    moved = float((whole[0] - others[0]).norm())
    assert moved <= 0.01
    assert (moved > 0.009) == math.isfinite(extreme)
    assert model.statement_ == neighbour.statement_
    assert not np.array_equal(model.coef_, neighbour.coef_) or math.isinf(extreme)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_torchs_default_floats_change_nothing(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, model = sums(monkeypatch, *clinic())
    torch.set_default_dtype(dtype)
    try:
        totals, other = sums(monkeypatch, *clinic())
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, two) for one, two in zip(totals, expected, strict=True))
    assert np.array_equal(other.coef_, model.coef_)


def test_one_class_alone_or_nobody_at_all_is_fitted_like_anybody() -> None:
    rows, y, patients = clinic()
    for some in (y == 0, y > 1):
        model = PrivateLogisticRegression(**PUBLIC).fit(rows[some], y[some], groups=patients[some])
        assert model.classes_.tolist() == [0, 1]
        assert np.isfinite(model.coef_).all()


def test_an_unknown_label_and_a_row_that_is_no_number_count_as_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, y, patients = clinic()
    gone = patients == "secret-007"
    unknown, broken = y.astype(float), rows.copy()
    unknown[gone], broken[gone] = math.nan, math.nan
    less, _ = sums(monkeypatch, rows[~gone], y[~gone], patients[~gone])
    for fit in ((rows, unknown, patients), (broken, y, patients)):
        assert (sums(monkeypatch, *fit)[0][0] == less[0]).all()


def test_a_patient_counts_once_however_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, y, patients = clinic(images=1)
    once, _ = sums(monkeypatch, rows, y, patients)
    again = (np.concatenate([rows] * 3), np.concatenate([y] * 3), np.concatenate([patients] * 3))
    assert (
        float((sums(monkeypatch, *again)[0][0] - once[0]).abs().max()) < 5e-4
    )  # each row is rounded to a step


def test_two_fits_are_two_releases_in_a_ledger_on_disk(tmp_path: Path) -> None:
    first, second = fitted(tmp_path / "mine"), fitted(tmp_path / "mine")
    assert not first.statement_.on_record
    (record,) = second.statement_.on_record
    assert record.other_releases == 1
    assert record.epsilon > second.epsilon_
    assert "kept in memory" not in str(second.statement_)
    together = statement_of([tmp_path / "mine"])
    assert len(together.lineage.releases) == 2
    assert together.epsilon == pytest.approx(record.epsilon)
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        *("dataset.json", "manifest.csv", "images", "private")
    } - {"images"}
    assert not [path for path in (tmp_path / "mine").rglob("*") if "secret" in path.name]


def test_the_ledger_may_be_that_of_the_patients_data_set(tmp_path: Path) -> None:
    clinic_set(tmp_path / "clinic", n_patients=40)
    assert fitted(tmp_path / "clinic").epsilon_ == pytest.approx(6, rel=1e-3)
    assert len(statement_of([tmp_path / "clinic"]).lineage.releases) == 1


def test_a_budget_is_kept(tmp_path: Path) -> None:
    fitted(tmp_path / "mine")
    from synthdp.data.budget import change_budget  # noqa: PLC0415

    change_budget(tmp_path / "mine", epsilon="7", delta=1e-3, because="agreed")
    with pytest.raises(InputError, match="budget"):
        fitted(tmp_path / "mine")
    assert len(statement_of([tmp_path / "mine"]).lineage.releases) == 1


def test_a_set_without_patients_counts_nothing_and_is_refused(tmp_path: Path) -> None:
    clinic_set(tmp_path / "drawn", kind="phantom")
    with pytest.raises(InputError, match="a set without patients"):
        fitted(tmp_path / "drawn")


def test_without_privacy_epsilon_is_infinite(tmp_path: Path) -> None:
    model = fitted(tmp_path / "mine", epsilon=math.inf)
    assert math.isinf(model.epsilon_)
    assert "trained without differential privacy" in str(model.statement_)
    assert math.isinf(fitted(tmp_path / "mine").statement_.on_record[0].epsilon)


def test_a_random_state_moves_no_noise() -> None:
    assert not np.array_equal(fitted(random_state=1).coef_, fitted(random_state=1).coef_)


def test_rows_are_scaled_by_public_numbers_alone() -> None:
    rows, y, patients = clinic()
    model = PrivateLogisticRegression(**PUBLIC, centre=0.5, data_norm=2.0)
    scaled = model._scaled(rows)
    assert (np.linalg.norm(scaled, axis=1) <= 1 + 1e-6).all()
    assert np.array_equal(scaled[:3], model._scaled(rows[:3]))
    short = np.linalg.norm(rows - 0.5, axis=1) < 2
    assert short.any()
    assert np.allclose(scaled[short], (rows[short] - 0.5) / 2)
    with pytest.raises(InputError, match="centre"):
        PrivateLogisticRegression(**PUBLIC, centre=np.ones((6, 6))).fit(rows, y, patients)


def test_pipelines_hand_groups_on() -> None:
    rows, y, patients = clinic()
    with sklearn.config_context(enable_metadata_routing=True):
        model = PrivateLogisticRegression(**PUBLIC).set_fit_request(groups=True)
        pipeline = make_pipeline(FunctionTransformer(np.tanh), Normalizer(), model)
        pipeline.fit(rows, y, groups=patients)
    assert "which rows are one patient's" in str(pipeline[-1].statement_)
    direct = make_pipeline(Normalizer(), PrivateLogisticRegression(**PUBLIC))
    direct.fit(rows, y, privatelogisticregression__groups=patients)
    assert "which rows are one patient's" in str(direct[-1].statement_)


def test_a_copy_keeps_its_settings_and_nothing_that_was_learnt() -> None:
    model = fitted()
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "statement_")
    assert copy.set_params(epsilon=3).epsilon == 3


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("inside", [False, True])
def test_what_fits_on_the_patients_scores_is_refused(jobs: int, inside: bool) -> None:
    rows, y, _ = clinic()
    model = PrivateLogisticRegression(**PUBLIC)
    estimator = make_pipeline(Normalizer(), model) if inside else model
    key = "privatelogisticregression__steps" if inside else "steps"
    search = GridSearchCV(estimator, {key: [5, 10]}, n_jobs=jobs, cv=2)
    with pytest.raises(InputError, match=r"GridSearchCV.*chooses settings by scores"):
        search.fit(rows, y)
    with pytest.raises(InputError, match="fits probabilities to scores"):
        CalibratedClassifierCV(estimator, cv=2).fit(rows, y)


def test_a_figure_by_cross_validation_counts_each_fit(tmp_path: Path) -> None:
    rows, y, patients = clinic()
    model = PrivateLogisticRegression(**PUBLIC, ledger=tmp_path / "mine")
    cross_val_score(model, rows, y, groups=patients, cv=GroupKFold(2), params={"groups": patients})
    assert len(statement_of([tmp_path / "mine"]).lineage.releases) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epsilon": 0}, "epsilon is 0"),
        ({"epsilon": "6"}, "epsilon is '6'"),
        ({"epsilon": None}, "epsilon is None"),
        ({"delta": 0.1}, "not below 1/population"),
        ({"population": 0}, "population"),
        ({"steps": 0}, "steps"),
        ({"classes": (0,)}, "classes"),
        ({"classes": (0, 2)}, "none of classes"),
        ({"data_norm": -1}, "data_norm"),
        ({"centre": math.nan}, "centre"),
        ({"clip_norm": 0}, "clip_norm"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_spent(
    changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        fitted(tmp_path / "mine", **changes)
    assert (
        not (tmp_path / "mine").exists() or not statement_of([tmp_path / "mine"]).lineage.releases
    )


def made_with(*before: object) -> Pipeline:
    return make_pipeline(*before, PrivateLogisticRegression(**PUBLIC))


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ((StandardScaler(),), r"the step standardscaler \(StandardScaler\)"),
        ((Normalizer(), PCA(2)), r"the step pca \(PCA\)"),
        ((make_pipeline(StandardScaler()),), r"the step pipeline(-1)? \(Pipeline\)"),
    ],
)
def test_what_a_pipeline_fits_on_the_patients_is_refused(
    before: tuple[object, ...], words: str
) -> None:
    rows, y, _ = clinic()
    with pytest.raises(InputError, match=words):
        made_with(*before).fit(rows, y)
    with pytest.raises(InputError, match=words):
        make_pipeline(*before, made_with("passthrough")).fit(rows, y)


def test_what_was_fitted_on_public_rows_may_stand_in_a_pipeline() -> None:
    rows, y, _ = clinic()
    public = FrozenEstimator(StandardScaler().fit(rows[::-1] + 1))
    made_up = make_pipeline(Normalizer(), FunctionTransformer(np.tanh))
    assert made_with("passthrough", made_up, public).fit(rows, y)[-1].epsilon_ <= 6


def test_labels_may_be_words_of_which_some_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, y, patients = clinic()
    gone = patients == "secret-007"
    words = np.where(y == 1, "malignant", "benign").astype(object)
    words[gone] = None
    less, _ = sums(monkeypatch, rows[~gone], y[~gone], patients[~gone])
    named = {"classes": ("benign", "malignant")}
    assert (sums(monkeypatch, rows, words, patients, **named)[0][0] == less[0]).all()


def test_fits_at_the_same_time_may_make_one_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, raced = DatasetWriter.finish, []

    def after_another(writer: DatasetWriter) -> object:
        if not raced:
            raced.append(1)
            fitted(tmp_path / "mine")
        return finish(writer)

    monkeypatch.setattr(DatasetWriter, "finish", after_another)
    fitted(tmp_path / "mine")
    assert len(statement_of([tmp_path / "mine"]).lineage.releases) == 2


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_row_without_a_patient_is_refused(missing: object) -> None:
    rows, y, patients = clinic()
    groups = patients.astype(object) if missing is None else np.arange(len(y), dtype=float)
    groups[3] = missing
    with pytest.raises(InputError, match="a row has no patient"):
        PrivateLogisticRegression(**PUBLIC).fit(rows, y, groups=groups)


def test_it_is_the_public_name() -> None:
    assert synthdp.PrivateLogisticRegression is PrivateLogisticRegression
