"""Check whole networks under DP on one GPU, on phantom radiographs that it draws itself.

In at most ten minutes: draws 112,120 radiographs (as NIH ChestX-ray14 has); measures images a
second of a plain step, of Opacus (hooks, and ghost clipping; these protect images) and of patients'
clipped gradients; trains ResNet9 and a ViT whole with DP for the time that is left; prints the
macro AUROC on patients that were held out. `--miniature` does the same within seconds on a CPU.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from classify.network.descent import Descent
from classify.network.gradients import PatientGradients, Views, weighted_loss
from classify.network.images import ImageExamples, step_views
from classify.network.top import TrainedNetwork, trained_network
from classify.settings.network import NetworkSettings
from synthdp.data.importing.images.parallel import in_order
from synthdp.data.phantoms.chest.chest_set import draw_images, plan_of
from synthdp.data.phantoms.chest.people import Plan
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.machine.devices import chosen_device
from synthdp.networks.backbone import build_backbone
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.keys import new_key
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.noisy_sum.sampling import sampled_units

#: Images of a patient, in the mean of NIH's table; patients that a process draws at a time.
IMAGES_A_PATIENT, PATIENTS_A_PART = 3.64, 50
#: Share of the patients who are held out, and images that are scored of these at most.
HELD_OUT, MOST_SCORED = 0.1, 4000
SEPARATION = 3.0
LR, NOISE, EPOCHS, DELTA = 2e-3, 1.0, 20, 1e-5


@dataclass(frozen=True)
class Size:
    """How large a check is: images in all, their side, patients of a step, seconds."""

    images: int
    size_px: int
    networks: tuple[str, ...]
    patients_a_step: int
    batch: int
    seconds: float
    steps: int


FULL = Size(112_120, 64, ("resnet9", "vit_tiny_patch16_224"), 256, 512, 540, 10**6)
MINIATURE = Size(80, 32, ("resnet9", "vit_tiny_patch16_224"), 3, 8, 12, 1)


class Pixels:
    """Images in memory, (N, S, S) uint8, as a source of `ImageExamples`."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Those at some places, (n, 1, S, S) float32 in [-1, 1]."""
        return self._pixels[indices, None].astype(np.float32) * np.float32(2 / 255) - np.float32(1)


def _drawn(
    plan: Plan, size_px: int, numbers: Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], list[int]]:
    """Images, targets and patients of some numbers."""
    pixels, targets, patients = [], [], []
    for number in numbers:
        patient = plan.patient(number)
        pixels += draw_images(plan, patient, SEPARATION, size_px)
        targets += [image.targets for image in patient.images]
        patients += [number] * len(patient.images)
    return np.stack(pixels), np.array(targets, dtype=np.float32), patients


def draw(size: Size, workers: int | None) -> tuple[ImageExamples, ImageExamples]:
    """Phantoms to train on and phantoms held out, no patient in both."""
    n_patients = round(size.images / IMAGES_A_PATIENT)
    plan = plan_of(PhantomSettings(out=Path("unused"), subject="chest", patients=n_patients))
    numbers = range(1, n_patients + 1)
    parts = [numbers[at : at + PATIENTS_A_PART] for at in range(0, n_patients, PATIENTS_A_PART)]
    drawn = list(in_order(partial(_drawn, plan, size.size_px), parts, workers=workers))
    pixels, targets = (np.concatenate([part[index] for part in drawn]) for index in (0, 1))
    patients = np.array([number for part in drawn for number in part[2]])
    held_out = patients > n_patients * (1 - HELD_OUT)
    return _examples(pixels, targets, patients, ~held_out), _examples(
        pixels, targets, patients, held_out
    )


def _examples(
    pixels: NDArray[np.uint8],
    targets: NDArray[np.float32],
    patients: NDArray[np.int64],
    chosen: NDArray[np.bool_],
) -> ImageExamples:
    names, units = np.unique(patients[chosen], return_inverse=True)
    tags = [int(name).to_bytes(8, "big") for name in names]
    return ImageExamples(
        Pixels(pixels[chosen]), torch.from_numpy(targets[chosen]), torch.from_numpy(units), tags
    )


def network_of(name: str, size_px: int, n_targets: int, device: torch.device) -> TrainedNetwork:
    """A network with random weights under a head of zeros, all of it open to training."""
    settings = FeatureSettings(name=name, size_px=size_px)
    backbone = build_backbone(settings, seed=0, trainable_blocks="all").to(device)
    head = torch.zeros(n_targets, backbone.n_features + 1, device=device)
    return trained_network(backbone, head, scaling=None).to(device)


Step = Callable[[Views], None]


def plain_step(network: TrainedNetwork, examples: ImageExamples, batch: int) -> Step:
    """Without clipping and noise."""
    optimizer = torch.optim.SGD(network.trained(), lr=LR)

    def step(views: Views) -> None:
        optimizer.zero_grad(set_to_none=True)
        for part in views.batches(batch):
            loss, _ = weighted_loss(
                network, examples, views, part, views.shares, towards_inputs=False
            )
            loss.backward()
        optimizer.step()

    return step


def opacus_step(network: TrainedNetwork, examples: ImageExamples, batch: int) -> Step:
    """Opacus's hooks: each image's gradient is made and clipped."""
    hooked = GradSampleModule(network.train(), loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(hooked.parameters(), lr=LR),
        noise_multiplier=NOISE,
        max_grad_norm=1.0,
        expected_batch_size=batch,
        loss_reduction="sum",
    )

    def step(views: Views) -> None:
        parts, ones = list(views.batches(batch)), torch.ones(len(views.images))
        for part in parts:
            optimizer.signal_skip_step(do_skip=part is not parts[-1])
            weighted_loss(hooked, examples, views, part, ones)[0].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def ghost_step(network: TrainedNetwork, examples: ImageExamples, batch: int) -> Step:
    """Opacus's ghost clipping: norms without gradients, and a second pass, reweighted."""
    hooked = GradSampleModuleFastGradientClipping(
        network.train(), loss_reduction="sum", max_grad_norm=1.0
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(hooked.parameters(), lr=LR),
        noise_multiplier=NOISE,
        max_grad_norm=1.0,
        expected_batch_size=batch,
        loss_reduction="sum",
    )
    device = next(network.parameters()).device

    def step(views: Views) -> None:
        parts = list(views.batches(batch))
        for part in parts:
            inputs = examples.inputs(views.images[part], views.views[part]).to(device)
            wanted = examples.targets[views.images[part]].to(device)
            losses = F.binary_cross_entropy_with_logits(hooked(inputs), wanted, reduction="none")
            optimizer.signal_skip_step(do_skip=part is not parts[-1])
            DPTensorFastGradientClipping(hooked, optimizer, losses.sum(dim=1), "sum").backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def our_step(network: TrainedNetwork, examples: ImageExamples, batch: int) -> Step:
    """Each patient's mean gradient, clipped, summed on the lattice, with noise."""
    gradients, source = PatientGradients(network), NoiseSource(new_key(), "philox")
    mechanism = Mechanism(noise_multiplier=NOISE, steps=1, normaliser=batch)
    weights, steps = network.flat(), iter(range(10**6))

    def step(views: Views) -> None:
        total = gradients.clipped_sum(examples, views, clip_norm=1.0, batch=batch)
        weights.sub_(noisy_mean(total, mechanism, source, next(steps)).to(weights), alpha=LR)
        network.load_flat(weights)

    return step


WAYS: dict[str, Callable[[TrainedNetwork, ImageExamples, int], Step]] = {
    "plain step": plain_step,
    "Opacus hooks (images)": opacus_step,
    "Opacus ghost clipping (images)": ghost_step,
    "ours (patients)": our_step,
}


#: What Opacus raises where it can't hook a network, such as a ViT's own position parameters.
_OF_OPACUS = (AttributeError, NotImplementedError, RuntimeError, ValueError)


def _synchronised(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def images_a_second(
    step: Step, examples: ImageExamples, size: Size, seconds: float, device: torch.device
) -> float:
    """Of steps on one public choice of patients, after a first one that is not counted."""
    views = step_views(examples, torch.arange(min(size.patients_a_step, len(examples.tags))), 0)
    step(views)
    began, images = _synchronised(device), 0
    for _ in range(size.steps):
        step(views)
        images += len(views.images)
        if _synchronised(device) - began > seconds:
            break
    return images / (_synchronised(device) - began)


@dataclass(frozen=True)
class Trained:
    """What a training with DP came to; epsilon: of a patient, at delta 1e-5."""

    steps: int
    epochs: float
    seconds: float
    images_a_second: float
    epsilon: float
    macro_auroc: float
    peak_gb: float


def train(
    network: TrainedNetwork,
    examples: ImageExamples,
    held_out: ImageExamples,
    size: Size,
    seconds: float,
) -> Trained:
    """Train a whole network with DP until the time is up, or 20 epochs are."""
    device = next(network.parameters()).device
    n_patients = len(examples.tags)
    rate = min(1.0, size.patients_a_step / n_patients)
    steps = min(size.steps, round(EPOCHS / rate))
    mechanism = Mechanism(
        noise_multiplier=NOISE, sampling_rate=rate, steps=steps, normaliser=rate * n_patients
    )
    recipe = NetworkSettings(
        optimizer="nadam", lr=LR, scale=1.0, steps=steps, average_from=0.0, average_decay=0.99
    )
    descent = Descent(network.flat(), network.units(), recipe)
    gradients, source = PatientGradients(network), NoiseSource(new_key(), "philox")
    began, images, taken = _synchronised(device), 0, 0
    while taken < steps and _synchronised(device) - began < seconds:
        drawn = sampled_units(mechanism, examples.tags, source, taken)
        views = step_views(examples, drawn, taken, max_images=8)
        total = gradients.clipped_sum(examples, views, clip_norm=1.0, batch=size.batch)
        descent.take(noisy_mean(total, mechanism, source, taken).to(descent.weights), taken)
        network.load_flat(descent.weights)
        images, taken = images + len(views.images), taken + 1
    passed = _synchronised(device) - began
    network.load_flat(descent.result)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    return Trained(
        taken,
        taken * rate,
        passed,
        images / passed,
        mechanism.loss(taken).epsilon(DELTA),
        macro_auroc(network, held_out, size.batch),
        peak,
    )


def macro_auroc(network: TrainedNetwork, examples: ImageExamples, batch: int) -> float:
    """The plain mean over the findings that have both classes among the scored images."""
    device, count = next(network.parameters()).device, min(len(examples.targets), MOST_SCORED)
    scores = []
    with torch.inference_mode():
        for start in range(0, count, batch):
            images = torch.arange(start, min(start + batch, count))
            inputs = examples.inputs(images, torch.zeros_like(images)).to(device)
            scores.append(network(inputs).float().cpu())
    logits, targets = torch.cat(scores).numpy(), examples.targets[:count].numpy()
    both = [index for index in range(targets.shape[1]) if 0 < targets[:, index].mean() < 1]
    return float(np.mean([roc_auc_score(targets[:, one], logits[:, one]) for one in both]))


def check(size: Size, device: torch.device, workers: int | None) -> dict[str, object]:
    """All of the check; prints as it goes."""
    began = time.perf_counter()
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    examples, held_out = draw(size, workers)
    drawing = time.perf_counter() - began
    n_images = len(examples.targets) + len(held_out.targets)
    print(f"{where}: {n_images:,} radiographs at {size.size_px} px drawn in {drawing:.0f} s")
    results: dict[str, object] = {"device": where, "images": n_images, "drawing_s": drawing}
    share = (size.seconds - drawing) / len(size.networks)
    for name in size.networks:
        speeds: dict[str, float | str] = {}
        for way, make in WAYS.items():
            network = network_of(name, size.size_px, examples.targets.shape[1], device)
            try:
                step = make(network, examples, size.batch)
                speeds[way] = images_a_second(step, examples, size, share / 20, device)
            except _OF_OPACUS as error:
                if "Opacus" not in way:
                    raise
                speeds[way] = f"refused: {str(error).strip().splitlines()[0][:80]}"
        print(f"{name}, whole: images a second")
        for way, speed in speeds.items():
            ratio = ""
            if isinstance(speed, float) and isinstance(speeds["plain step"], float):
                ratio = f"  {speeds['plain step'] / speed:6.2f} times the plain step's time"
            shown = f"{speed:10.0f}" if isinstance(speed, float) else f"  {speed}"
            print(f"  {way:32}{shown}{ratio}", flush=True)
        network = network_of(name, size.size_px, examples.targets.shape[1], device)
        trained = train(network, examples, held_out, size, 0.7 * share)
        print(
            f"  trained with DP: {trained.steps} steps ({trained.epochs:.2f} epochs) in "
            f"{trained.seconds:.0f} s, {trained.images_a_second:.0f} images a second; epsilon "
            f"{trained.epsilon:.2f}; macro AUROC {trained.macro_auroc:.3f}; "
            f"{trained.peak_gb:.1f} GB",
            flush=True,
        )
        results[name] = {"images_a_second": speeds, "trained": asdict(trained)}
    results["seconds"] = time.perf_counter() - began
    return results


def main() -> None:
    """Print the tables, and write them as JSON where `--out` says."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  python scripts/device_chest.py --out device-chest.json",
    )
    parser.add_argument("--miniature", action="store_true", help="seconds, on a CPU")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--workers", type=int, help="processes that draw; all cores by default")
    parser.add_argument("--out", type=Path, help="a JSON file of what was measured")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="opacus")
    size = MINIATURE if arguments.miniature else FULL
    device = chosen_device("cpu" if arguments.miniature else arguments.device)
    results = check(size, device, 1 if arguments.miniature else arguments.workers)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
