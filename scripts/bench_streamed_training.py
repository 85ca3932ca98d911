"""A whole network trained from the packed form of a large set: memory, and a kill in the middle.

For each number of images a set of made-up patients is written, and `synthdp finetune` trains the
papers' ResNet9 whole on it, with a promise, for some steps. When a checkpoint stands, the process
is killed (SIGKILL) within the next step, in the middle of its pass over patients; the same command
goes on. Printed are CPU seconds and peak memory of both processes, and what steps the kill cost.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthdp.data.description import DatasetInfo
from synthdp.data.images import encode_png
from synthdp.data.writer import create_dataset
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.status import read_status

SIDE, IMAGES_A_PATIENT, DIFFERENT = 64, 4, 512
#: Steps in all, those of a block, patients of a step in the mean, and images that it shows of each.
STEPS, BLOCK, PATIENTS_A_STEP, SHOWN = 12, 2, 40, 2
#: Seconds between two looks at the checkpoints of a run.
LOOK_EVERY_S = 0.05
#: Seconds from a checkpoint until the kill: less than a step takes.
KILL_AFTER_S = 0.7
_KIB = 1 if sys.platform == "darwin" else 1024  # in which ru_maxrss is given, over bytes


def pictured_patients(root: Path, images: int) -> Path:
    """A set of patients with four images each; of these some hundred are different."""
    rng, slope = np.random.default_rng(0), np.add.outer(np.arange(SIDE), np.arange(SIDE))
    pngs = [
        encode_png((slope + rng.integers(0, 100, (SIDE, SIDE))).astype(np.uint8), 1)
        for _ in range(DIFFERENT)
    ]
    with create_dataset(root, DatasetInfo(name="pictured", kind="real", size_px=SIDE)) as writer:
        for image in range(images):
            patient = image // IMAGES_A_PATIENT
            writer.add_png(
                pngs[image % DIFFERENT],
                patient_id=f"p{patient}",
                split="train",
                targets=[patient % 2],
            )
    return root


def settings_of(root: Path, images: int) -> dict[str, object]:
    """Of the training, as a settings file has them."""
    patients = images // IMAGES_A_PATIENT
    return {
        "data": str(root / "set"),
        "out": str(root / "run"),
        "privacy": {"epsilon": 8, "delta": 1e-7, "population": patients},
        "backbone": {"name": "resnet9", "size_px": SIDE},
        "network": {
            "trainable_blocks": "all",
            "steps": STEPS,
            "block_steps": BLOCK,
            "sampling_rate": PATIENTS_A_STEP / patients,
            "max_images": SHOWN,
            "optimizer": "nadam",
            "lr": 0.02,
        },
    }


@dataclass(frozen=True)
class Cost:
    """What a process took, and whether it was killed."""

    cpu_s: float
    peak_bytes: int
    killed: bool


def trained(config: Path, *, kill_at: Path | None = None) -> Cost:
    """Run the command; killed soon after there is something in the folder `kill_at`."""
    command = [sys.executable, "-m", "synthdp", "finetune", str(config)]
    process = subprocess.Popen(command)  # noqa: S603 (our own)
    while kill_at is not None and process.poll() is None and not any(_entries(kill_at)):
        time.sleep(LOOK_EVERY_S)
    if kill_at is not None:
        time.sleep(KILL_AFTER_S)
    if kill_at is not None and process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    killed = process.returncode == -signal.SIGKILL
    if not killed and process.returncode != 0:
        raise SystemExit(f"the training ended with {process.returncode}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _KIB, killed)


def _entries(folder: Path) -> Iterator[Path]:
    return iter(folder.glob("0*")) if folder.is_dir() else iter(())


def print_training(root: Path, images: int) -> None:
    """Write a set, train on it with a kill in between, and print what it took."""
    before = time.process_time()
    pictured_patients(root / "set", images)
    print(f"{images:,} images of {SIDE} px written: {time.process_time() - before:.0f} CPU s")
    config, run = root / "finetune.yaml", root / "run"
    config.write_text(json.dumps(settings_of(root, images)))
    first = trained(config, kill_at=run / "private" / "checkpoints")
    ledger = Ledger(run / "private" / "ledger.jsonl")
    at_kill = ledger.spent_steps
    second = trained(config)
    ended, status = Ledger(run / "private" / "ledger.jsonl"), read_status(run)
    for what, cost in (("until the kill, packing too", first), ("after it", second)):
        peak = cost.peak_bytes / 2**20
        print(f"  {what}: {cost.cpu_s:.1f} CPU s, peak memory {peak:.0f} MiB")
    state = "?" if status is None else status.state
    print(
        f"  {'killed' if first.killed else 'not killed'} with {at_kill} of {STEPS} steps spent; "
        f"then {state}, {ended.spent_steps} spent",
        flush=True,
    )


def main() -> None:
    """Print the costs of each number of images."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  python scripts/bench_streamed_training.py --images 20000 200000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 200_000])
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for images in arguments.images:
        with tempfile.TemporaryDirectory() as name:
            print_training(Path(name), images)


if __name__ == "__main__":
    main()
