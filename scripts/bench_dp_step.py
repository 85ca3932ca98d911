"""Time and peak memory of a DP step on a network, over those of the plain step, in one run.

Three networks: the papers' ResNet9 whole at 64 px, a Swin-T whole at 224 px, and the last blocks of
a ViT on cached tokens. Patients have 1 to 8 images. Each way runs in a process of its own on the
same made-up images, at most `--batch` at a time: the plain step; Opacus's hooks and its ghost
clipping, each with its optimizer (these protect images, not patients); patients' gradients by ours.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from timm.layers import LayerScale
from torch import nn
from torch.nn import functional as F

from classify.network.gradients import (
    PatientGradients,
    TokenExamples,
    Views,
    all_views,
    weighted_loss,
)
from classify.network.top import TrainedNetwork, trained_network
from classify.settings.network import Tune
from synthdp.networks.backbone import build_backbone
from synthdp.networks.settings import FeatureSettings, TrainableBlocks
from synthdp.privacy.keys import new_key
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseSource


@dataclass(frozen=True)
class Workload:
    """A network, the side of its images, what of it is trained, and how many patients there are."""

    backbone: str
    size_px: int
    blocks: TrainableBlocks
    patients: int


WORKLOADS = {
    "resnet9": Workload("resnet9", 64, "all", 64),
    "swin": Workload("swin_tiny_patch4_window7_224", 224, "all", 8),
    "vit": Workload("vit_small_patch14_dinov2", 126, 2, 64),
}
WAYS = {
    "setup": "model and images alone",
    "plain": "plain step",
    "opacus": "Opacus hooks, images",
    "ghost": "Opacus ghost clipping, images",
    "ours": "ours, patients",
}
MECHANISM = Mechanism(noise_multiplier=1.0, sampling_rate=0.1, steps=100, normaliser=64)
LR = 1e-4
MOST_IMAGES = 8


def made_up(arguments: argparse.Namespace) -> tuple[TrainedNetwork, TokenExamples]:
    """A network with random weights, and what its trunk gives for patients of 1 to 8 images."""
    work = WORKLOADS[arguments.workload]
    settings = FeatureSettings(name=work.backbone, size_px=work.size_px)
    backbone = build_backbone(settings, seed=0, trainable_blocks=work.blocks)
    for layer in backbone.network.modules():
        if isinstance(layer, LayerScale):  # starts so small that squares of gradients underflow
            nn.init.ones_(layer.gamma)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        shape = backbone.trunk(torch.zeros(1, 1, work.size_px, work.size_px)).shape[1:]
    patients = torch.arange(arguments.patients or work.patients)
    units = patients.repeat_interleave(patients % MOST_IMAGES + 1)
    inputs = torch.randn(len(units), 1, *shape, generator=generator).half().numpy()
    targets = torch.randint(0, 2, (len(units), 1), generator=generator).float()
    tags = [index.to_bytes(4, "big") for index in patients.tolist()]
    head = 0.1 * torch.randn(1, backbone.n_features + 1, generator=generator)
    precision = torch.float32 if arguments.float32 else None
    network = trained_network(
        backbone, head, scaling=None, tune=arguments.tune, precision=precision
    )
    return network, TokenExamples(inputs, targets, units, tags)


def opacus_step(
    network: TrainedNetwork, examples: TokenExamples, views: Views, batch: int
) -> Callable[[], None]:
    """The batches through Opacus's hooks and optimizer, clipped image by image."""
    hooked = GradSampleModule(network.train(), loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(hooked.parameters(), lr=LR),
        noise_multiplier=MECHANISM.noise_multiplier,
        max_grad_norm=MECHANISM.clip_norm,
        expected_batch_size=len(views.images),
        loss_reduction="sum",
    )
    ones, parts = torch.ones(len(views.images)), list(views.batches(batch))

    def step() -> None:
        for part in parts:
            optimizer.signal_skip_step(do_skip=part is not parts[-1])
            weighted_loss(hooked, examples, views, part, ones)[0].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def ghost_step(
    network: TrainedNetwork, examples: TokenExamples, views: Views, batch: int
) -> Callable[[], None]:
    """The batches by Opacus's norms without gradients, and a second pass backward, reweighted."""
    hooked = GradSampleModuleFastGradientClipping(
        network.train(), loss_reduction="sum", max_grad_norm=MECHANISM.clip_norm
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(hooked.parameters(), lr=LR),
        noise_multiplier=MECHANISM.noise_multiplier,
        max_grad_norm=MECHANISM.clip_norm,
        expected_batch_size=len(views.images),
        loss_reduction="sum",
    )
    parts = list(views.batches(batch))

    def step() -> None:
        for part in parts:
            images = views.images[part]
            inputs = examples.inputs(images, views.views[part]).float()
            losses = F.binary_cross_entropy_with_logits(
                hooked(inputs), examples.targets[images], reduction="none"
            )
            optimizer.signal_skip_step(do_skip=part is not parts[-1])
            DPTensorFastGradientClipping(hooked, optimizer, losses.sum(dim=1), "sum").backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def our_step(
    network: TrainedNetwork, examples: TokenExamples, views: Views, arguments: argparse.Namespace
) -> Callable[[], None]:
    """Clipped sum, noise, descent."""
    gradients = PatientGradients(network)
    source, batch = NoiseSource(new_key(), arguments.noise), arguments.batch
    weights, steps = network.flat(), iter(range(10**6))

    def step() -> None:
        total = gradients.clipped_sum(examples, views, clip_norm=MECHANISM.clip_norm, batch=batch)
        weights.sub_(noisy_mean(total, MECHANISM, source, next(steps)), alpha=LR)
        network.load_flat(weights)

    return step


def plain_step(
    network: TrainedNetwork, examples: TokenExamples, views: Views, batch: int
) -> Callable[[], None]:
    """The same physical batches, without clipping and noise."""
    optimizer = torch.optim.SGD(network.trained(), lr=LR)
    shares = views.shares

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for part in views.batches(batch):
            loss, _ = weighted_loss(network, examples, views, part, shares, towards_inputs=False)
            loss.backward()
        optimizer.step()

    return step


def step_of(arguments: argparse.Namespace) -> Callable[[], None]:
    """The step that `--only` names."""
    network, examples = made_up(arguments)
    views = all_views(examples, torch.arange(len(examples.tags)))
    steps: dict[str, Callable[[], Callable[[], None]]] = {
        "setup": lambda: lambda: None,
        "plain": lambda: plain_step(network, examples, views, arguments.batch),
        "opacus": lambda: opacus_step(network, examples, views, arguments.batch),
        "ghost": lambda: ghost_step(network, examples, views, arguments.batch),
        "ours": lambda: our_step(network, examples, views, arguments),
    }
    return steps[arguments.only]()


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a step (wall and processor), and the process's peak memory in MB."""
    try:
        step = step_of(arguments)
        step()
    except (NotImplementedError, RuntimeError, ValueError) as error:  # of Opacus: it says why
        return {"refused": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:90]}"}
    wall, processor = [], []
    for _ in range(arguments.repeats):
        began, began_cpu = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - began_cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "wall_s": statistics.median(wall),
        "cpu_s": statistics.median(processor),
        "peak_mb": peak,
    }


def in_own_process(workload: str, way: str) -> dict[str, Any]:
    """The measures of one way, from a fresh process with the same arguments."""
    command = [sys.executable, __file__, *sys.argv[1:], "--workload", workload, "--only", way]
    output = subprocess.run(  # noqa: S603 (this file itself)
        command, check=True, capture_output=True, text=True
    )
    measures: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return measures


def print_table(workload: str) -> None:
    """All ways of one network, and their ratios to the plain step."""
    work = WORKLOADS[workload]
    measures = {way: in_own_process(workload, way) for way in WAYS}
    setup, plain = measures.pop("setup")["peak_mb"], measures["plain"]
    print(f"{work.backbone} at {work.size_px} px, blocks: {work.blocks}; setup {setup:.0f} MB")
    print(f"{'':31} wall     cpu    / plain: wall  cpu    peak    / plain")
    for way, values in measures.items():
        if "refused" in values:
            print(f"{WAYS[way]:29} {values['refused']}")
            continue
        ratios = {key: values[key] / plain[key] for key in plain}
        print(
            f"{WAYS[way]:29} {values['wall_s']:6.2f} s {values['cpu_s']:6.2f} s"
            f" {ratios['wall_s']:12.2f} {ratios['cpu_s']:5.2f} {values['peak_mb']:6.0f} MB"
            f" {ratios['peak_mb']:6.2f}",
            flush=True,
        )


def main() -> None:
    """Print a table for each network; the peak is that of the whole process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_dp_step.py --workload resnet9"
    )
    parser.add_argument("--workload", choices=list(WORKLOADS), help="one alone")
    parser.add_argument("--patients", type=int, help="how many, of 1 to 8 images")
    parser.add_argument("--batch", type=int, default=16, help="views at a time")
    parser.add_argument("--tune", choices=get_args(Tune), default="blocks")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 where it could be")
    parser.add_argument("--noise", choices=("philox", "shake256"), default="philox")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=list(WAYS), help="one way of a workload, as JSON")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measured(arguments)))
        return
    for workload in [arguments.workload] if arguments.workload else WORKLOADS:
        print_table(workload)


if __name__ == "__main__":
    main()
