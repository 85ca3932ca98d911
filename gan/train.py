"""The non-private training of the generator, as a stage."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan.config import TrainGanSettings
from gan.steps import (
    Training,
    draw_batch,
    new_training,
    sample_grid,
    schedule_at,
    total_steps,
    train_step,
)
from synthdp.cards import model_card
from synthdp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_weights
from synthdp.data.cohorts import cohort_of, cohort_rows
from synthdp.data.dataset import (
    Dataset,
    DatasetInfo,
    Row,
    keyed_digest,
    load_images,
    open_dataset,
    targets_array,
)
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
    _refuse_other_targets(dataset.info)
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
        rows = cohort_rows(dataset, dataset.split("train"), settings.cohort)
        images_by_class = load_classes(dataset, rows, settings.size_px)
        if (release := _release(dataset, settings, run.release_id)) is not None:
            record_release(dataset.ledger_path, release)
        digest = keyed_digest(dataset, rows)
        training = new_training(settings, chosen_device(settings.device))
        _restore(training, load_checkpoint(run.checkpoints), digest)

        def keep() -> None:
            _save(run, training, settings, digest)

        train(training, images_by_class, settings, log=run.log, keep=keep)
        _finish(run, training, settings, dataset)
        return run.path


def train(
    training: Training,
    images_by_class: tuple[Tensor, Tensor],
    settings: TrainGanSettings,
    *,
    log: Callable[..., None],
    keep: Callable[[], None],
) -> None:
    """Train from where `training` stands to the end.

    Args:
        training: moved in place.
        images_by_class: benign and malignant images, (N, 1, S, S) float32 in [-1, 1] each.
        settings: the settings of the run.
        log: takes one line of metrics about every thousand images.
        keep: saves a checkpoint; called every `checkpoint_kimg` and at the end.

    Raises:
        RunError: when a loss is no longer a number.
    """
    device = training.generator.constant.device
    autocast = reduced_precision(device)
    last = total_steps(settings)
    kept_step = training.step
    sums: dict[str, Tensor] = {}
    since, steps_since = time.monotonic(), 0
    for step in progress(range(training.step, last), what="training the generator"):
        real, labels = draw_batch(images_by_class, settings, training.rng)
        metrics = train_step(training, real.to(device), labels.to(device), settings, autocast)
        if not math.isfinite(float(sum(metrics.values()))):
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
        if training.step == last or _passes(settings.checkpoint_kimg, step, settings.batch):
            keep()
            kept_step = training.step


def _passes(every_kimg: float, step: int, batch: int) -> bool:
    """Whether a step takes the count of images seen over a multiple of `every_kimg` thousand."""
    every = max(1, round(every_kimg * 1000))
    return (step + 1) * batch // every > step * batch // every


def load_classes(dataset: Dataset, rows: Sequence[Row], size_px: int) -> tuple[Tensor, Tensor]:
    """Read train images, benign and malignant apart: (N, 1, S, S) float32 in [-1, 1] each.

    Raises:
        InputError: when the set is not about one target, or the split lacks a class or a label.
    """
    _refuse_other_targets(dataset.info)
    target = torch.from_numpy(targets_array(rows))[:, 0]
    name = dataset.info.targets[0]
    if bool(target.isnan().any()):
        raise InputError(
            f"{dataset.info.name}: {int(target.isnan().sum())} images of the train split have no "
            f"label in column {name!r}; the generator needs a class for each, so leave them out"
        )
    for value in (0, 1):
        if not bool((target == value).any()):
            raise InputError(
                f"{dataset.info.name}: no image of the train split has {name} = {value}; the "
                "generator learns two classes, so give it images of both"
            )
    images = torch.from_numpy(load_images(dataset, rows, size_px))
    return images[target == 0], images[target == 1]


def _refuse_other_targets(info: DatasetInfo) -> None:
    if len(info.targets) != 1:
        raise InputError(
            f"{info.name}: has {len(info.targets)} targets ({', '.join(info.targets)}), but the "
            "generator is conditioned on one; keep one of them in a data set of its own"
        )


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
    kept = f"the last good checkpoint is that of step {kept_step}"
    kept = kept if kept_step else "no checkpoint was kept"
    return (
        f"the training diverged at step {step + 1}: a loss is no longer a number; {kept}. Start a "
        f"new run with lower learning rates (generator_lr {settings.generator_lr:g}, "
        f"discriminator_lr {settings.discriminator_lr:g}) or a higher gamma_start"
    )


def _save(run: Run, training: Training, settings: TrainGanSettings, digest: str) -> None:
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
    }
    save_checkpoint(run.checkpoints, training.step, weights, state)
    kimg = training.step * settings.batch / 1000
    picture = encode_png(to_uint8(sample_grid(training, settings).numpy()))
    write_atomic(run.private / "samples" / f"{kimg:08.1f}-kimg.png", picture)


def _restore(training: Training, checkpoint: Checkpoint | None, digest: str) -> None:
    if checkpoint is None:
        return
    if checkpoint.state["data"] != digest:
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
    training.generator_optimiser.load_state_dict(checkpoint.state["generator_optimiser"])
    training.discriminator_optimiser.load_state_dict(checkpoint.state["discriminator_optimiser"])
    training.rng.set_state(checkpoint.state["rng"])
    training.strength = checkpoint.state["strength"]
    training.sign_mean = checkpoint.state["sign_mean"]
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
            "architecture": "mcgan-haar",
            "size_px": settings.size_px,
            "haar_levels": settings.haar_levels,
            "channels": list(settings.channels),
            "z_dim": settings.z_dim,
            "target": dataset.info.targets[0],
            "data": dataset.info.name,
        },
    )
    card = model_card(
        title=f"Conditional generator of {settings.size_px} px patches",
        summary=(
            f"Draws grey {settings.size_px} px patches with {dataset.info.targets[0]} = 0 or 1. It "
            f"was trained on the train split of {dataset.info.name!r} ({dataset.info.kind}). "
            "`synthdp generate` makes a data set with it. Its discriminator is not part of it."
        ),
        statement=statement,
        settings=settings.model_dump(mode="json", exclude={"data", "out", "device"}),
    )
    run.finish(statement, card)
