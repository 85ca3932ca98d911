"""Time the training of generators on one GPU, on made-up images.

In at most eight minutes: images a second of a training step of `configs/gan/gpu-256.yaml` (alone,
and while a frozen network guides it), of networks as wide as StyleGAN2's at 256 px, of the config
for 128 px, and of the paper's DCGAN; each in bfloat16 and float32, with channels last and first;
then images a second that the generator draws. `--miniature` does the same within seconds on a CPU.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from gan.settings.train import TrainGanSettings
from gan.training.examples import Examples
from gan.training.guidance import Guidance
from gan.training.loop import (
    AdversarialRecipe,
    Training,
    new_training,
    random_inputs,
    train_step,
)
from synthdp.config.settings import load_settings
from synthdp.machine.devices import chosen_device, reduced_precision
from synthdp.networks.public.weight_files import found_weights

CONFIGS = Path(__file__).parents[1] / "configs" / "gan"
#: Width of a StyleGAN2 for 256 px (config F of arXiv 1912.04958), from 4 px to half its side.
STYLEGAN2 = [512, 512, 512, 512, 256]


@dataclass(frozen=True)
class Side:
    """What is timed: settings, and whether a frozen network guides the training by then."""

    config: str
    overrides: tuple[str, ...] = ()
    guided: bool = False


@dataclass(frozen=True)
class Size:
    """How large a check is: batches to try, seconds in all, steps of a timing at most."""

    batches: tuple[int, ...]
    seconds: float
    steps: int
    sides: dict[str, Side]


_LARGE = "gpu-256.yaml"
FULL = Size(
    (32, 64),
    480,
    10**6,
    {
        "gpu-256": Side(_LARGE),
        "gpu-256, guided": Side(_LARGE, guided=True),
        "as wide as StyleGAN2, 256 px": Side(_LARGE, (f"channels={STYLEGAN2}",)),
        "cbis-ddsm, 128 px": Side("cbis-ddsm.yaml"),
        "DCGAN of the paper, 128 px": Side("dcgan.yaml"),
    },
)
MINIATURE = Size(
    (4,),
    20,
    1,
    {
        "gpu-256": Side(_LARGE, ("size_px=32", "channels=[32, 16]", "z_dim=16")),
        "cbis-ddsm, 128 px": Side(
            "cbis-ddsm.yaml", ("size_px=32", "channels=[16, 16]", "haar_levels=2", "z_dim=16")
        ),
        "DCGAN of the paper, 128 px": Side("dcgan.yaml", ("size_px=32", "channels=[16, 16, 16]")),
    },
)


@dataclass(frozen=True)
class Form:
    """How numbers stand in memory: in which precision, and channels last or first."""

    bfloat16: bool
    channels_last: bool

    def __str__(self) -> str:
        precision = "bfloat16" if self.bfloat16 else "float32"
        return f"{precision}, channels {'last' if self.channels_last else 'first'}"


FORMS = (Form(True, True), Form(True, False), Form(False, True), Form(False, False))


@dataclass(frozen=True)
class Case:
    """A side in one form, so many images at a time."""

    side: Side
    form: Form
    batch: int

    @property
    def settings(self) -> TrainGanSettings:
        """The settings of the side, with a data set that nobody reads."""
        overrides = ["data=unused", "out=unused", f"batch={self.batch}", "device=auto"]
        overrides += [*self.side.overrides, *([] if self.side.guided else ["guidance=none"])]
        return load_settings(TrainGanSettings, CONFIGS / self.side.config, overrides)


@dataclass(frozen=True)
class Timed:
    """Images a second of a case; `problem` where it could not be timed."""

    side: str
    form: str
    batch: int
    images_a_second: float | None
    peak_gb: float = 0.0
    problem: str = ""


def _synchronised(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def rate(step: Callable[[], object], images: int, size: Size, seconds: float, at: str) -> float:
    """Images a second of steps of so many images, after two that are not counted."""
    device, count = torch.device(at), 0
    for _ in range(min(2, size.steps)):
        step()
    began = _synchronised(device)
    while count < size.steps:
        step()
        count += 1
        if _synchronised(device) - began > seconds:
            break
    return count * images / (_synchronised(device) - began)


def started(settings: TrainGanSettings, form: Form, device: torch.device) -> Training:
    """A new training, its weights in the memory format of the form, half of the way."""
    training = new_training(settings, device)
    if not form.channels_last:
        networks: tuple[nn.Module, ...] = (
            training.generator, training.averaged, training.discriminator,
        )  # fmt: skip
        for network in networks:
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    every = settings.penalty_interval
    # half of the way, where class and guidance are at work; the first step has a gradient penalty
    training.step = round(0.5 * AdversarialRecipe.of(settings).schedule.steps / every) * every
    return training


def training_rate(case: Case, size: Size, seconds: float, device: torch.device) -> float:
    """Images a second of training steps."""
    settings, batch = case.settings, case.batch
    training, recipe = started(settings, case.form, device), AdversarialRecipe.of(settings)
    autocast, guidance = reduced_precision(device, wanted=case.form.bfloat16), None
    if settings.guidance is not None:
        guidance = Guidance(settings.guidance, settings.size_px, settings.seed, device)
    pixels = torch.rand(batch, 1, settings.size_px, settings.size_px) * 2 - 1
    real = Examples(pixels, torch.arange(batch) % 2, torch.empty(batch, 0, dtype=torch.int64))
    on_device = real.to(device)

    def step() -> None:
        train_step(training, on_device, recipe, autocast, guidance)

    return rate(step, batch, size, seconds, device.type)


def drawing_rate(case: Case, size: Size, seconds: float, device: torch.device) -> float:
    """Images a second that the generator draws."""
    training, batch = started(case.settings, case.form, device), case.batch
    autocast, generator = reduced_precision(device, wanted=case.form.bfloat16), training.averaged
    labels, none = torch.arange(batch) % 2, torch.empty(batch, 0, dtype=torch.int64)

    @torch.inference_mode()
    def step() -> None:
        z, noise = random_inputs(generator, batch, training.rng)
        with autocast:
            generator(z, noise, labels.to(device), 1.0, none.to(device)).float().cpu()

    return rate(step, batch, size, seconds, device.type)


#: What is timed of a side, by the name that results have.
KINDS = {"training": training_rate, "drawing": drawing_rate}


def timings(size: Size, device: torch.device) -> Iterator[tuple[str, Timed]]:
    """Each side in each form; what does not fit into memory, or finds no weights, is told."""
    asked = [
        (kind, name, Case(side, form, batch))
        for batch in size.batches
        for name, side in size.sides.items()
        for form in FORMS
        for kind in KINDS
        if kind == "training" or not side.guided
    ]
    ends = time.perf_counter() + size.seconds
    for index, (kind, name, case) in enumerate(asked):
        left = ends - time.perf_counter()
        problem = "" if left > 0 else "the time was up"
        if case.side.guided and not problem:
            problem = _without_weights(case.settings)
        speed, peak = None, 0.0
        if not problem:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            # what starting and the first steps take comes out of the same share
            seconds = 0.5 * left / (len(asked) - index)
            try:
                speed = KINDS[kind](case, size, seconds, device)
            except torch.OutOfMemoryError:
                problem = "does not fit into memory"
            if device.type == "cuda":
                peak = torch.cuda.max_memory_allocated() / 2**30
                torch.cuda.empty_cache()
        yield kind, Timed(name, str(case.form), case.batch, speed, peak, problem)


def _without_weights(settings: TrainGanSettings) -> str:
    """Why a side can't be guided; empty where it can."""
    assert settings.guidance is not None  # sides that are guided say by what
    features = settings.guidance.features
    return "" if found_weights(features) is not None else f"{features.weights} is not at hand"


def check(size: Size, device: torch.device) -> dict[str, object]:
    """All of the check; prints as it goes."""
    began = time.perf_counter()
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{where}: images a second")
    results: dict[str, list[dict[str, object]]] = {kind: [] for kind in KINDS}
    for kind, timed in timings(size, device):
        shown = timed.problem
        if timed.images_a_second is not None:
            memory = f", {timed.peak_gb:.1f} GB" if timed.peak_gb else ""
            shown = f"{timed.images_a_second:10,.1f}{memory}"
        about = f"  {kind:8} {timed.side:30} {timed.form:24} batch {timed.batch:3}"
        print(about, shown, flush=True)
        results[kind].append(asdict(timed))
    return {"device": where, **results, "seconds": time.perf_counter() - began}


def main() -> None:
    """Print the table, and write it as JSON where `--out` says."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  python scripts/device_gan.py --out device-gan.json",
    )
    parser.add_argument("--miniature", action="store_true", help="seconds, on a CPU")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, help="a JSON file of what was measured")
    arguments = parser.parse_args()
    size = MINIATURE if arguments.miniature else FULL
    device = chosen_device("cpu" if arguments.miniature else arguments.device)
    results = check(size, device)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
