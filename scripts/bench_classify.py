"""Speed of the classifier: heads on cached features, extraction, and the paper's loop beside them.

All in one run, on made-up images and random weights of the named networks: the time of a
multiplication does not depend on what is multiplied.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bench_head import seconds
from opacus import PrivacyEngine
from torch.utils.data import DataLoader, TensorDataset

from classify.auditing.head.subject import HeadSubject, train_subject
from classify.features.extract import backbone_features
from classify.head.examples import HeadExamples
from classify.head.train import HeadRecipe, lr_times_steps
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.machine.devices import reduced_precision
from synthdp.networks.backbone import Backbone, build_backbone
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.keys import new_key
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource

EPSILONS, SEEDS = (1.0, 6.0, 12.0, 20.0, 60.0), 5
PATIENTS, IMAGES, DELTA, POPULATION = 578, 1104, 1e-4, 600
PAPER_EPOCHS, PAPER_BATCHES = 300, 9


def examples(n_features: int) -> HeadExamples:
    """As many images and patients as CBIS-DDSM train, with unit-norm features."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(IMAGES, n_features, generator=generator)
    units = torch.arange(IMAGES) % PATIENTS
    targets = torch.randint(0, 2, (IMAGES, 1), generator=generator).float()
    return HeadExamples(torch.nn.functional.normalize(inputs, dim=1), targets, units)


def train_heads(data: HeadExamples, steps: int) -> None:
    """Every epsilon with every seed, with ledger and checkpoints, as the finetune stage does."""
    for epsilon in EPSILONS:
        mechanism = Mechanism.reaching(
            epsilon=epsilon, delta=DELTA, steps=steps, normaliser=POPULATION
        )
        recipe = HeadRecipe(steps, lr_times_steps(epsilon) / steps, 0.5, 100)
        start = torch.zeros(1, data.inputs.shape[1])
        subject = HeadSubject(data, recipe, mechanism, start, DELTA)
        for _ in range(SEEDS):
            with tempfile.TemporaryDirectory() as name:
                train_subject(subject, NoiseSource(new_key(), "shake256"), Path(name))


def paper_epoch(network: Backbone, images: torch.Tensor) -> float:
    """Seconds of one epoch of the paper's loop: the frozen network runs again in every step.

    Opacus's engine as its code uses it, a two-layer head, AdamW, batches of a ninth of the set.
    """
    head = torch.nn.Sequential(
        torch.nn.Linear(network.n_features, 384), torch.nn.ReLU(), torch.nn.Linear(384, 2)
    )
    labels = torch.arange(len(images)) % 2
    loader = DataLoader(TensorDataset(images, labels), batch_size=len(images) // PAPER_BATCHES)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-5)
    head, optimizer, loader = PrivacyEngine(accountant="rdp").make_private(
        module=head, optimizer=optimizer, data_loader=loader, noise_multiplier=4.3, max_grad_norm=1
    )
    began = time.perf_counter()
    for batch, label in loader:
        with torch.no_grad():
            features = network(batch)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(features), label, label_smoothing=0.1).backward()
        optimizer.step()
    return time.perf_counter() - began


def extraction(network: Backbone, count: int, folder: Path) -> tuple[float, float, float]:
    """Seconds for images of a set: the plain forward pass, extraction, and a second reading."""
    side = network.settings.size_px
    generator = np.random.default_rng(0)
    info = DatasetInfo(name="bench", kind="phantom", size_px=128)
    with create_dataset(folder / "set", info) as writer:
        for index in range(count):
            pixels = generator.integers(0, 255, (128, 128)).astype(np.uint8)
            writer.add(pixels, patient_id=f"p{index}", split="train", targets=[index % 2])
    dataset = open_dataset(folder / "set")
    batches = torch.rand(count, 1, side, side).split(16)

    def plain() -> None:
        with torch.inference_mode(), reduced_precision(torch.device("cpu")):
            for batch in batches:
                network.network(batch.expand(-1, 3, -1, -1))

    plain()  # the first pass of a network lays out its memory
    forward = seconds(plain, 1)
    read = seconds(lambda: backbone_features(network, dataset, dataset.rows), 1)
    again = seconds(lambda: backbone_features(network, dataset, dataset.rows), 1)
    return forward, read, again


def main() -> None:
    """Print times and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_classify.py --features 2145"
    )
    parser.add_argument("--features", type=int, default=2145, help="of best.yaml, with the bias's")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--extracted", type=int, default=256, help="images of the extraction")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    heads = seconds(lambda: train_heads(examples(arguments.features), arguments.steps), 1)
    n_heads = len(EPSILONS) * SEEDS
    print(
        f"{n_heads} heads of {arguments.steps} steps, {arguments.features} features: {heads:.1f} s"
    )
    settings = FeatureSettings(name="vit_small_patch14_dinov2", size_px=224)
    network = build_backbone(settings, seed=0)
    with tempfile.TemporaryDirectory() as name:
        forward, read, again = extraction(network, arguments.extracted, Path(name))
    print(
        f"ViT-S at 224 px, {arguments.extracted} images: plain forward pass {forward:.1f} s, "
        f"extraction {read:.1f} s ({read / forward:.2f} times), from the cache {again:.2f} s"
    )
    swin = FeatureSettings(name="swin_tiny_patch4_window7_224", size_px=224, precision="float32")
    epoch = paper_epoch(build_backbone(swin, seed=0), torch.rand(IMAGES, 1, 224, 224) * 2 - 1)
    whole = PAPER_EPOCHS * epoch
    steps = PAPER_EPOCHS * PAPER_BATCHES
    per_step, ours = whole / steps, heads / (n_heads * arguments.steps)
    print(
        f"the paper's loop (Swin-T frozen, Opacus, {PAPER_EPOCHS} epochs): {epoch:.1f} s an epoch, "
        f"{whole / 60:.0f} min a model; a step takes {per_step / ours:.0f} times one of ours"
    )


if __name__ == "__main__":
    main()
