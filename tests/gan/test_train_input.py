"""Training on sets that are small, flat or misshapen, and stops at any moment."""

import json
import math
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan.package.conditions import Conditions
from gan.plans.train import plan_train_gan
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training import loop
from gan.training.examples import Examples, load_examples
from gan.training.loop import AdversarialRecipe
from synthdp.checkpoint import load_checkpoint
from synthdp.config.settings import load_settings
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.images import encode_png
from synthdp.data.writer import create_dataset
from synthdp.errors import RunError

TinySettings = Callable[..., TrainGanSettings]
MakeSet = Callable[..., Path]
CONFIGS = Path(__file__).parents[2] / "configs" / "gan"


def test_a_constant_image_of_each_class_is_enough(
    tmp_path: Path, tiny_settings: TinySettings
) -> None:
    data = tmp_path / "flat"
    with create_dataset(data, DatasetInfo(name="flat", kind="phantom", size_px=32)) as writer:
        for label in (0, 1):
            flat = np.full((32, 32), 255 * label, np.uint8)
            writer.add(flat, patient_id=f"p{label}", split="train", targets=[label])
    run = run_train_gan(tiny_settings(data, tmp_path / "run"))
    last = json.loads((run / "private" / "metrics.jsonl").read_text().splitlines()[-1])
    assert math.isfinite(last["loss_generator"])


def test_images_of_another_size_are_resampled(tmp_path: Path, make_set: MakeSet) -> None:
    data = make_set(tmp_path / "discs")
    dataset = open_dataset(data)
    rows = dataset.split("train")
    expected = load_examples(dataset, rows, 32).images
    large = np.full((64, 64), 200, np.uint8)
    (data / rows[0].image).write_bytes(encode_png(large))
    found = load_examples(dataset, rows, 32).images
    torch.testing.assert_close(found[0], torch.full((1, 32, 32), 200 * 2 / 255 - 1))
    assert torch.equal(found[1:], expected[1:])


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_nan_weight_stops_at_the_last_good_checkpoint(
    discs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_settings: TinySettings,
    network: str,
) -> None:
    settings = tiny_settings(discs, tmp_path / "run", checkpoint_kimg=0.024)
    real_step = loop.train_step

    def poisoned(training: loop.Training, *arguments: Any) -> dict[str, torch.Tensor]:
        metrics = real_step(training, *arguments)
        if training.step == 6:  # the losses of this step are still numbers
            with torch.no_grad():
                next(getattr(training, network).parameters()).fill_(math.nan)
        return metrics

    monkeypatch.setattr(loop, "train_step", poisoned)
    with pytest.raises(RunError, match=r"diverged at step 6.*that of step 3"):
        run_train_gan(settings)
    kept = load_checkpoint(settings.out / "private" / "checkpoints")
    assert kept is not None
    assert kept.step == 3
    assert all(bool(tensor.isfinite().all()) for tensor in kept.weights.values())
    monkeypatch.setattr(loop, "train_step", real_step)
    run_train_gan(settings)  # from step 3, as if nothing had happened


def test_a_run_that_is_killed_again_and_again_ends_the_same(
    discs: Path, tmp_path: Path, tiny_settings: TinySettings
) -> None:
    changes = {"kimg": 0.16, "checkpoint_kimg": 0.032}
    whole = on_one_thread(tiny_settings(discs, tmp_path / "whole", **changes))
    settings = tiny_settings(discs, tmp_path / "torn", **changes)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gan.train"])
    checkpoints = settings.out / "private" / "checkpoints"
    for kept, at in ((4, 6), (12, 15)):  # kept each fourth of twenty steps
        process = context.Process(target=hanging_in_step, args=(settings, at))
        process.start()
        while process.is_alive() and newest(checkpoints) < kept:
            process.join(0.003)
        process.kill()
        process.join()
        assert process.exitcode == -9
        assert newest(checkpoints) == kept
    on_one_thread(settings)
    expected = (whole / "model" / "generator.safetensors").read_bytes()
    assert (settings.out / "model" / "generator.safetensors").read_bytes() == expected


def hanging_in_step(settings: TrainGanSettings, at: int) -> None:
    """Train up to this step: however busy the machine, whoever kills this comes in time."""
    step = loop.train_step

    def hanging(training: loop.Training, *arguments: Any) -> dict[str, torch.Tensor]:
        if training.step == at:
            time.sleep(600)
        return step(training, *arguments)

    loop.train_step = hanging
    on_one_thread(settings)


def on_one_thread(settings: TrainGanSettings) -> Path:
    """Train on one thread: on a busy machine two may, once in many runs, add up otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run_train_gan(settings)
    finally:
        torch.set_num_threads(before)


def newest(checkpoints: Path) -> int:
    return max((int(index.stem) for index in checkpoints.glob("*.json")), default=-1)


def test_a_step_in_bfloat16(discs: Path, tiny_settings: TinySettings) -> None:
    settings = tiny_settings(discs, discs, haar_levels=2, channels=(16, 16))
    training = loop.new_training(settings, torch.device("cpu"))
    labels = torch.arange(8) % 2
    real = Examples(torch.rand(8, 1, 32, 32) * 2 - 1, labels, torch.empty(8, 0).long())
    seen: list[torch.dtype] = []
    body = training.discriminator.body  # type: ignore[union-attr]  # arch: haar
    body.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    for _ in range(2):
        autocast = torch.autocast("cpu", dtype=torch.bfloat16)
        metrics = loop.train_step(training, real, AdversarialRecipe.of(settings), autocast)
        assert all(math.isfinite(value) for value in metrics.values())
    assert seen.count(torch.bfloat16) == 8
    assert seen.count(torch.float32) == 2  # the penalties of the first step
    assert loop.weights_are_finite(training)
    grid = loop.sample_grid(training.averaged, Conditions(), seed=0, batch=8)
    assert grid.dtype == torch.float32


def test_the_gpu_settings_plan_and_step_on_a_small_scale(discs: Path) -> None:
    given = [f"data={discs}", "out=o"]
    settings = load_settings(TrainGanSettings, CONFIGS / "gpu-256.yaml", given)
    assert plan_train_gan(settings).epsilon == 0
    load_settings(
        TrainGanSettings,
        CONFIGS / "gpu-256.yaml",
        [*given, "size_px=512", "channels=[512, 512, 384, 256, 128, 64]"],
    )
    small = settings.model_copy(update={"channels": (8, 8, 4, 4, 4), "batch": 4})
    training = loop.new_training(small, torch.device("cpu"))
    real = Examples(torch.zeros(4, 1, 256, 256), torch.arange(4) % 2, torch.empty(4, 0).long())
    autocast = torch.autocast("cpu", enabled=False)
    metrics = loop.train_step(training, real, AdversarialRecipe.of(small), autocast)
    assert all(math.isfinite(value) for value in metrics.values())
    grid = loop.sample_grid(training.averaged, Conditions(), seed=0, batch=4)
    assert grid.shape == (4 * 256, 8 * 256)
