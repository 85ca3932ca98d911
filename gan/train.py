"""The non-private training of the generator, as a stage."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan.architectures import describe
from gan.board import open_board
from gan.conditions import Conditions, read_conditions
from gan.config import TrainGanSettings
from gan.examples import (
    Examples,
    draw_batch,
    load_examples,
    refuse_missing_classes,
    refuse_other_targets,
)
from gan.steps import (
    Training,
    new_training,
    sample_grid,
    schedule_at,
    total_steps,
    train_step,
    weights_are_finite,
)
from synthdp.cards import model_card
from synthdp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_weights
from synthdp.data.cohorts import cohort_of, cohort_rows
from synthdp.data.dataset import Dataset, Row, keyed_digest, open_dataset
from synthdp.data.images import encode_png, to_uint8
from synthdp.errors import InputError, RunError
from synthdp.files import write_atomic, write_json
from synthdp.privacy.ledger import record_release
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.statement import Statement, make_statement
from synthdp.progress import progress
from synthdp.runs import Run, open_run

STAGE = "train-gan"
PLANNED_RELEASE = "0" * 16
LOG_KIMG = 1.0


def plan_train_gan(settings: TrainGanSettings) -> Statement:
    """What the generator will promise; reads no image.

    Raises:
        InputError: when the data set cannot be used.
    """
    dataset = open_dataset(settings.data)
    _train_rows(dataset, settings)
    return _statement(dataset, settings, PLANNED_RELEASE)


def run_train_gan(settings: TrainGanSettings) -> Path:
    """Train the generator, or resume its training, or return at once; gives the run folder.

    Raises:
        InputError: when the data set cannot be used, or the folder holds something else.
        RunError: when the training diverges.
    """
    with open_run(settings.out, STAGE, settings) as run:
        if run.finished:
            return run.path
        dataset = open_dataset(settings.data)
        rows, conditions = _train_rows(dataset, settings)
        examples = load_examples(dataset, rows, settings.size_px, conditions)
        if (release := _release(dataset, settings, run.release_id)) is not None:
            record_release(dataset.ledger_path, release)
        digest = keyed_digest(dataset, rows)
        training = new_training(settings, chosen_device(settings.device), conditions)
        _restore(training, load_checkpoint(run.checkpoints), digest, examples.attributes)
        folder = run.private / "tensorboard"
        with open_board(folder, enabled=settings.tensorboard, step=training.step) as board:

            def log(**metrics: float) -> None:
                run.log(**metrics)
                board.scalars(**metrics)

            def keep() -> None:
                _save(run, training, digest, examples.attributes)
                grid = sample_grid(training, settings)
                _save_picture(run, grid, training.step * settings.batch / 1000)
                board.picture(grid, training.step)

            train(training, examples, settings, log=log, keep=keep)
        _finish(run, training, settings, dataset)
        return run.path


def _train_rows(dataset: Dataset, settings: TrainGanSettings) -> tuple[tuple[Row, ...], Conditions]:
    """The rows to learn from, and what is told of each."""
    refuse_other_targets(dataset.info)
    rows = cohort_rows(dataset, dataset.split("train"), settings.cohort)
    refuse_missing_classes(dataset.info, rows)
    return rows, read_conditions(rows, settings.conditions, settings.condition_prior)


def train(
    training: Training,
    examples: Examples,
    settings: TrainGanSettings,
    *,
    log: Callable[..., None],
    keep: Callable[[], None],
) -> None:
    """Train from where `training` stands to the end.

    Args:
        training: moved in place.
        examples: the real images, on the CPU.
        settings: the settings of the run.
        log: takes one line of metrics about every thousand images.
        keep: saves a checkpoint; called every `checkpoint_kimg` and at the end.

    Raises:
        RunError: when a loss or a weight is no longer a number; no such weight is kept.
    """
    device = training.generator.device
    autocast = reduced_precision(device)
    last = total_steps(settings)
    kept_step = training.step
    sums: dict[str, Tensor] = {}
    since, steps_since = time.monotonic(), 0
    for step in progress(range(training.step, last), what="training the generator"):
        real = draw_batch(examples, settings, training.rng).to(device)
        metrics = train_step(training, real, settings, autocast)
        kept_now = training.step == last or _passes(settings.checkpoint_kimg, step, settings.batch)
        finite = math.isfinite(float(sum(metrics.values())))
        if not finite or (kept_now and not weights_are_finite(training)):
            raise RunError(_divergence_words(step, kept_step, settings))
        sums = {name: sums.get(name, 0) + value for name, value in metrics.items()}
        steps_since += 1
        if training.step == last or _passes(LOG_KIMG, step, settings.batch):
            seconds = time.monotonic() - since
            log(
                step=training.step,
                kimg=round(training.step * settings.batch / 1000, 3),
                **{name: round(value.item() / steps_since, 5) for name, value in sums.items()},
                sign_mean=round(training.sign_mean, 4),
                augmentation=round(training.strength, 4),
                class_strength=round(schedule_at(step, settings).class_strength, 4),
                images_per_s=round(steps_since * settings.batch / seconds, 2),
            )
            sums, since, steps_since = {}, time.monotonic(), 0
        if kept_now:
            keep()
            kept_step = training.step


def _passes(every_kimg: float, step: int, batch: int) -> bool:
    """Whether a step takes the count of images seen over a multiple of `every_kimg` thousand."""
    every = max(1, round(every_kimg * 1000))
    return (step + 1) * batch // every > step * batch // every


def chosen_device(name: str) -> torch.device:
    """The device that a setting names; `auto` takes CUDA where there is one.

    Raises:
        InputError: when CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda was asked for, but torch finds no CUDA device; use auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def reduced_precision(device: torch.device) -> torch.autocast:
    """Bfloat16 where the hardware multiplies it, else a context that changes nothing."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast)


def _divergence_words(step: int, kept_step: int, settings: TrainGanSettings) -> str:
    last_good = f"the last good checkpoint is that of step {kept_step}"
    kept = last_good if kept_step else "no checkpoint was kept"
    return (
        f"the training diverged at step {step + 1}: a loss or a weight is no longer a number; "
        f"{kept}. Start a new run with lower learning rates (generator_lr "
        f"{settings.generator_lr:g}, discriminator_lr {settings.discriminator_lr:g}) or a higher "
        "gamma_start"
    )


def _save(run: Run, training: Training, digest: str, attributes: Tensor) -> None:
    networks = {
        "generator": training.generator,
        "averaged": training.averaged,
        "discriminator": training.discriminator,
    }
    weights = {
        f"{network}.{name}": tensor
        for network, module in networks.items()
        for name, tensor in module.state_dict().items()
    }
    state = {
        "generator_optimiser": training.generator_optimiser.state_dict(),
        "discriminator_optimiser": training.discriminator_optimiser.state_dict(),
        "rng": training.rng.get_state(),
        "strength": training.strength,
        "sign_mean": training.sign_mean,
        "data": digest,
        "attributes": attributes,
        "conditions": training.conditions.model_dump_json(),
    }
    save_checkpoint(run.checkpoints, training.step, weights, state)


def _save_picture(run: Run, grid: Tensor, kimg: float) -> None:
    picture = encode_png(to_uint8(grid.numpy()))
    write_atomic(run.private / "samples" / f"{kimg:08.1f}-kimg.png", picture)


def _restore(
    training: Training, checkpoint: Checkpoint | None, digest: str, attributes: Tensor
) -> None:
    if checkpoint is None:
        return
    state = checkpoint.state
    told = training.conditions.model_dump_json()
    same = state["data"] == digest and state["conditions"] == told
    if not same or not torch.equal(state["attributes"], attributes):
        raise InputError(
            "data: the train split has changed since this run began; name a new `out`, or bring "
            "the data set back to what it was"
        )
    for network in ("generator", "averaged", "discriminator"):
        prefix = f"{network}."
        weights = {
            name.removeprefix(prefix): tensor
            for name, tensor in checkpoint.weights.items()
            if name.startswith(prefix)
        }
        getattr(training, network).load_state_dict(weights)
    training.generator_optimiser.load_state_dict(state["generator_optimiser"])
    training.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
    training.rng.set_state(state["rng"])
    training.strength = state["strength"]
    training.sign_mean = state["sign_mean"]
    training.step = checkpoint.step


def _release(dataset: Dataset, settings: TrainGanSettings, release_id: str) -> Release | None:
    if not dataset.info.protects_patients:
        return None
    return Release(
        id=release_id,
        stage=STAGE,
        data=dataset.info.name,
        unit=dataset.info.unit,
        mu=math.inf,
        cohort=cohort_of(dataset, settings.cohort),
        note="generator trained without differential privacy",
    )


def _statement(dataset: Dataset, settings: TrainGanSettings, release_id: str) -> Statement:
    release = _release(dataset, settings, release_id)
    lineage: Lineage = dataset.info.lineage
    if release is not None:
        lineage = lineage.with_release(release)
    unit = lineage.releases[0].unit if lineage.releases else "patient"
    return make_statement(lineage, subject="generator", unit=unit, stage=release)


def _finish(run: Run, training: Training, settings: TrainGanSettings, dataset: Dataset) -> None:
    statement = _statement(dataset, settings, run.release_id)
    save_weights(run.model / "generator.safetensors", training.averaged.state_dict())
    write_json(
        run.model / "settings.json",
        {
            **describe(settings, training.conditions),
            "target": dataset.info.targets[0],
            "data": dataset.info.name,
        },
    )
    card = model_card(
        title=f"Conditional generator of {settings.size_px} px patches",
        summary=(
            f"Draws grey {settings.size_px} px patches with {dataset.info.targets[0]} = 0 or 1"
            f"{_told_words(training.conditions)}. It was trained on the train split of "
            f"{dataset.info.name!r} ({dataset.info.kind}). "
            "`synthdp generate` makes a data set with it. Its discriminator is not part of it."
        ),
        statement=statement,
        settings=settings.model_dump(mode="json", exclude={"data", "out", "device"}),
    )
    run.finish(statement, card)


def _told_words(conditions: Conditions) -> str:
    return f", of given {', '.join(conditions.names)}" if conditions.names else ""
