"""One private head of several findings on many patients' cached features: time and memory.

For each number of patients a set is made whose rows name one file, which nobody decodes, and
features are put into its cache as a network would have given them: a direction for each finding,
and noise. Then `synthdp
finetune` runs as a command of its own, from the first import to the card. The rate at which time
grows with patients is a ratio within one run of this script.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from classify.model.classifier import head_logits, inputs_of
from classify.model.folder import load_classifier
from classify.settings.finetune import FinetuneSettings
from synthdp.config.settings import dump_settings, validate_settings
from synthdp.data.dataset import Dataset, open_dataset, targets_array
from synthdp.data.description import DatasetInfo
from synthdp.data.images import encode_png
from synthdp.data.writer import create_dataset
from synthdp.networks.alone import BATCH
from synthdp.networks.backbone import build_backbone
from synthdp.networks.cache import cached_array
from synthdp.networks.settings import FeatureSettings

FEATURES, FINDINGS, TESTED = 384, 14, 5000
#: The share of patients with each finding, from the commonest to the rarest of chest radiographs.
PREVALENCE = np.geomspace(0.18, 0.002, FINDINGS)
#: How far a finding moves the features, in standard deviations along its direction.
SHIFT = 1.5
NETWORK = {"name": "vit_small_patch14_dinov2", "size_px": 126, "pools": ["class_token"]}


@dataclass(frozen=True)
class Cost:
    """What a command took: wall seconds, seconds of all processors, bytes at its largest."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def main() -> None:
    """Print the cost for each number of patients."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  python scripts/bench_large_head.py --patients 2000 6000 --steps 50",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--patients", type=int, nargs="+", default=[20_000, 60_000, 200_000])
    parser.add_argument("--images", type=int, default=1, help="of each patient")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--sampling-rate", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    costs = list[Cost]()
    for patients in arguments.patients:
        with tempfile.TemporaryDirectory() as name:
            dataset = made_up_set(Path(name) / "set", patients, arguments.images)
            config = Path(name) / "finetune.yaml"
            config.write_bytes(dump_settings(settings(Path(name), patients, arguments)).encode())
            cost = cost_of_command(["finetune", str(config)], arguments.threads)
            costs.append(cost)
            print(
                f"{patients:,} patients of {arguments.images} images: {cost.wall_s:.1f} s, "
                f"{cost.cpu_s:.1f} cpu-seconds, {cost.peak_bytes / 2**30:.2f} GiB at most; "
                f"{_growth(costs, arguments.patients)}macro AUROC "
                f"{macro_auroc(Path(name) / 'run', dataset):.3f}",
                flush=True,
            )


def _growth(costs: Sequence[Cost], patients: Sequence[int]) -> str:
    """What a patient more has taken since the number before, over what one takes of the first two.

    Start, imports and a network that is built are in all of them.
    """
    if len(costs) < 2:
        return ""
    more = [
        (later.cpu_s - before.cpu_s) / (patients[at + 1] - patients[at])
        for at, (before, later) in enumerate(pairwise(costs))
    ]
    return (
        f"{1e6 * more[-1]:.0f} cpu-microseconds a patient more, "
        f"{more[-1] / more[0]:.2f} of the first step; "
    )


def settings(root: Path, patients: int, arguments: argparse.Namespace) -> FinetuneSettings:
    """The recipe: synthdp's own, for so many patients."""
    values = {
        "data": str(root / "set"),
        "out": str(root / "run"),
        "backbone": NETWORK,
        "privacy": {"epsilon": arguments.epsilon, "delta": 1e-6, "population": patients},
        "head": {"steps": arguments.steps, "sampling_rate": arguments.sampling_rate},
    }
    return validate_settings(FinetuneSettings, values, where="the bench")


def made_up_set(root: Path, patients: int, images: int) -> Dataset:
    """A set that stands in for patients, whose features are known."""
    names = tuple(f"finding_{index + 1}" for index in range(FINDINGS))
    info = DatasetInfo(name="many", kind="phantom", as_real=True, size_px=8, targets=names)
    labels = np.random.default_rng(0).random((patients, FINDINGS)) < PREVALENCE
    png = encode_png(np.zeros((8, 8), dtype=np.uint8))
    with create_dataset(root, info) as writer:
        writer.add_png(png, patient_id="p0", split="train", targets=labels[0].tolist())
    (row,) = open_dataset(root).rows
    lines = [",".join(["image", "patient_id", "split", *names])]
    for patient, of_patient in enumerate(labels.astype(int).astype(str)):
        lines += [",".join([row.image, f"p{patient}", "train", *of_patient])] * images
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    dataset = open_dataset(root)
    targets = targets_array(dataset.rows)

    def features_of(begin: int, end: int) -> NDArray[Any]:
        return made_up_features(targets[begin:end], seed=1 + begin)

    backbone = build_backbone(FeatureSettings.model_validate(NETWORK), seed=0)
    name = f"{backbone.identity()} at {NETWORK['size_px']} px"
    cached_array(
        dataset, dataset.rows, name=name, dtype="float32", compute=features_of, batch=64 * BATCH
    )
    return dataset


def made_up_features(targets: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Features of images with these findings, (N, T): (N, D)."""
    directions = np.random.default_rng(0).normal(size=(targets.shape[1], FEATURES))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    noise = np.random.default_rng(seed).normal(size=(len(targets), FEATURES))
    features: NDArray[np.float32] = (SHIFT * targets @ directions + noise).astype(np.float32)
    return features


def cost_of_command(arguments: Sequence[str], threads: int) -> Cost:
    """Run a command of synthdp to its end.

    Raises:
        SystemExit: when it fails.
    """
    run = "import sys; from synthdp.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", run, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.perf_counter()
    process = os.posix_spawn(sys.executable, command, environment)
    _, status, usage = os.wait4(process, 0)
    wall_s = time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"{arguments[0]} failed")
    of_unit = 1 if sys.platform == "darwin" else 1024  # in which ru_maxrss is given
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * of_unit)


def macro_auroc(run: Path, dataset: Dataset) -> float:
    """The mean of findings' AUROC over made-up images that no training saw."""
    classifier = load_classifier(run)
    targets = np.random.default_rng(2).random((TESTED, FINDINGS)) < PREVALENCE
    values = torch.from_numpy(made_up_features(targets.astype(np.float32), seed=0))
    logits = head_logits(classifier, inputs_of(classifier, [values])).numpy()
    assert classifier.targets == dataset.info.targets
    scores = [
        roc_auc_score(targets[:, finding], logits[:, finding])
        for finding in range(FINDINGS)
        if targets[:, finding].any()
    ]
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
