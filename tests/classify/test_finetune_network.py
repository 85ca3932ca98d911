import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from classify.evaluate import run_evaluate
from classify.finetune import run_finetune
from classify.model.classifier import restore_backbone, scores
from classify.model.folder import load_classifier
from classify.plans import plan_finetune
from classify.pretrain import run_pretrain
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import EvaluateSettings
from classify.settings.pretrain import PretrainSettings
from synthdp.config.settings import validate_settings
from synthdp.data.dataset import open_dataset, targets_array
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.evaluation.metrics import auroc
from synthdp.networks.backbone import build_backbone
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.noisy_sum import noise
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.privacy.settings import PrivacySettings
from synthdp.storage.files import sha256_file

BACKBONE = FeatureSettings(name="test_vit", size_px=32)
NETWORK = {"trainable_blocks": 1, "steps": 10, "sampling_rate": 0.5, "block_steps": 5}
PRIVACY = PrivacySettings(epsilon=6, delta=1e-3, population=50, noise="philox")


def make_set(out: Path, kind: str = "real", n_patients: int = 24, split: str = "train") -> Path:
    rng = np.random.default_rng(0)
    with create_dataset(out, DatasetInfo(name=out.name, kind=kind, size_px=32)) as writer:
        for patient in range(n_patients):
            for _ in range(1 + patient % 3):
                pixels = rng.normal(110 + 25 * (patient % 2), 40, (32, 32)).clip(0, 255)
                writer.add(
                    pixels.astype(np.uint8),
                    patient_id=f"secret-{patient}",
                    split=split if patient % 4 < 2 else "val",
                    targets=[patient % 2],
                )
    return out


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return make_set(tmp_path / "clinic")


def settings(clinic: Path, out: str = "run", **changes: object) -> FinetuneSettings:
    values = {
        "data": clinic,
        "out": clinic.parent / out,
        "privacy": PRIVACY,
        "backbone": BACKBONE,
        "network": NETWORK,
        **changes,
    }
    return validate_settings(FinetuneSettings, values, where="finetune")


def test_a_run_keeps_its_target_and_says_how(clinic: Path) -> None:
    asked = settings(clinic, network={**NETWORK, "views": 2})
    run = run_finetune(asked)
    statement = read_statement(run)
    assert 5.99 < statement.epsilon <= 6
    assert "Poisson" in statement_text(statement)
    assert Ledger(run / "private" / "ledger.jsonl").spent_steps == 10
    assert not (run / "private" / "noise.key").exists()
    assert "last 1 blocks" in (run / "card.md").read_text()
    trained = load_classifier(run)
    assert trained.feature_sources[0].trainable_blocks == 1
    moved = restore_backbone(trained.feature_sources[0]).network.blocks[-1].mlp.fc1.weight
    start = plan_finetune(asked)  # the plan of a finished run reads no image and still stands
    assert start.epsilon == pytest.approx(statement.epsilon)
    fresh = settings(clinic, out="fresh", network=None)
    (feature_source,) = load_classifier(run_finetune(fresh)).feature_sources
    untrained = restore_backbone(feature_source).network.blocks[-1]
    assert not torch.equal(moved, untrained.mlp.fc1.weight)
    out = run_evaluate(
        EvaluateSettings(run=run, dataset=clinic, out=clinic.parent / "scored", redraws=10)
    )
    assert (out / "metrics.json").is_file()


@pytest.mark.parametrize("epsilon", [6, None])
def test_low_rank_additions_are_kept_as_ordinary_tensors(
    clinic: Path, epsilon: float | None
) -> None:
    public = build_backbone(BACKBONE, seed=3).network.state_dict()
    weights = clinic.parent / "public.safetensors"
    save_file(public, weights)
    named = BACKBONE.model_copy(update={"weights": weights, "sha256": sha256_file(weights)})
    asked = settings(
        clinic,
        backbone=named,
        privacy=PRIVACY.model_copy(update={"epsilon": epsilon}),
        network={**NETWORK, "tune": "lora", "lora_rank": 2},
    )
    run = run_finetune(asked)
    assert "rank-2 additions to the last 1 blocks" in (run / "card.md").read_text()
    trained = load_classifier(run)
    (feature_source,) = trained.feature_sources
    last = {name for name in public if name.startswith(("blocks.5.", "norm.", "fc_norm."))}
    assert feature_source.trained.keys() == {name for name in last if public[name].ndim > 1}
    restored = restore_backbone(feature_source).network.state_dict()
    moved = {name for name in public if not torch.equal(restored[name], public[name])}
    assert moved == feature_source.trained.keys()
    for name in moved:
        rank = torch.linalg.matrix_rank(restored[name] - public[name], atol=1e-5)
        assert int(rank) <= 2
    dataset = open_dataset(clinic)
    assert np.isfinite(scores(trained, dataset, dataset.split("val"))).all()
    assert run_finetune(asked) == run  # a finished run returns at once


def test_without_privacy_it_is_the_same_recipe_and_infinite(clinic: Path) -> None:
    plain = PrivacySettings(epsilon=None, delta=1e-3, population=50)
    statement = read_statement(run_finetune(settings(clinic, privacy=plain)))
    assert math.isinf(statement.epsilon)
    assert "trained without differential privacy" in statement.because


def test_a_rate_may_hang_on_the_epsilon_that_the_stage_has(clinic: Path) -> None:
    plain = PrivacySettings(epsilon=None, delta=1e-3, population=50)
    by_epsilon = {**NETWORK, "lr": {1: 0.5, 8: 1.0, "none": 2.5}}
    one, other = (
        load_classifier(run_finetune(settings(clinic, out, privacy=plain, network=network)))
        for out, network in (("one", {**NETWORK, "lr": 2.5}), ("other", by_epsilon))
    )
    assert torch.equal(one.head_weight, other.head_weight)
    asked = settings(clinic, network=by_epsilon).network
    assert asked is not None
    assert (asked.at(1.0).lr, asked.at(20.0).lr, asked.at(math.inf).lr) == (0.5, 1.0, 2.5)
    assert asked.at(math.sqrt(8)).lr == pytest.approx(math.sqrt(0.5))


def test_a_pretrained_run_goes_on_from_its_blocks(clinic: Path) -> None:
    public = make_set(clinic.parent / "public", kind="phantom")
    asked = PretrainSettings(
        data=public, out=clinic.parent / "pre", backbone=BACKBONE, trainable_blocks="all", epochs=1
    )
    init = run_pretrain(asked)
    run = run_finetune(settings(clinic, backbone=None, init=init, head={"start": "pretrained"}))
    before, after = (load_classifier(one).feature_sources[0] for one in (init, run))
    assert before.trained.keys() == after.trained.keys()
    changed = {k for k in before.trained if not torch.equal(before.trained[k], after.trained[k])}
    assert changed
    assert all(name.startswith(("blocks.5.", "norm.")) for name in changed)
    assert after.scaling.centre is not None
    assert torch.equal(after.scaling.centre, before.scaling.centre)


@pytest.mark.parametrize("tune", ["blocks", "lora"])
def test_the_defaults_learn_under_privacy(
    tmp_path: Path, tune: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under one noise: under another a model may be worse by chance."""
    monkeypatch.setattr(noise, "new_key", lambda: bytes(range(32)))
    clinic = make_set(tmp_path / "clinic", n_patients=120)
    run = run_finetune(
        settings(
            clinic,
            privacy=PrivacySettings(epsilon=12, delta=1e-3, population=75, noise="philox"),
            network={"trainable_blocks": 1, "steps": 12, "batch": 32, "tune": tune},
        )
    )
    dataset = open_dataset(clinic)
    rows = dataset.split("val")
    malignant = scores(load_classifier(run), dataset, rows)[:, 0]
    assert auroc(targets_array(rows)[:, 0], malignant) > 0.8


@pytest.mark.slow
def test_the_end_of_a_swin_is_trained_and_its_head_alone(clinic: Path) -> None:
    swin = FeatureSettings(name="swin_tiny_patch4_window7_224", size_px=32)
    short = {"trainable_blocks": 1, "steps": 1, "sampling_rate": 0.2, "block_steps": 1}
    run = run_finetune(settings(clinic, backbone=swin, network=short))
    assert read_statement(run).epsilon <= 6
    assert load_classifier(run).feature_sources[0].trainable_blocks == 1
    head = settings(
        clinic, out="head", backbone=swin, network=None, head={"steps": 5, "block_steps": 5}
    )
    assert read_statement(run_finetune(head)).epsilon <= 6


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"privacy": PrivacySettings(epsilon=None, delta=1e-3, population=5)}, "population is 5"),
        ({"network": {**NETWORK, "trainable_blocks": 7}}, "trainable_blocks is 7"),
        ({"network": {**NETWORK, "lora_rank": 8}}, "lora_rank is 8, but network.tune is blocks"),
        (
            {"network": {**NETWORK, "tune": "lora", "lora_rank": 64}},
            r"blocks\.5\.attn\.qkv .* 192 x",
        ),
        ({"network": {**NETWORK, "tune": "heads"}}, "network.tune"),
        ({"network": {**NETWORK, "lr": {}}}, "network.lr"),
        (
            {"network": {**NETWORK, "optimizer": "nadam", "lr": {1: 0.1, 8: 2.0}}},
            "network.lr is 2, a rate of sgd",
        ),
        ({"network": {**NETWORK, "tune": "biases"}}, "dropped in synthdp 0.1.0.*blocks or lora"),
        ({"network": {**NETWORK, "images": "one"}}, "dropped in synthdp 0.1.0.*leave network.im"),
        ({"synthetic": Path("set")}, "name that run as init"),
    ],
)
def test_what_does_not_fit_is_refused(clinic: Path, changes: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        run_finetune(settings(clinic, **changes))
