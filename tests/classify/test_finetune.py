import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import clinic_set, give_even_key
from torch import Tensor

from classify.finetune import run_finetune
from classify.head.train import lr_times_steps
from classify.model.classifier import scores
from classify.model.folder import load_classifier
from classify.plans import plan_finetune
from classify.pretrain import run_pretrain
from classify.settings.finetune import FinetuneSettings
from classify.settings.head import HeadSettings
from classify.settings.pretrain import PretrainSettings
from synthdp.config.settings import validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.accounting.gaussian import gaussian_epsilon, gaussian_mu
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.promise.plan import statement_of
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.privacy.settings import PrivacySettings
from synthdp.runs.folder import Run

BACKBONE = FeatureSettings(name="test_vit", size_px=32)
STEPS = HeadSettings().steps
PRIVACY = PrivacySettings(epsilon=6, delta=1e-3, population=50)


def generator_lineage(mu: float) -> Lineage:
    mechanism = None
    if math.isfinite(mu):
        mechanism = Mechanism(noise_multiplier=1 / mu, steps=1, normaliser=50)
    release = Release(stage="train-gan", data="clinic", mu=mu, mechanism=mechanism)
    return Lineage(releases=(release,))


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return give_even_key(clinic_set(tmp_path / "clinic", "real"))


def settings(clinic: Path, out: str = "run", **changes: object) -> FinetuneSettings:
    values = {"data": clinic, "out": clinic.parent / out, "privacy": PRIVACY, "backbone": BACKBONE}
    return validate_settings(FinetuneSettings, {**values, **changes}, where="finetune")


def pretrained(data: Path) -> Path:
    out = data.parent / f"pretrained-on-{data.name}"
    asked = PretrainSettings(
        data=data, out=out, backbone=BACKBONE, trainable_blocks="all", epochs=1
    )
    return run_pretrain(asked)


def test_patients_alone_cost_the_target_and_are_recorded_beside_them(clinic: Path) -> None:
    run = run_finetune(settings(clinic))
    statement = read_statement(run)
    assert 5.99 < statement.epsilon <= 6
    assert Ledger(run / "private" / "ledger.jsonl").spent_steps == STEPS
    assert not (run / "private" / "noise.key").exists()
    assert not (run / "private" / "checkpoints").exists()
    assert statement_of([clinic]).lineage == statement.lineage
    assert run_finetune(settings(clinic)) == run  # returns at once: the ledger is unchanged
    assert Ledger(run / "private" / "ledger.jsonl").spent_steps == STEPS


def test_a_run_calibrates_its_mechanism_once(clinic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reaching, calls = Mechanism.reaching, list[object]()

    def counted(**values: object) -> Mechanism:
        calls.append(values)
        return reaching(**values)  # type: ignore[arg-type]

    monkeypatch.setattr(Mechanism, "reaching", counted)
    run_finetune(settings(clinic))
    assert len(calls) == 1


def test_what_may_leave_names_no_patient_and_no_count(clinic: Path) -> None:
    run = run_finetune(settings(clinic))
    public = [path for path in run.rglob("*") if path.is_file() and "private" not in path.parts]
    for path in public:
        assert b"secret" not in path.read_bytes(), path.name
    assert "12" not in (run / "card.md").read_text().split()


def test_a_card_calls_no_random_network_public(clinic: Path) -> None:
    assert (
        "- started from: random weights" in (run_finetune(settings(clinic)) / "card.md").read_text()
    )


def test_two_models_of_the_same_patients_compose(clinic: Path) -> None:
    runs = [run_finetune(settings(clinic, out=name, seed=1)) for name in ("a", "b")]
    together = statement_of(runs)
    assert together.epsilon == pytest.approx(
        gaussian_epsilon(math.sqrt(2) * gaussian_mu(6, 1e-3), 1e-3), rel=1e-6
    )
    assert statement_of([clinic, *runs]).epsilon == together.epsilon


def test_a_generator_without_privacy_makes_the_end_infinite(clinic: Path) -> None:
    synthetic = clinic_set(
        clinic.parent / "synthetic", "synthetic", lineage=generator_lineage(math.inf)
    )
    statement = read_statement(
        run_finetune(settings(clinic, backbone=None, init=pretrained(synthetic)))
    )
    assert math.isinf(statement.epsilon)
    assert statement.epsilon_stage == pytest.approx(6, rel=1e-3)
    assert "train-gan on clinic had no protection" in statement.because


def test_pretraining_on_phantoms_costs_nothing(clinic: Path) -> None:
    phantoms = clinic_set(clinic.parent / "phantoms", "phantom")
    init = pretrained(phantoms)
    assert read_statement(init).epsilon == 0
    statement = read_statement(run_finetune(settings(clinic, backbone=None, init=init)))
    assert statement.epsilon == pytest.approx(6, rel=1e-3)


def test_phantoms_made_as_real_are_patients_to_the_ledger(tmp_path: Path) -> None:
    as_real = clinic_set(tmp_path / "as-real", "phantom", as_real=True)
    free = clinic_set(tmp_path / "free", "phantom")
    assert read_statement(run_finetune(settings(as_real, out="a"))).epsilon > 5.99
    assert read_statement(run_finetune(settings(free, out="b"))).epsilon == 0


@pytest.mark.parametrize("mu", [1.0, math.inf])
def test_a_model_of_a_synthetic_set_alone_keeps_what_its_generator_promised(
    clinic: Path, mu: float
) -> None:
    lineage = generator_lineage(mu)
    synthetic = clinic_set(clinic.parent / "synthetic", "synthetic", lineage=lineage)
    for epsilon in (None, 2, 6):  # 2 is less than the generator spent, and is not its to refuse
        privacy = PrivacySettings(epsilon=epsilon, delta=1e-3, population=50)
        statement = plan_finetune(settings(synthetic, privacy=privacy))
        assert statement.lineage == lineage
        assert statement.epsilon == lineage.epsilon(1e-3)
    assert read_statement(run_finetune(settings(synthetic))).lineage == lineage


def test_a_synthetic_set_without_noise_may_hold_more_than_the_population(clinic: Path) -> None:
    synthetic = clinic_set(clinic.parent / "synthetic", "synthetic")
    few = PrivacySettings(epsilon=None, delta=1e-3, population=5)
    many = PrivacySettings(epsilon=None, delta=1e-3, population=500)
    weights = []
    for name, privacy in (("few", few), ("many", many)):
        run = run_finetune(settings(synthetic, out=name, privacy=privacy))
        weights.append(load_classifier(run).head_weight)
    assert torch.equal(*weights)
    with pytest.raises(InputError, match="population is 5, but train holds more"):
        run_finetune(settings(clinic, out="real", privacy=few))


def test_ancestors_that_spent_leave_less_in_mu_squared(clinic: Path) -> None:
    lineage = generator_lineage(gaussian_mu(3, 1e-3))
    synthetic = clinic_set(clinic.parent / "synthetic", "synthetic", lineage=lineage)
    statement = plan_finetune(settings(clinic, synthetic=synthetic))
    assert statement.epsilon == pytest.approx(6, rel=1e-6)
    left = math.sqrt(gaussian_mu(6, 1e-3) ** 2 - gaussian_mu(3, 1e-3) ** 2)
    assert statement.epsilon_stage == pytest.approx(gaussian_epsilon(left, 1e-3), rel=1e-6)
    too_little = PrivacySettings(epsilon=2, delta=1e-3, population=50)
    with pytest.raises(InputError, match="has spent 3 already"):
        plan_finetune(settings(clinic, synthetic=synthetic, privacy=too_little))


def test_the_plan_reads_no_image(clinic: Path) -> None:
    for image in (clinic / "images").iterdir():
        image.write_bytes(b"")
    assert plan_finetune(settings(clinic)).epsilon == pytest.approx(6, rel=1e-6)


def test_without_privacy_it_is_the_same_recipe_and_infinite(clinic: Path) -> None:
    plain = PrivacySettings(epsilon=None, delta=1e-3, population=50)
    statement = read_statement(run_finetune(settings(clinic, privacy=plain)))
    assert math.isinf(statement.epsilon)
    assert "trained without differential privacy" in statement.because


def test_a_killed_run_resumes_and_never_exceeds_its_budget(
    clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gaussian = NoiseSource.gaussian

    def dying(source: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int) -> Tensor:
        if stream == STEPS // 2 + 3:
            raise KeyboardInterrupt
        return gaussian(source, shape, scale, stream=stream)

    monkeypatch.setattr(NoiseSource, "gaussian", dying)
    with pytest.raises(KeyboardInterrupt):
        run_finetune(settings(clinic))
    run = clinic.parent / "run"
    assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
    monkeypatch.undo()
    run_finetune(settings(clinic))
    assert read_statement(run).epsilon <= 6
    assert Ledger(run / "private" / "ledger.jsonl").spent_steps == STEPS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": None}, "set either init"),
        ({"head": {"start": "pretrained"}}, "init must name a pretrained run"),
        ({"data": Path("nowhere")}, "not a data-set folder"),
        ({"class_weights": "balanced"}, "class_weights: would be fitted on the patients"),
        ({"head": {"early_stopping": True}}, "early_stopping: would be fitted on the patients"),
        ({"head": {"pca": 16}}, "name a phantom or synthetic set as `centre`"),
        ({"threshold": 0.4}, "synthdp calibrate"),
        ({"backbone": {**BACKBONE.model_dump(), "whiten": 0.5}}, "whiten: needs `centre`"),
        ({"head": {"label_smoothing": 0.1}}, "label_smoothing is of head.kind mlp"),
        ({"network": {}, "beside": [BACKBONE]}, "network trains one backbone"),
        ({"backbone": None, "init": Path("nowhere")}, "not a finished run"),
    ],
)
def test_what_does_not_fit_is_refused(clinic: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run_finetune(settings(clinic, **changes))


def test_wrong_weights_leave_no_folder_behind(clinic: Path) -> None:
    wrong = FeatureSettings(name="test_vit", size_px=32, weights=clinic / "none.safetensors")
    with pytest.raises(InputError, match="weights"):
        run_finetune(settings(clinic, backbone=wrong))
    assert not (clinic.parent / "run").exists()


def test_patients_may_not_stand_in_as_public_images(clinic: Path) -> None:
    with pytest.raises(InputError, match="holds patients"):
        plan_finetune(settings(clinic, synthetic=clinic))


def test_a_set_without_patient_ids_promises_to_images_only(tmp_path: Path) -> None:
    images = clinic_set(tmp_path / "images", "real", unit="image")
    with pytest.raises(InputError, match=r"ask for privacy\.unit=image"):
        plan_finetune(settings(images))
    by_image = PrivacySettings(epsilon=6, delta=1e-3, population=50, unit="image")
    statement = read_statement(run_finetune(settings(images, privacy=by_image)))
    assert statement_text(statement).startswith(
        "**Privacy of this classifier: epsilon = 6 for each IMAGE"
    )


@pytest.mark.parametrize(("epsilon", "expected"), [(0.1, 100), (1, 100), (6, 400), (60, 2000)])
def test_learning_rate_rule(epsilon: float, expected: float) -> None:
    assert lr_times_steps(epsilon) == pytest.approx(expected)
    assert lr_times_steps(3) < lr_times_steps(4)


@pytest.mark.parametrize("epsilon", [1.0, 6.0, 60.0, math.inf])
def test_the_default_learning_rate_is_below_the_stability_bound(epsilon: float) -> None:
    head = HeadSettings()
    smoothness = (1 + head.bias_input**2) / 4
    assert lr_times_steps(epsilon) / head.steps < 2 / smoothness


def test_models_of_disjoint_cohorts_are_counted_in_parallel(clinic: Path) -> None:
    first, second = (run_finetune(settings(clinic, out=p[0], cohort=p)) for p in ("1/2", "2/2"))
    together = statement_of([first, second])
    assert together.epsilon == pytest.approx(6, rel=1e-3)
    assert sorted(c.patients for c in together.cohorts) == [
        "cohort 1/2 of clinic",
        "cohort 2/2 of clinic",
    ]
    everybody = run_finetune(settings(clinic, out="all"))
    worse = gaussian_epsilon(math.sqrt(2) * gaussian_mu(6, 1e-3), 1e-3)
    assert statement_of([first, second, everybody]).epsilon == pytest.approx(worse, rel=1e-3)


def test_a_generator_of_other_patients_leaves_the_whole_target(clinic: Path) -> None:
    of_first = plan_finetune(settings(clinic, cohort="1/2")).lineage.releases[0].cohort
    generator = generator_lineage(gaussian_mu(3, 1e-3)).releases[0]
    lineage = Lineage(releases=(generator.model_copy(update={"cohort": of_first}),))
    synthetic = clinic_set(clinic.parent / "synthetic", "synthetic", lineage=lineage)
    apart = plan_finetune(settings(clinic, synthetic=synthetic, cohort="2/2"))
    assert apart.epsilon_stage == pytest.approx(6, rel=1e-3)
    assert apart.epsilon == pytest.approx(6, rel=1e-3)
    same = plan_finetune(settings(clinic, synthetic=synthetic, cohort="1/2"))
    assert same.epsilon_stage < 5.7
    assert same.epsilon == pytest.approx(6, rel=1e-3)


def known_noise() -> PrivacySettings:
    return PrivacySettings(epsilon=6, delta=1e-3, population=50, fixed_noise_key=1)


def test_a_fixed_noise_key_promises_nothing(clinic: Path) -> None:
    runs = [run_finetune(settings(clinic, out=name, privacy=known_noise())) for name in "ab"]
    statement = read_statement(runs[0])
    assert math.isinf(statement.epsilon)
    assert "noise from a fixed key, for tests" in statement.because
    weights = [(run / "model" / "weights.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    secret = [run_finetune(settings(clinic, out=name)) for name in "cd"]
    weights = [(run / "model" / "weights.safetensors").read_bytes() for run in secret]
    assert weights[0] != weights[1]


@pytest.mark.parametrize("word", ["3/2", "0/2", "half", "1/x"])
def test_a_cohort_that_is_none_is_refused(clinic: Path, word: str) -> None:
    with pytest.raises(InputError, match="cohort"):
        settings(clinic, cohort=word)


def test_a_crash_at_the_very_end_leaves_a_run_that_can_be_finished(
    clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_finetune(settings(clinic, privacy=known_noise()))

    def dying(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Run, "finish", dying)
    with pytest.raises(MemoryError):
        run_finetune(settings(clinic, out="torn", privacy=known_noise()))
    monkeypatch.undo()
    torn = run_finetune(settings(clinic, out="torn", privacy=known_noise()))
    weights = [(run / "model" / "weights.safetensors").read_bytes() for run in (whole, torn)]
    assert weights[0] == weights[1]
    assert not (torn / "private" / "noise.key").exists()


@pytest.mark.parametrize(
    "head",
    [
        {"kind": "least_squares"},
        {"kind": "class_means", "steps": 1},
        {"kind": "mlp", "hidden": 4},
        {"views": 3},
        {"sampling_rate": 0.5, "optimizer": "adamw", "average_from": 1},
    ],
)
@pytest.mark.parametrize("epsilon", [6, None])
def test_every_head_finishes_within_its_promise_and_scores(
    clinic: Path, head: dict[str, object], epsilon: float | None
) -> None:
    head = {"steps": 20, "block_steps": 10, **head}
    asked = settings(clinic, head=head, privacy=PRIVACY.model_copy(update={"epsilon": epsilon}))
    run = run_finetune(asked)
    statement = read_statement(run)
    assert math.isinf(statement.epsilon) if epsilon is None else 5.99 < statement.epsilon <= 6
    classifier = load_classifier(run)
    assert (classifier.hidden is not None) == (head.get("kind") == "mlp")
    dataset = open_dataset(clinic)
    found = scores(classifier, dataset, dataset.split("train"))
    assert np.isfinite(found).all()
    assert len(np.unique(found)) > 1


def test_networks_stand_beside_each_other(clinic: Path) -> None:
    phantoms = clinic_set(clinic.parent / "phantoms", "phantom")
    beside = {"name": "test_efficientnet", "size_px": 32, "layers": [1, 2], "weight": 0.5}
    both = settings(clinic, beside=[beside], centre=phantoms)
    classifier = load_classifier(run_finetune(both))
    widths = [sum(source.scaling.parts) for source in classifier.feature_sources]
    assert classifier.head_weight.shape[1] == sum(widths)
    assert all(source.scaling.centre is not None for source in classifier.feature_sources)
    init = pretrained(phantoms)
    started = settings(
        clinic, out="started", backbone=None, init=init, beside=[beside], centre=phantoms
    )
    first, second = load_classifier(run_finetune(started)).feature_sources
    kept = load_classifier(init).feature_sources[0].scaling.centre
    assert kept is not None
    assert first.scaling.centre is not None
    assert torch.equal(first.scaling.centre, kept)
    assert second.scaling.centre is not None


@pytest.mark.parametrize("start", ["zero", "pretrained"])
def test_longer_features_learn_as_a_higher_rate_does(clinic: Path, start: str) -> None:
    plain = PrivacySettings(epsilon=None, delta=1e-3, population=50)
    names: dict[str, object] = {"backbone": BACKBONE}
    if start == "pretrained":
        phantoms = clinic_set(clinic.parent / "phantoms", "phantom")
        names = {"backbone": None, "init": pretrained(phantoms)}
    found = []
    for norm in (1.0, 4.0):
        head = {"steps": 20, "lr_times_steps": 80 / norm**2, "bias_input": 0, "input_norm": norm}
        head = {**head, "start": start}
        run = settings(clinic, f"norm-{norm}", privacy=plain, head=head, **names)
        found.append(load_classifier(run_finetune(run)).head_weight)
    assert found[0].norm() > 0.01
    assert torch.allclose(found[0], found[1], rtol=1e-4, atol=1e-6)
