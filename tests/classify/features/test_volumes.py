import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from classify.evaluate import run_evaluate
from classify.features.extract import augmented_features, backbone_features, seen_views
from classify.finetune import run_finetune
from classify.library.classifier import Classifier
from classify.model.folder import load_classifier
from classify.network.gradients import PatientGradients
from classify.network.images import ImageExamples, step_views
from classify.network.top import trained_network
from classify.predict import run_predict
from classify.pretrain import run_pretrain
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import EvaluateSettings, PredictSettings
from classify.settings.pretrain import PretrainSettings
from synthdp.data.dataset import Dataset, load_volumes, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.views.augmentation import Augmentation
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.networks.backbone import build_backbone
from synthdp.networks.settings import FeatureSettings
from synthdp.networks.slices import slices_along
from synthdp.networks.volume_network import VolumeNetwork

TINY = {"name": "test_efficientnet", "size_px": 16, "precision": "float32"}
DEPTH, SIDE = 6, 16


def a_set(
    root: Path,
    patients: int = 12,
    *,
    depth: int | None = DEPTH,
    without: int | None = None,
    kind: str = "real",
) -> Dataset:
    """Volumes with a bright middle where malignant; of the first patient two."""
    values = {"name": "scans", "kind": kind, "size_px": SIDE, "depth": depth}
    info = DatasetInfo.model_validate(values)
    with create_dataset(root, info) as writer:
        for index in range(patients + 1):
            patient = max(index - 1, 0)
            rng = np.random.default_rng(index)
            if patient == without:
                continue
            stack = rng.integers(0, 120, ((depth or 1), SIDE, SIDE))
            if patient % 2:
                stack[:, 4:12, 4:12] += 120
            writer.add(
                stack.reshape(-1, SIDE).astype(np.uint8),
                patient_id=f"P{patient:02d}",
                split="val" if patient % 4 >= 2 else "train",
                targets=[patient % 2],
            )
    return open_dataset(root)


def features_of(dataset: Dataset, **settings: object) -> NDArray[np.float32]:
    backbone = build_backbone(FeatureSettings.model_validate(TINY | settings), seed=0)
    return backbone_features(backbone, dataset, dataset.rows).numpy()


def test_slices_are_evenly_spaced_along_each_axis() -> None:
    volume = torch.arange(6 * 4 * 4.0).reshape(1, 6, 4, 4)
    seen = slices_along(volume, [0], 3, 4)
    assert torch.equal(seen[0, :, 0], volume[0, [1, 3, 5]])
    rows = slices_along(volume, [1], 9, 4)
    assert rows.shape == (1, 4, 1, 4, 4)
    square = torch.rand(1, 4, 4, 4)
    both = slices_along(square, [0, 1, 2], 4, 4)[0, :, 0]
    assert torch.equal(both[:4], square[0])
    assert torch.equal(both[4:8], square[0].movedim(1, 0))
    assert torch.equal(both[8:], square[0].movedim(2, 0))


def test_features_are_the_pooled_features_of_slices(tmp_path: Path) -> None:
    dataset = a_set(tmp_path / "set", 3)
    backbone = build_backbone(FeatureSettings.model_validate(TINY), seed=0)
    volumes = torch.from_numpy(load_volumes(dataset, dataset.rows))
    with torch.inference_mode():
        of_slices = torch.stack(
            [backbone(planes) for planes in slices_along(volumes, [0, 2], 4, SIDE)]
        )
    settings = {"axes": [0, 2], "slices": 4}
    mean, most = (
        features_of(dataset, **settings),
        features_of(dataset, **settings, slice_pool="max"),
    )
    assert np.allclose(mean, of_slices.mean(dim=1), atol=1e-5)
    assert np.allclose(most, of_slices.amax(dim=1), atol=1e-5)
    assert np.array_equal(features_of(dataset, **settings), mean)  # from the cache


def test_a_volume_gives_the_same_bits_whoever_else_is_there(tmp_path: Path) -> None:
    whole = a_set(tmp_path / "whole", 9)
    without = a_set(tmp_path / "without", 9, without=4)
    settings = {"axes": [0, 1, 2], "slices": 3}
    rows = [row.patient_id != "P04" for row in whole.rows]
    assert np.array_equal(features_of(whole, **settings)[rows], features_of(without, **settings))


def test_what_is_not_of_the_networks_form_is_refused(tmp_path: Path) -> None:
    volumes = a_set(tmp_path / "volumes", 2)
    flat = a_set(tmp_path / "flat", 2, depth=None)
    with pytest.raises(InputError, match=r"scans: holds volumes of 6 slices.*backbone\.axes"):
        features_of(volumes)
    with pytest.raises(InputError, match=r"scans: holds flat images.*backbone\.axes"):
        features_of(flat, axes=[0])
    with pytest.raises(InputError, match="attention is learned"):
        features_of(volumes, axes=[0], slice_pool="attention")
    backbone = build_backbone(FeatureSettings.model_validate(TINY | {"axes": [0]}), seed=0)
    with pytest.raises(InputError, match=r"head\.views: 1"):
        augmented_features(backbone, volumes, volumes.rows, 2)
    with pytest.raises(InputError, match="no random views are kept"):
        seen_views(backbone, volumes, volumes.rows, 2)


@pytest.mark.parametrize(
    "bad", [{"slices": 4}, {"slice_pool": "mean"}, {"axes": [1, 0]}, {"axes": []}, {"axes": [3]}]
)
def test_settings_that_say_nothing_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="axes"):
        FeatureSettings.model_validate(bad)


def test_of_flat_images_nothing_is_written_that_was_not_before() -> None:
    dumped = FeatureSettings().model_dump(mode="json")
    assert not {"axes", "slices", "slice_pool"} & dumped.keys()
    assert {"axes"} < FeatureSettings(axes=(0,)).model_dump(mode="json").keys()


def test_a_private_head_learns_from_volumes_end_to_end(tmp_path: Path) -> None:
    dataset = a_set(tmp_path / "set", 24)
    run = run_finetune(
        FinetuneSettings.model_validate(
            {
                "data": dataset.root,
                "out": tmp_path / "run",
                "backbone": TINY | {"axes": [0, 1], "slices": 3},
                "privacy": {"epsilon": 8, "delta": 1e-3, "population": 40},
                "head": {"steps": 20},
            }
        )
    )
    of_model = json.loads((run / "model" / "settings.json").read_text())["sources"][0]["backbone"]
    assert of_model["axes"] == [0, 1]
    values = {"run": run, "dataset": dataset.root, "split": "val", "out": tmp_path / "evaluation"}
    evaluation = run_evaluate(EvaluateSettings.model_validate(values))
    predict = {"run": run, "images": dataset.root, "out": tmp_path / "scores.csv"}
    run_predict(PredictSettings.model_validate(predict))
    with open(tmp_path / "scores.csv", encoding="utf-8") as stream:
        scored = {row["image"]: float(row["score_malignant"]) for row in csv.DictReader(stream)}
    assert len(scored) == len(dataset.rows)
    predictions = next(evaluation.rglob("predictions.csv"))
    with open(predictions, encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(dataset.split("val"))
    assert run_predict(PredictSettings.model_validate(predict))  # the same table again
    with pytest.raises(InputError, match="does not say how its volumes were made of scans"):
        run_predict(PredictSettings.model_validate(predict | {"images": dataset.root / "images"}))
    with pytest.raises(InputError, match="give volumes of"):
        Classifier.load(run).predict_proba(np.zeros((1, 16, 16), np.uint8))


WHOLE = {
    "name": "test_convnext",
    "size_px": 32,
    "axes": [0, 1],
    "slices": 2,
    "slice_pool": "attention",
}


def whole_network(seed: int = 0, **settings: object) -> VolumeNetwork:
    asked = FeatureSettings.model_validate(WHOLE | {"precision": "float32"} | settings)
    network = build_backbone(asked, seed=seed, trainable_blocks="all")
    assert isinstance(network, VolumeNetwork)
    return network


def test_attention_begins_as_the_mean_and_is_kept_with_the_network() -> None:
    volumes = torch.rand(3, 6, 16, 16) * 2 - 1
    network, most = whole_network(), whole_network(slice_pool="max")
    plain = whole_network(slice_pool="mean")
    with torch.inference_mode():
        mean = plain(volumes)
        assert torch.allclose(network(volumes), mean, atol=1e-5)
        network.network.slice_attention.score.weight.data.fill_(2)
        assert not torch.allclose(network(volumes), mean, atol=1e-3)
        assert bool((most(volumes) >= mean - 1e-5).all())
    assert "slice_attention.score.weight" in network.own_tensors()
    with pytest.raises(InputError, match="the head alone, or all of it"):
        build_backbone(FeatureSettings.model_validate(WHOLE), seed=0, trainable_blocks=2)


def test_a_whole_network_gives_each_patients_clipped_gradient() -> None:
    backbone = whole_network()
    head = torch.randn(1, backbone.n_features + 1, generator=torch.Generator().manual_seed(0))
    network = trained_network(backbone, head, scaling=None, precision=torch.float32)
    volumes = torch.rand(4, 6, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1

    class Source:
        def __len__(self) -> int:
            return 4

        def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
            return volumes.numpy()[indices]

    units, targets = torch.tensor([0, 0, 1, 2]), torch.tensor([[1.0], [0], [1], [0]])
    examples = ImageExamples(Source(), targets, units, [b"a", b"b", b"c"])
    views = step_views(examples, torch.arange(3), 0)
    clip = 0.05
    total = PatientGradients(network).clipped_sum(examples, views, clip_norm=clip, batch=8)
    wanted = torch.zeros_like(total)
    for patient in range(3):
        own = units == patient
        loss = F.binary_cross_entropy_with_logits(network(volumes[own]), targets[own])
        gradient = torch.autograd.grad(loss, network.trained())
        flat = torch.cat([one.flatten() for one in gradient]).double()
        wanted += flat * min(1.0, clip / float(flat.norm()))
    assert torch.allclose(total, wanted, atol=1e-5)
    assert float(total.norm()) <= 3 * clip


def test_a_whole_network_is_trained_privately_on_volumes(tmp_path: Path) -> None:
    dataset = a_set(tmp_path / "set", 6)
    run = run_finetune(
        FinetuneSettings.model_validate(
            {
                "data": dataset.root,
                "out": tmp_path / "run",
                "backbone": WHOLE,
                "privacy": {"epsilon": 8, "delta": 1e-3, "population": 10},
                "network": {
                    "trainable_blocks": "all",
                    "steps": 2,
                    "augment": {"flip": True},
                    "optimizer": "nadam",
                    "lr": 0.01,
                },
            }
        )
    )
    values = {"run": run, "dataset": dataset.root, "split": "val", "out": tmp_path / "evaluation"}
    assert run_evaluate(EvaluateSettings.model_validate(values)).is_dir()
    predict = {"run": run, "images": dataset.root, "out": tmp_path / "scores.csv"}
    assert run_predict(PredictSettings.model_validate(predict)).is_file()


@pytest.mark.parametrize("augment", [None, {"flip": True}])
def test_a_network_pretrained_on_volumes_starts_a_private_training(
    tmp_path: Path, augment: dict[str, bool] | None
) -> None:
    phantoms = a_set(tmp_path / "phantoms", 6, kind="phantom")
    pretrain = {
        "data": phantoms.root,
        "out": tmp_path / "pre",
        "backbone": WHOLE,
        "trainable_blocks": "all",
        "epochs": 1,
        "views": 1,
        "augment": augment,
    }
    init = run_pretrain(PretrainSettings.model_validate(pretrain))
    finetune = {
        "data": a_set(tmp_path / "set", 6).root,
        "out": tmp_path / "run",
        "init": init,
        "privacy": {"epsilon": 8, "delta": 1e-3, "population": 10},
        "head": {"start": "pretrained", "steps": 2},
    }
    run = run_finetune(FinetuneSettings.model_validate(finetune))
    pooled = load_classifier(run).feature_sources[0].trained
    assert "slice_attention.score.weight" in pooled


def test_slices_of_a_volume_are_augmented_together() -> None:
    plane = np.random.default_rng(0).uniform(-1, 1, (16, 16)).astype(np.float32)

    class Source:
        def __len__(self) -> int:
            return 1

        def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
            return np.repeat(plane[None, None], 5, axis=1)

    augmentation = Augmentation(flip=True)
    units, targets = torch.tensor([0]), torch.tensor([[1.0]])
    examples = ImageExamples(Source(), targets, units, [b"a"], augmentation=augmentation)
    seen = examples.inputs(torch.tensor([0]), torch.tensor([3]))[0]
    assert not torch.equal(seen[0], torch.from_numpy(plane))
    assert all(torch.equal(one, seen[0]) for one in seen)
