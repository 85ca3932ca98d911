"""Calibration: free and exact without patients, one noisy release that is paid for on patients."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import begin_record, clinic_set, random_run
from sklearn.metrics import roc_auc_score

from classify import calibrate as calibration
from classify.calibrate import noisy_points, run_calibrate
from classify.evaluate import run_evaluate
from classify.finetune import run_finetune
from classify.model.classifier import OperatingPoint, scores
from classify.model.folder import load_classifier
from classify.plans import plan_calibrate
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import CalibrateSettings, EvaluateSettings
from classify.setup.start import starting_classifier
from synthdp.config.settings import validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.evaluation.noisy_counts import BINS
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.ledger import steps
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.settings import PrivacySettings
from synthdp.releases.release import release
from synthdp.storage.files import read_json

RANDOM = FeatureSettings(name="test_vit", size_px=32)
PRIVACY = {"epsilon": 6, "delta": 1e-3, "population": 500}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clinic_set(tmp_path_factory.mktemp("data") / "clinic", n_patients=40)


@pytest.fixture(scope="module")
def private_run(clinic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("private") / "dp"
    privacy = PrivacySettings(epsilon=4, delta=1e-3, population=500)
    return run_finetune(FinetuneSettings(data=clinic, out=out, privacy=privacy, backbone=RANDOM))


@pytest.fixture
def own(clinic: Path, tmp_path: Path) -> Path:
    """A copy of the clinic whose ledger this test alone writes."""
    return begin_record(Path(shutil.copytree(clinic, tmp_path / "clinic")))


def asked(run: Path, data: Path, out: Path, **changes: object) -> CalibrateSettings:
    values = {"run": run, "data": data, "out": out, **changes}
    return validate_settings(CalibrateSettings, values, where="calibrate")


def point_of(out: Path) -> OperatingPoint:
    (point,) = load_classifier(out).points
    return point


def spent(data: Path) -> tuple[Release, ...]:
    return recorded_releases(open_dataset(data).ledger_path)


def metrics_of(run: Path, data: Path, out: Path) -> dict:
    settings = EvaluateSettings(run=run, dataset=data, split="train", out=out, redraws=10)
    return read_json(run_evaluate(settings) / "metrics.json")


def known_and_scored(run: Path, data: Path) -> tuple[np.ndarray, np.ndarray]:
    dataset = open_dataset(data)
    found = scores(load_classifier(run), dataset, dataset.rows)[:, 0]
    return np.array([row.targets[0] for row in dataset.rows]), found


def test_on_a_set_without_patients_it_is_exact_and_free(run: Path, tmp_path: Path) -> None:
    release_of_gan = Release(stage="train-gan", data="clinic", mu=0.5)
    data = clinic_set(
        tmp_path / "made", kind="synthetic", lineage=Lineage(releases=(release_of_gan,))
    )
    assert plan_calibrate(asked(run, data, tmp_path / "a")).lineage.releases == (release_of_gan,)
    out = run_calibrate(asked(run, data, tmp_path / "a"))
    statement = read_statement(out)
    assert statement.lineage.releases == (release_of_gan,)
    assert statement.epsilon_stage == 0
    assert spent(data) == ()
    point = point_of(out)
    assert (point.sensitivity, point.fitted_on) == (0.9, "made")
    before, after = (metrics_of(one, data, tmp_path / f"of-{one.name}") for one in (run, out))
    assert after["auroc"]["value"] == before["auroc"]["value"]
    assert (before["threshold"], after["threshold"]) == (0.5, point.threshold)
    targets, found = known_and_scored(out, data)
    called = found[targets == 1] >= point.threshold
    assert after["sensitivity"]["value"] == pytest.approx(called.mean())
    _, plain = known_and_scored(run, data)
    logits = np.log(plain / (1 - plain.astype(float)))
    assert found == pytest.approx(1 / (1 + np.exp(-point.slope * logits - point.offset)), abs=1e-5)


def test_each_patient_weighs_the_same(run: Path, tmp_path: Path) -> None:
    data = clinic_set(tmp_path / "made", kind="phantom", n_patients=30)
    out = run_calibrate(asked(run, data, tmp_path / "a", sensitivity=0.8))
    targets, found = known_and_scored(out, data)
    ids = [row.patient_id for row in open_dataset(data).rows]
    weights = np.array([1 / ids.count(name) for name in ids]) * targets
    reached = weights[found >= point_of(out).threshold].sum() / weights.sum()
    assert 0.8 - 1e-9 <= reached < 0.8 + 2 * weights.max() / weights.sum()


def test_it_composes_to_the_target_and_never_beyond(
    private_run: Path, own: Path, tmp_path: Path
) -> None:
    settings = asked(private_run, own, tmp_path / "a", privacy=PRIVACY)
    planned = plan_calibrate(settings)
    assert planned.epsilon == pytest.approx(6, rel=1e-3)
    assert spent(own) == ()
    out = run_calibrate(settings)
    statement = read_statement(out)
    assert statement.epsilon <= 6
    assert statement.epsilon == pytest.approx(6, rel=1e-3)
    trained, calibrated = statement.lineage.releases
    assert (trained.stage, calibrated.stage) == ("finetune", "calibrate")
    whole = Release(stage="all", data="d", mu=np.hypot(trained.mu, calibrated.mu)).loss
    assert statement.epsilon == pytest.approx(whole.epsilon(1e-3), rel=1e-9)
    assert spent(own) == (calibrated,)
    assert not (out / "private" / "noise.key").exists()
    assert "optimistic" in (out / "card.md").read_text()
    _, plain = known_and_scored(private_run, own)
    targets, found = known_and_scored(out, own)
    assert roc_auc_score(targets, found) == roc_auc_score(targets, plain)
    stamp = (out / "status.json").stat().st_mtime_ns
    assert run_calibrate(settings) == out  # at once
    assert (out / "status.json").stat().st_mtime_ns == stamp
    assert len(spent(own)) == 1


@pytest.mark.parametrize("data", ["real", "phantom"])
def test_what_was_spent_already_is_refused(private_run: Path, tmp_path: Path, data: str) -> None:
    place = clinic_set(tmp_path / "clinic", kind=data, as_real=data == "phantom")
    with pytest.raises(InputError, match="has spent 4 already"):
        run_calibrate(asked(private_run, place, tmp_path / "a", privacy={**PRIVACY, "epsilon": 4}))
    assert spent(place) == ()
    assert not (tmp_path / "a").exists()


def test_without_an_epsilon_patients_are_unprotected_and_it_says_so(
    run: Path, own: Path, tmp_path: Path
) -> None:
    out = run_calibrate(asked(run, own, tmp_path / "a"))
    statement = read_statement(out)
    assert statement.epsilon == np.inf
    assert "calibrated without differential privacy" in statement.because
    assert spent(own)[0].mu == np.inf


def test_a_test_key_promises_nothing(run: Path, own: Path, tmp_path: Path) -> None:
    privacy = {**PRIVACY, "fixed_noise_key": 3}
    out = run_calibrate(asked(run, own, tmp_path / "a", privacy=privacy))
    assert read_statement(out).epsilon == np.inf


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["before_noise", "after_noise", "before_the_end"])
def test_killed_at_any_moment_it_is_counted_once_and_drawn_once(
    run: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    settings = asked(run, own, tmp_path / "a", privacy=PRIVACY)
    drawn: list[torch.Tensor] = []
    gaussian = NoiseSource.gaussian

    def witnessed(source: NoiseSource, shape: tuple, scale: float, *, stream: int) -> torch.Tensor:
        assert len(spent(own)) == 1  # charged first
        assert (tmp_path / "a" / "private" / "ledger.jsonl").is_file()
        drawn.append(gaussian(source, shape, scale, stream=stream))
        return drawn[-1]

    def killed(*_: object, **__: object) -> None:
        raise _Killed

    monkeypatch.setattr(NoiseSource, "gaussian", witnessed)
    place = {
        "before_noise": "released_coefficients",
        "after_noise": "save_weights",
        "before_the_end": "save_classifier",
    }[moment]
    with monkeypatch.context() as patch:
        patch.setattr(steps if moment == "after_noise" else calibration, place, killed)
        with pytest.raises(_Killed):
            run_calibrate(settings)
    n_drawn = len(drawn)
    if moment != "before_the_end":  # its step is spent, and its noise is gone with its key
        with pytest.raises(InputError, match="a second release would cost again"):
            run_calibrate(settings)
        assert len(drawn) == n_drawn == {"before_noise": 0, "after_noise": 1}[moment]
        (lost,) = spent(own)
        assert lost.mechanism is not None
        return
    out = run_calibrate(settings)
    assert len(drawn) == n_drawn == 1
    (counted,) = spent(own)
    assert read_statement(out).lineage.releases == (counted,)
    assert read_statement(out).epsilon == pytest.approx(6, rel=1e-3)


def test_another_classifier_gets_no_old_noise(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = random_run(tmp_path / "run")
    settings = asked(run, own, tmp_path / "a", privacy=PRIVACY)

    def killed(*_: object, **__: object) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(steps, "save_weights", killed)
        with pytest.raises(_Killed):
            run_calibrate(settings)
    about = run / "model" / "settings.json"
    about.write_text(about.read_text() + "\n")
    with pytest.raises(InputError, match="run: has changed since: another model"):
        run_calibrate(settings)
    (tmp_path / "a" / "private" / "inputs.json").unlink()  # a run of an earlier version
    with pytest.raises(InputError, match="changed since this run began"):
        run_calibrate(settings)


def test_hopeless_coefficients_give_a_sensible_point() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.0, 1.0, 1e9):
        coefficients = scale * rng.normal(size=(3, 2, BINS))
        for point in noisy_points(coefficients, sensitivity=0.9, fitted_on="clinic"):
            assert point.slope > 0
            assert 0 <= point.threshold <= 1
    (plain,) = noisy_points(np.zeros((1, 2, BINS)), sensitivity=0.9, fitted_on="clinic")
    assert (plain.slope, plain.offset, plain.threshold) == (1.0, 0.0, 0.5)


def one_class(out: Path, kind: str) -> Path:
    rng = np.random.default_rng(0)
    with create_dataset(out, DatasetInfo(name="one", kind=kind, size_px=32)) as writer:
        for index in range(8):
            pixels = rng.integers(0, 255, (32, 32)).astype(np.uint8)
            writer.add(pixels, patient_id=f"p{index}", split="train", targets=[1])
    return out


def test_one_class_is_refused_where_that_tells_nothing(run: Path, tmp_path: Path) -> None:
    made = one_class(tmp_path / "made", "synthetic")
    with pytest.raises(InputError, match="not of both classes of malignant"):
        run_calibrate(asked(run, made, tmp_path / "a"))
    assert not (tmp_path / "a").exists()
    real = one_class(tmp_path / "real", "real")
    out = run_calibrate(asked(run, real, tmp_path / "b", privacy=PRIVACY))
    assert point_of(out).slope > 0


def test_several_targets_share_one_release(tmp_path: Path) -> None:
    names = ("mass", "edema")
    rng = np.random.default_rng(0)
    info = DatasetInfo(name="clinic", kind="real", size_px=32, targets=names)
    with create_dataset(tmp_path / "clinic", info) as writer:
        for index in range(30):
            writer.add(
                rng.integers(0, 255, (32, 32)).astype(np.uint8),
                patient_id=f"p{index // 2}",
                split="train",
                targets=[index % 2, float("nan") if index < 4 else index % 3 == 0],
            )
    run = random_run(tmp_path / "run", names)
    data = tmp_path / "clinic"
    out = run_calibrate(asked(run, data, tmp_path / "a", privacy=PRIVACY))
    assert len(load_classifier(out).points) == 2
    assert len(spent(data)) == 1
    metrics = metrics_of(out, data, tmp_path / "e")
    assert set(metrics["threshold"]) == set(names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sensitivity": 1}, "sensitivity"),
        ({"sensitivity": 0}, "sensitivity"),
        ({"privacy": {"epsilon": 6}}, "privacy.population is missing"),
        ({"split": "val"}, "no image has split 'val'"),
        ({"run": Path("nowhere")}, "not a finished run"),
    ],
)
def test_what_does_not_fit_is_refused_and_costs_nothing(
    run: Path, own: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        run_calibrate(asked(**{"run": run, "data": own, "out": tmp_path / "a", **changes}))
    assert spent(own) == ()
    assert not (tmp_path / "a").exists()


def test_an_epsilon_without_patients_and_another_target_are_refused(
    run: Path, tmp_path: Path
) -> None:
    phantoms = clinic_set(tmp_path / "phantoms", kind="phantom")
    with pytest.raises(InputError, match=r"privacy.epsilon: not needed"):
        run_calibrate(asked(run, phantoms, tmp_path / "a", privacy=PRIVACY))
    with pytest.raises(InputError, match="has no target mass"):
        run_calibrate(asked(random_run(tmp_path / "r", ("mass",)), phantoms, tmp_path / "a"))


def test_a_calibrated_run_is_released_and_started_from(
    private_run: Path, own: Path, tmp_path: Path
) -> None:
    out = run_calibrate(
        asked(private_run, own, tmp_path / "ward-of-mueller" / "a", privacy=PRIVACY)
    )
    left = tmp_path / "left"
    release(out, left)
    assert {str(path.relative_to(left)) for path in left.rglob("*") if path.is_file()} == {
        *("config.yaml", "privacy.json", "README.md", "status.json", "release.json"),
        *("model/settings.json", "model/weights.safetensors"),
    }
    assert point_of(left) == point_of(out)
    text = "".join(path.read_text() for path in left.glob("*.*"))
    assert "secret-" not in text
    assert "ward-of-mueller" not in text
    again = run_calibrate(
        asked(left, clinic_set(tmp_path / "made", kind="phantom"), tmp_path / "free")
    )
    assert read_statement(again).epsilon == read_statement(out).epsilon
    assert read_statement(again).population == 500
    for start in ("zero", "pretrained"):
        settings = FinetuneSettings(data=own, out=tmp_path / "f", init=out, head={"start": start})
        assert starting_classifier(settings, open_dataset(own).info).points == ()
