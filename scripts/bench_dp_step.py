"""Time and peak memory of a DP step on the last blocks of a ViT and its head, in one run.

Each way runs in a process of its own, on the same made-up tokens: the plain step; Opacus's hooks as
they come, on the whole batch, with its optimizer (which protects images, not patients); patients'
gradients by our hooks.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import get_args

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from timm.layers import LayerScale
from torch import nn

from classify.config import Tune
from classify.network.gradients import (
    PatientGradients,
    TokenExamples,
    Views,
    all_views,
    weighted_loss,
)
from classify.network.top import TrainedTop, trained_top
from synthdp.config.settings import FeatureSettings
from synthdp.networks.backbone import build_backbone
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseSource, new_key

WAYS = {
    "setup": "model and tokens alone",
    "plain": "plain step",
    "opacus": "Opacus hooks, whole batch, images",
    "ours": "ours, patients, all images",
}
MECHANISM = Mechanism(noise_multiplier=1.0, sampling_rate=0.1, steps=100, normaliser=64)
LR = 1e-4


def made_up(arguments: argparse.Namespace) -> tuple[TrainedTop, TokenExamples]:
    """A network with random weights, and tokens of patients with as many images each."""
    backbone = build_backbone(
        FeatureSettings(name=arguments.backbone, size_px=arguments.size_px),
        seed=0,
        trainable_blocks=arguments.blocks,
    )
    for layer in backbone.network.modules():
        if isinstance(layer, LayerScale):  # starts so small that squares of gradients underflow
            nn.init.ones_(layer.gamma)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        shape = backbone.trunk(torch.zeros(1, 1, arguments.size_px, arguments.size_px)).shape[1:]
    n = arguments.patients * arguments.images
    tokens = torch.randn(n, 1, *shape, generator=generator).half().numpy()
    targets = torch.randint(0, 2, (n, 1), generator=generator).float()
    units = torch.arange(arguments.patients).repeat_interleave(arguments.images)
    tags = [index.to_bytes(4, "big") for index in range(arguments.patients)]
    head = 0.1 * torch.randn(1, backbone.n_features + 1, generator=generator)
    top = trained_top(backbone, head, scaling=None, tune=arguments.tune)
    return top, TokenExamples(tokens, targets, units, tags)


def opacus_step(top: TrainedTop, examples: TokenExamples, views: Views) -> Callable[[], None]:
    """The whole batch through Opacus's hooks and optimizer."""
    hooked = GradSampleModule(top, loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(hooked.parameters(), lr=LR),
        noise_multiplier=MECHANISM.noise_multiplier,
        max_grad_norm=MECHANISM.clip_norm,
        expected_batch_size=len(views.images),
        loss_reduction="sum",
    )
    ones = torch.ones(len(views.images))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        whole = slice(0, len(views.images))
        weighted_loss(hooked, examples, views, whole, ones)[0].backward()
        optimizer.step()

    return step


def our_step(
    top: TrainedTop, examples: TokenExamples, views: Views, arguments: argparse.Namespace
) -> Callable[[], None]:
    """Clipped sum, noise, descent."""
    gradients = PatientGradients(top)
    source, batch = NoiseSource(new_key(), arguments.noise), arguments.batch
    weights, steps = top.flat(), iter(range(10**6))

    def step() -> None:
        total = gradients.clipped_sum(examples, views, clip_norm=MECHANISM.clip_norm, batch=batch)
        weights.sub_(LR * noisy_mean(total, MECHANISM, source, next(steps)))
        top.load_flat(weights)

    return step


def plain_step(
    top: TrainedTop, examples: TokenExamples, views: Views, batch: int
) -> Callable[[], None]:
    """The same physical batches, without clipping and noise."""
    optimizer = torch.optim.SGD(top.trained(), lr=LR)
    shares = views.shares

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for part in views.batches(batch):
            weighted_loss(top, examples, views, part, shares)[0].backward()
        optimizer.step()

    return step


def step_of(arguments: argparse.Namespace) -> Callable[[], None]:
    """The step that `--only` names."""
    top, examples = made_up(arguments)
    views = all_views(examples, torch.arange(arguments.patients))
    if arguments.only == "opacus":
        return opacus_step(top, examples, views)
    if arguments.only == "plain":
        return plain_step(top, examples, views, arguments.batch)
    if arguments.only == "setup":
        return lambda: None
    return our_step(top, examples, views, arguments)


def measured(arguments: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step (wall and processor), and the process's peak memory in MB."""
    step = step_of(arguments)
    step()
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


def in_own_process(way: str) -> dict[str, float]:
    """The measures of one way, from a fresh process with the same arguments."""
    command = [sys.executable, __file__, *sys.argv[1:], "--only", way]
    output = subprocess.run(  # noqa: S603 (this file itself)
        command, check=True, capture_output=True, text=True
    )
    measures: dict[str, float] = json.loads(output.stdout.splitlines()[-1])
    return measures


def main() -> None:
    """Print the table; memory is what a way takes above model and tokens."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_dp_step.py --patients 64"
    )
    parser.add_argument("--backbone", default="vit_small_patch14_dinov2")
    parser.add_argument("--size-px", type=int, default=126)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--tune", choices=get_args(Tune), default="blocks")
    parser.add_argument("--patients", type=int, default=64)
    parser.add_argument("--images", type=int, default=2, help="of each patient")
    parser.add_argument("--batch", type=int, default=16, help="views at a time, Opacus apart")
    parser.add_argument("--noise", choices=("philox", "shake256"), default="philox")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=list(WAYS), help="one way, as JSON")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measured(arguments)))
        return
    measures = {way: in_own_process(way) for way in WAYS}
    setup, plain = measures.pop("setup")["peak_mb"], measures["plain"]
    print(f"{'':38} wall    cpu   / plain: wall  cpu   peak above setup ({setup:.0f} MB)")
    for way, values in measures.items():
        print(
            f"{WAYS[way]:36} {values['wall_s']:5.2f} s {values['cpu_s']:5.2f} s"
            f" {values['wall_s'] / plain['wall_s']:11.2f}"
            f" {values['cpu_s'] / plain['cpu_s']:5.2f} {values['peak_mb'] - setup:7.0f} MB"
        )


if __name__ == "__main__":
    main()
