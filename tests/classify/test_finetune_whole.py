"""A whole network trained on patients, from its start to what leaves the house."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import clinic_set
from safetensors.torch import save_file

import synthdp
from classify.audit import run_audit
from classify.calibrate import run_calibrate
from classify.evaluate import run_evaluate
from classify.features.extract import features_on_arrays
from classify.finetune import run_finetune
from classify.library.exported import run_export_model
from classify.model.classifier import restore_backbone, scores
from classify.model.folder import load_classifier
from classify.predict import run_predict
from classify.pretrain import run_pretrain
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import CalibrateSettings, EvaluateSettings, PredictSettings
from classify.settings.pretrain import PretrainSettings
from synthdp.config.settings import validate_settings
from synthdp.data.dataset import load_images, open_dataset
from synthdp.errors import InputError
from synthdp.networks.backbone import build_backbone
from synthdp.networks.exported.settings import ExportModelSettings
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.privacy.settings import PrivacySettings
from synthdp.releases.release import Asked, release_folder
from synthdp.storage.files import sha256_file

#: A small network of GroupNorm, which keeps images apart.
BACKBONE = FeatureSettings(name="test_efficientnet_gn", size_px=32, precision="float32")
WITH_BATCH_NORM = FeatureSettings(name="test_efficientnet", size_px=32, precision="float32")
NETWORK = {"trainable_blocks": "all", "steps": 2, "sampling_rate": 0.5, "block_steps": 1}
PRIVACY = PrivacySettings(epsilon=6, delta=1e-3, population=50, noise="philox")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clinic_set(tmp_path_factory.mktemp("data") / "clinic", n_patients=4)


def settings(clinic: Path, out: Path, **changes: Any) -> FinetuneSettings:
    values = {
        "data": clinic,
        "out": out,
        "privacy": PRIVACY,
        "backbone": BACKBONE,
        "network": NETWORK,
        **changes,
    }
    return validate_settings(FinetuneSettings, values, where="finetune")


@pytest.fixture(scope="module")
def run(clinic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = {**NETWORK, "augment": {"flip": True}, "views": 2, "max_images": 2,
               "optimizer": "nadam", "lr": 0.02, "average_decay": 0.9}  # fmt: skip
    return run_finetune(settings(clinic, tmp_path_factory.mktemp("run") / "run", network=network))


def trained(run: Path) -> dict[str, torch.Tensor]:
    (source,) = load_classifier(run).feature_sources
    return dict(source.trained)


def test_the_whole_network_moves_and_keeps_the_promise(run: Path) -> None:
    statement = read_statement(run)
    assert 5.9 < statement.epsilon <= 6
    assert "Poisson" in statement_text(statement)
    assert Ledger(run / "private" / "ledger.jsonl").spent_steps == 2
    assert not (run / "private" / "noise.key").exists()
    card = (run / "card.md").read_text()
    assert "the whole network: 2 steps of NAdam" in card
    assert "test_efficientnet_gn" in card
    fresh = build_backbone(BACKBONE, seed=0).network.state_dict()
    moved = trained(run)
    assert moved.keys() == fresh.keys()  # a random start names no file that has the rest
    assert all(not torch.equal(fresh[name], value) for name, value in moved.items())


def test_it_is_loaded_as_it_was_saved_and_scores_alike_everywhere(
    run: Path, clinic: Path, tmp_path: Path
) -> None:
    dataset = open_dataset(clinic)
    expected = scores(load_classifier(run), dataset, dataset.rows)
    out = run_evaluate(
        EvaluateSettings(run=run, dataset=clinic, split="train", out=tmp_path / "e", redraws=10)
    )
    assert (out / "metrics.json").is_file()
    calibrated = run_calibrate(CalibrateSettings(run=run, data=clinic, out=tmp_path / "calibrated"))
    assert load_classifier(calibrated).points
    table = run_predict(
        PredictSettings(
            run=run,
            images=clinic,
            out=tmp_path / "scores.csv",
            saliency=tmp_path / "saliency",
            saliency_grid=3,
        )
    )
    given = [float(line.split(",")[-1]) for line in table.read_text().splitlines()[1:]]
    assert given == pytest.approx(expected[:, 0].tolist(), abs=1e-4)
    assert len(list((tmp_path / "saliency").rglob("*.png"))) == len(dataset.rows)
    released = tmp_path / "released"
    release_folder(run, released, Asked())
    images = (load_images(dataset, dataset.rows) + 1) / 2
    in_python = synthdp.Classifier.load(released).predict_proba(images[:, 0])
    assert np.allclose(np.ravel(in_python), expected[:, 0], atol=1e-5)
    exported = run_export_model(
        ExportModelSettings(run=released, out=tmp_path / "exported", format="torch-export")
    )
    assert (exported / "model.pt2").is_file()


def test_from_public_weights_those_alone_are_kept_that_moved(clinic: Path, tmp_path: Path) -> None:
    """A BatchNorm's statistics stay the public ones, of which the released run carries the file."""
    built = build_backbone(WITH_BATCH_NORM, seed=3).network.state_dict()
    public = {name: tensor.contiguous() for name, tensor in built.items()}
    save_file(public, tmp_path / "public.safetensors")
    named = WITH_BATCH_NORM.model_copy(
        update={
            "weights": tmp_path / "public.safetensors",
            "sha256": sha256_file(tmp_path / "public.safetensors"),
        }
    )
    with pytest.raises(InputError, match="batch_norm: frozen"):
        run_finetune(settings(clinic, tmp_path / "run", backbone=named))
    assert not (tmp_path / "run").exists()
    frozen = named.model_copy(update={"batch_norm": "frozen"})
    run = run_finetune(settings(clinic, tmp_path / "run", backbone=frozen))
    moved = trained(run)
    assert not any("running" in name for name in moved)
    assert any(name.endswith("bn1.weight") for name in moved)
    (source,) = load_classifier(run).feature_sources
    state = restore_backbone(source).network.state_dict()
    for name, value in public.items():
        assert torch.equal(state[name], moved.get(name, value))
    release_folder(run, tmp_path / "released", Asked())
    assert (tmp_path / "released" / "model" / "networks").is_dir()


@pytest.mark.parametrize("kind", ["phantom", "public"])
def test_it_goes_on_from_a_pretrained_run_of_other_findings(
    clinic: Path, tmp_path: Path, kind: str
) -> None:
    elsewhere = clinic_set(tmp_path / kind, kind, targets=("pneumonia",), n_patients=4)
    pretrained = run_pretrain(
        PretrainSettings(
            data=elsewhere, out=tmp_path / "pre", backbone=BACKBONE, trainable_blocks="all",
            epochs=1, augment={"flip": True},
        )
    )  # fmt: skip
    init = {"backbone": None, "init": pretrained}
    run = run_finetune(settings(clinic, tmp_path / "run", **init))
    before, after = trained(pretrained), trained(run)
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    statement = read_statement(run)
    assert statement.lineage.public == (("public",) if kind == "public" else ())
    assert statement.epsilon <= 6
    with pytest.raises(InputError, match="trained for pneumonia"):
        run_finetune(settings(clinic, tmp_path / "kept", head={"start": "pretrained"}, **init))


def test_some_stages_of_it_are_trained_where_asked(clinic: Path, tmp_path: Path) -> None:
    asked = settings(clinic, tmp_path / "run", network={**NETWORK, "trainable_blocks": 1})
    moved = trained(run_finetune(asked))
    fresh = build_backbone(BACKBONE, seed=0).network.state_dict()
    changed = {name for name in fresh if not torch.equal(fresh[name], moved[name])}
    last = max(int(name.split(".")[1]) for name in fresh if name.startswith("blocks."))
    assert changed == {
        name for name in fresh if name.startswith((f"blocks.{last}.", "conv_head.", "bn2."))
    }


def test_augmented_images_go_through_a_frozen_trunk_each_by_itself(
    clinic: Path, tmp_path: Path
) -> None:
    vit = FeatureSettings(name="test_vit", size_px=32)
    network = {**NETWORK, "trainable_blocks": 1, "augment": {}, "views": 2}
    run = run_finetune(settings(clinic, tmp_path / "run", backbone=vit, network=network))
    fresh = build_backbone(vit, seed=0).network.state_dict()
    changed = {name for name, value in trained(run).items() if not torch.equal(fresh[name], value)}
    assert changed
    assert all(name.startswith(("blocks.5.", "norm.", "fc_norm.")) for name in changed)


def test_without_privacy_it_is_the_same_recipe(clinic: Path, tmp_path: Path) -> None:
    plain = PRIVACY.model_copy(update={"epsilon": None})
    run = run_finetune(settings(clinic, tmp_path / "run", privacy=plain))
    assert math.isinf(read_statement(run).epsilon)
    assert trained(run)


def test_its_training_is_audited(clinic: Path, tmp_path: Path) -> None:
    network = {**NETWORK, "sampling_rate": 1.0, "augment": {}, "max_images": 1}
    run = run_finetune(settings(clinic, tmp_path / "run", network=network))
    found = run_audit(AuditSettings(run=run, canaries=10, replayed=1, replayed_steps=1, workers=1))
    written = json.loads((found / "audit.json").read_text())
    assert written["broken"] == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"network": {**NETWORK, "views": 2}}, "without network.augment a whole network sees"),
        ({"network": {**NETWORK, "trainable_blocks": 9}}, "trainable_blocks is 9, but test_eff"),
        ({"network": {**NETWORK, "optimizer": "nadam"}}, "steps of nadam are as long as lr"),
        ({"network": {**NETWORK, "max_images": 0}}, "max_images"),
        ({"backbone": WITH_BATCH_NORM}, "normalises over a batch"),
        ({"head": {"prior": {"edema": 0.2}}}, "has no target edema"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_folder_is_made(
    clinic: Path, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        run_finetune(settings(clinic, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("bits", [None, 16])
def test_a_prior_moves_a_network_and_keeps_its_promise(
    clinic: Path, tmp_path: Path, bits: int | None
) -> None:
    network = NETWORK if bits is None else {**NETWORK, "packed_bits": bits}
    head = {"prior": {"malignant": 0.05}}
    out = run_finetune(settings(clinic, tmp_path / "run", head=head, network=network))
    assert 5.9 < read_statement(out).epsilon <= 6
    # the weight is held at 10, which leaves odds that the bias begins with
    assert float(load_classifier(out).head_bias[0]) < -0.3
    packs = [path.name for path in (clinic / "private" / "packed").glob("*/*")]
    assert any(name.startswith(f"32-{bits or 8}-") for name in packs)
    found = run_audit(AuditSettings(run=out, canaries=10, replayed=1, replayed_steps=1, workers=1))
    assert json.loads((found / "audit.json").read_text())["broken"] == []


def test_trained_features_are_those_of_the_network_that_was_saved(run: Path) -> None:
    (source,) = load_classifier(run).feature_sources
    image = np.random.default_rng(0).uniform(-1, 1, (1, 1, 32, 32)).astype(np.float32)
    given = features_on_arrays(restore_backbone(source))(image)
    fresh = features_on_arrays(build_backbone(BACKBONE, seed=0))(image)
    assert given.shape == fresh.shape
    assert not np.allclose(given, fresh, atol=1e-4)
