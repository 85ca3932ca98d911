import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from classify.config import EvaluateSettings, FinetuneSettings, PredictSettings
from classify.evaluate import run_evaluate
from classify.features.extract import augmented_features, backbone_features, trunk_views
from classify.finetune import run_finetune
from classify.library.classifier import Classifier
from classify.predict import run_predict
from synthdp.config.settings import FeatureSettings
from synthdp.data.dataset import Dataset, DatasetInfo, create_dataset, load_volumes, open_dataset
from synthdp.errors import InputError
from synthdp.networks.backbone import build_backbone
from synthdp.networks.slices import n_slices, slices_along

TINY = {"name": "test_efficientnet", "size_px": 16, "precision": "float32"}
DEPTH, SIDE = 6, 16


def a_set(
    root: Path, patients: int = 12, *, depth: int | None = DEPTH, without: int | None = None
) -> Dataset:
    """Volumes with a bright middle where malignant; of the first patient two."""
    info = DatasetInfo(name="scans", kind="real", size_px=SIDE, depth=depth)
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
    assert n_slices((6, 4, 4), [0, 1], 5) == 9


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
    with pytest.raises(InputError, match="holds volumes"):
        trunk_views(backbone, volumes, volumes.rows, 1)


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
    with pytest.raises(InputError, match="takes volumes in the form of a data set"):
        run_predict(PredictSettings.model_validate(predict | {"images": dataset.root / "images"}))
    with pytest.raises(InputError, match="takes volumes"):
        Classifier.load(run).predict_proba(np.zeros((1, 16, 16), np.uint8))
