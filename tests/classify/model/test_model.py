import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from classify.features.extract import backbone_features
from classify.features.scaling import Scaling
from classify.model.classifier import (
    Classifier,
    FeatureSource,
    features,
    head_logits,
    logits,
    new_classifier,
    new_feature_source,
    probabilities,
    restore_backbone,
    scores,
)
from classify.model.folder import load_classifier, save_classifier
from synthdp.checkpoint import load_weights, save_weights
from synthdp.config.settings import Settings
from synthdp.data.dataset import Dataset, load_images, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.networks.alone import BATCH
from synthdp.networks.backbone import TransformerBackbone, build_backbone
from synthdp.networks.settings import FeatureSettings, TrainableBlocks
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.statement import make_statement
from synthdp.runs.folder import open_run
from synthdp.storage.files import read_json, sha256_file, write_json

RANDOM = FeatureSettings(name="test_vit", size_px=32, precision="float32")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    info = DatasetInfo(name="set", kind="phantom", size_px=24, targets=("malignant", "dense"))
    with create_dataset(tmp_path / "set", info) as writer:
        for index in range(5):
            pixels = rng.integers(0, 255, (24, 24)).astype(np.uint8)
            writer.add(pixels, patient_id=f"p{index}", split="train", targets=[index % 2, 1])
    return open_dataset(tmp_path / "set")


@pytest.fixture
def public(tmp_path: Path) -> FeatureSettings:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = timm.create_model("test_vit", num_classes=0)
    path = tmp_path / "weights" / "public.safetensors"
    save_weights(path, network.state_dict())
    return RANDOM.model_copy(update={"weights": path, "sha256": sha256_file(path)})


def trained(
    backbone: FeatureSettings, blocks: TrainableBlocks = 1, shift: float = 0.1
) -> Classifier:
    """A classifier whose trained tensors and head have all been moved."""
    plain = new_feature_source(backbone, seed=3, trainable_blocks=blocks)
    network = restore_backbone(plain)
    with torch.no_grad():
        for parameter in network.network.parameters():
            if parameter.requires_grad:
                parameter.add_(shift)
    generator = torch.Generator().manual_seed(5)
    centre = torch.randn(network.n_features, generator=generator)
    scaling = dataclasses.replace(plain.scaling, centre=centre)
    moved = dataclasses.replace(plain, trained=network.own_tensors(), scaling=scaling)
    classifier = new_classifier([moved], ("malignant", "dense"))
    weight = torch.randn(classifier.head_weight.shape, generator=generator)
    return classifier.with_head(weight, torch.tensor([0.5, -0.5]))


def finished_run(folder: Path, classifier: Classifier) -> Path:
    statement = make_statement(Lineage(), subject="classifier")
    with open_run(folder, "pretrain", Settings()) as run:
        save_classifier(run.model, classifier)
        run.finish(statement, "card")
    return folder


def same(first: object, second: object) -> bool:
    """Whether two classifiers, or parts of them, are equal to the bit."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, Classifier | FeatureSource | Scaling):
        names = [field.name for field in dataclasses.fields(first)]
        return all(same(getattr(first, name), getattr(second, name)) for name in names)
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    return first == second


@pytest.mark.parametrize("blocks", [0, 2, "all"])
def test_a_classifier_comes_back_from_its_folder(
    public: FeatureSettings, dataset: Dataset, tmp_path: Path, blocks: TrainableBlocks
) -> None:
    classifier = trained(public, blocks)
    restored = load_classifier(finished_run(tmp_path / "run", classifier))
    assert same(classifier, restored)
    expected = scores(classifier, dataset, dataset.rows)
    np.testing.assert_array_equal(scores(restored, dataset, dataset.rows), expected)


def test_frozen_public_weights_are_not_copied_and_a_random_start_is_whole(
    public: FeatureSettings,
) -> None:
    (of_file,), (random,) = (trained(one).feature_sources for one in (public, RANDOM))
    assert all(k.startswith(("blocks.5.", "norm.")) for k in of_file.trained)
    n_tensors = len(build_backbone(RANDOM, seed=0).network.state_dict())
    assert len(random.trained) == n_tensors
    assert not new_feature_source(public, seed=0).trained


def test_a_random_start_does_not_depend_on_the_seed_any_more(
    dataset: Dataset, tmp_path: Path
) -> None:
    classifier = trained(RANDOM)
    restored = load_classifier(finished_run(tmp_path / "run", classifier))
    other = restored.with_feature_sources(
        [dataclasses.replace(restored.feature_sources[0], seed=99)]
    )
    (expected,) = features(classifier, dataset, dataset.rows)
    assert torch.equal(features(other, dataset, dataset.rows)[0], expected)


def test_scores_follow_the_written_formula(public: FeatureSettings, dataset: Dataset) -> None:
    classifier = trained(public, 0)
    with torch.inference_mode():
        network = restore_backbone(classifier.feature_sources[0])
        raw = network(torch.from_numpy(load_images(dataset, dataset.rows, 32)))
    centre = classifier.feature_sources[0].scaling.centre
    assert centre is not None
    class_token, mean = (raw - centre).split(network.parts, dim=1)
    parts = [part / part.norm(dim=1, keepdim=True) for part in (class_token, mean)]
    inputs = torch.cat(parts, dim=1) / 2**0.5
    expected = torch.sigmoid(inputs @ classifier.head_weight.T + classifier.head_bias)
    values = scores(classifier, dataset, dataset.rows)
    assert values.shape == (5, 2)
    np.testing.assert_allclose(values, expected.numpy(), atol=1e-5)


def test_a_new_classifier_knows_nothing(public: FeatureSettings, dataset: Dataset) -> None:
    classifier = new_classifier([new_feature_source(public, seed=0)], ("malignant",))
    raws = features(classifier, dataset, dataset.rows)
    assert torch.equal(logits(classifier, raws), torch.zeros(5, 1))
    with pytest.raises(ValueError, match="does not fit"):
        classifier.with_head(torch.zeros(1, 3), torch.zeros(1))


@pytest.mark.parametrize("hidden", [0, 24])
def test_a_score_hangs_on_no_other(hidden: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.nn.functional.normalize(torch.randn(103, 384, generator=generator), dim=1)
    inputs[50] = torch.nan
    layer = torch.randn(hidden, 384, generator=generator), torch.zeros(hidden)
    classifier = Classifier(
        feature_sources=(),
        targets=("malignant",),
        head_weight=torch.randn(1, hidden or 384, generator=generator),
        head_bias=torch.ones(1),
        hidden=layer if hidden else None,
    )
    everybody = probabilities(classifier, head_logits(classifier, inputs))
    assert list(np.flatnonzero(np.isnan(everybody))) == [50]
    for first in (1, 2, 60, 99, 102):  # libraries take what is left over of a block by other code
        fewer = probabilities(classifier, head_logits(classifier, inputs[first:]))
        np.testing.assert_array_equal(fewer, everybody[first:])


class CountedTrunk:
    """Counts the images that go through any trunk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = 0
        trunk = TransformerBackbone.trunk

        def counted(backbone: TransformerBackbone, images: Tensor) -> Tensor:
            self.seen += len(images)
            return trunk(backbone, images)

        monkeypatch.setattr(TransformerBackbone, "trunk", counted)


def test_classifiers_of_one_trunk_share_its_tokens(
    public: FeatureSettings, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = CountedTrunk(monkeypatch)
    first, second = trained(public, 2), trained(public, 2, shift=0.2)
    different = [features(one, dataset, dataset.rows)[0] for one in (first, second)]
    assert counted.seen == 3 * BATCH  # two that look at the kernels (`synthdp.networks.alone`)
    assert not torch.equal(*different)
    again = [features(one, dataset, dataset.rows)[0] for one in (first, second)]
    assert counted.seen == 3 * BATCH
    assert all(torch.equal(*pair) for pair in zip(different, again, strict=True))


def test_cached_tokens_change_features_by_rounding_alone(
    public: FeatureSettings, dataset: Dataset
) -> None:
    backbone = restore_backbone(trained(public, 2).feature_sources[0])
    through_tokens = backbone_features(backbone, dataset, dataset.rows)
    with torch.inference_mode():
        direct = backbone(torch.from_numpy(load_images(dataset, dataset.rows, 32)))
    torch.testing.assert_close(through_tokens, direct, atol=2e-3, rtol=1e-2)


def refused(run: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_classifier(run)
    return str(caught.value)


def test_only_finished_runs_with_a_classifier_are_loaded(
    public: FeatureSettings, tmp_path: Path
) -> None:
    assert "not a finished run" in refused(tmp_path)
    with open_run(tmp_path / "begun", "pretrain", Settings()):
        pass
    assert "not a finished run" in refused(tmp_path / "begun")
    with open_run(tmp_path / "gan", "train-gan", Settings()) as run:
        run.finish(make_statement(Lineage(), subject="generator"), "card")
    assert "without a classifier" in refused(tmp_path / "gan")


def test_damaged_runs_are_refused(public: FeatureSettings, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", trained(public))
    settings = run / "model" / "settings.json"
    about = read_json(settings)
    write_json(settings, {**about, "targets": 3, "colour": "grey"})
    said = refused(run)
    assert "targets" in said
    assert "colour" in said
    write_json(settings, about)
    weights = run / "model" / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    assert "sha256" in refused(run)
    weights.unlink()
    assert "no such weights file" in refused(run)


def test_missing_public_weights_are_asked_for_by_their_sha256(
    public: FeatureSettings, dataset: Dataset, tmp_path: Path
) -> None:
    classifier = trained(public)
    expected = scores(classifier, dataset, dataset.rows)
    run = finished_run(tmp_path / "run", classifier)
    assert public.weights is not None
    content = public.weights.read_bytes()
    public.weights.unlink()
    said = refused(run)
    assert str(public.sha256) in said
    (run / "model" / public.weights.name).write_bytes(content)
    restored = load_classifier(run)
    np.testing.assert_array_equal(scores(restored, dataset, dataset.rows), expected)


def test_trained_tensors_of_another_network_are_refused(
    public: FeatureSettings, dataset: Dataset
) -> None:
    classifier = trained(public)
    (known,) = classifier.feature_sources
    misfit = dataclasses.replace(known, trained={"norm.weight": torch.zeros(3)})
    foreign = classifier.with_feature_sources([misfit])
    with pytest.raises(InputError, match=r"of another shape: norm\.weight"):
        features(foreign, dataset, dataset.rows)


def edited(run: Path, **changes: Any) -> Path:
    """The run with other values in its first network's settings."""
    settings = read_json(run / "model" / "settings.json")
    settings["sources"][0]["backbone"] |= changes
    write_json(run / "model" / "settings.json", settings)
    return run


def test_a_received_model_neither_downloads_nor_builds_a_giant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a network was built, or the hub asked")

    run = finished_run(tmp_path / "run", trained(RANDOM))
    monkeypatch.setattr(timm, "create_model", forbidden)
    with pytest.raises(InputError, match="asks for a download of test_vit from the hub"):
        load_classifier(edited(run, weights="hub"))
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"vit_giant_patch14_dinov2 has 1,1"):
        load_classifier(edited(run, weights=None, name="vit_giant_patch14_dinov2", size_px=126))


@pytest.mark.parametrize(
    "change",
    [
        {"head.bias": torch.zeros(3)},
        {"head.weight": torch.zeros(2, 3)},
        {"head.weight": None},
        {"head.bias": torch.tensor([0.0, torch.nan])},
        {"head.bias": torch.zeros(2, dtype=torch.int64)},
        {"0.centre": torch.zeros(1)},
        {"0.whitening.0": torch.zeros(1, 1)},
        {"hidden.weight": torch.tensor(1.0)},
        {"unknown": torch.zeros(1)},
    ],
)
def test_weights_that_do_not_fit_their_settings_are_refused(
    tmp_path: Path, change: dict[str, Tensor | None]
) -> None:
    run = finished_run(tmp_path / "run", trained(RANDOM))
    path = run / "model" / "weights.safetensors"
    tensors = {**load_weights(path), **change}
    save_weights(path, {name: tensor for name, tensor in tensors.items() if tensor is not None})
    settings = read_json(run / "model" / "settings.json")
    write_json(run / "model" / "settings.json", {**settings, "weights_sha256": sha256_file(path)})
    with pytest.raises(InputError, match=r"run: (its tensors are not|a weight is no finite)"):
        load_classifier(run)
