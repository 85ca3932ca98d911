"""What a large set and a large study take before any image is looked at, in CPU seconds.

A manifest of so many rows is opened, the set is told from others for the first time (each image is
read) and again (none is), and a study of so many cells is planned, as `--dry-run` does. Images are
small files that nobody decodes; the study's sets are phantoms. Of further images, which are
pictures, a pass that decodes them is compared with one over their packed form.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_study import made_up_study

from synthdp.config.settings import dump_settings
from synthdp.data import dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.identity import set_digests
from synthdp.data.packed import packed_images
from synthdp.data.writer import create_dataset

#: What changed in the last two seconds is looked at again (`synthdp.storage.unchanged`).
SETTLED_AFTER_S = 2.5
SPLITS = ("train", "val", "test")
#: Of the pictures, and how many a training reads at once.
SIDE, BATCH = 64, 256


def made_up_set(root: Path, rows: int) -> Path:
    """A set of patients with four images each, and eight columns."""
    (root / "images").mkdir(parents=True)
    facts = {"name": "large", "kind": "real", "size_px": 128}
    (root / "dataset.json").write_text(json.dumps(facts))
    lines = ["image,patient_id,split,malignant,view,laterality,density,site"]
    for row in range(rows):
        name, patient = f"images/{row + 1:06d}.png", row // 4
        (root / name).write_bytes(b"%200d" % row)
        split = SPLITS[patient % 3]
        lines.append(f"{name},p{patient:06d},{split},{patient % 2},CC,L,{row % 4},site{row % 3}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


def pictured_set(root: Path, images: int) -> dataset.Dataset:
    """A set of noisy pictures."""
    info = DatasetInfo(name="pictures", kind="phantom", size_px=SIDE)
    rng, slope = np.random.default_rng(0), np.add.outer(np.arange(SIDE), np.arange(SIDE))
    with create_dataset(root, info) as writer:
        for image in range(images):
            pixels = (slope + rng.integers(0, 40, (SIDE, SIDE))).astype(np.uint8)
            writer.add(pixels, patient_id=f"p{image}", split="train", targets=[image % 2])
    return dataset.open_dataset(root)


def print_passes(pictures: dataset.Dataset) -> None:
    """Print what passes over the images of a set take, in a random order."""
    rows, order = pictures.rows, np.random.default_rng(1).permutation(len(pictures.rows))
    packed = packed_images(pictures, rows[:1], SIDE)  # imports are nobody's cost

    def pack() -> None:
        nonlocal packed
        packed = packed_images(pictures, rows, SIDE)

    def over_packed() -> None:
        for start in range(0, len(order), BATCH):
            packed.images(order[start : start + BATCH])

    def decoded() -> None:
        for start in range(0, len(order), BATCH):
            some = [rows[index] for index in order[start : start + BATCH]]
            dataset.load_images(pictures, some, SIDE)

    by_decoding = cpu_seconds(decoded)
    print(f"{len(rows):,} images of {SIDE} px decoded: {by_decoding:.2f} s a pass")
    for what, work in (("packed", pack), ("first pass", over_packed), ("next pass", over_packed)):
        taken = cpu_seconds(work)
        print(f"{what}: {taken:.2f} s, {taken / by_decoding:.3f} of a pass that decodes")


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds that some work takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def command_seconds(stage: str, config: Path) -> float:
    """CPU seconds of a whole command that plans, its start and its imports included."""
    run = "import sys; from synthdp.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", run, stage, str(config), "--dry-run"]
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 (our own)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])  # user and system, of processes that have ended


def main() -> None:
    """Print the CPU seconds of each."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  python scripts/bench_large_sets.py --rows 20000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--cells", type=int, default=500)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        root = made_up_set(Path(name) / "large", arguments.rows)
        time.sleep(SETTLED_AFTER_S)

        def anew() -> None:
            dataset._known_rows.clear()  # as another process

        opened = cpu_seconds(lambda: dataset.open_dataset(root))
        print(f"{arguments.rows:,} rows, opened: {opened:.1f} s")
        again = cpu_seconds(lambda: dataset.open_dataset(root))
        print(f"opened again in one process: {again:.3f} s")
        for what in ("for the first time", "again"):
            anew()
            print(f"told from others {what}: {cpu_seconds(lambda: set_digests(root)):.1f} s")

        print_passes(pictured_set(Path(name) / "pictures", arguments.images))

        study = made_up_study(Path(name), 400)
        seeds = tuple(range(-(-arguments.cells // 5)))
        grid = {"epsilons": (1.0, 2.0, 6.0, 8.0, None), "seeds": seeds}
        study = study.model_copy(update=grid)
        time.sleep(SETTLED_AFTER_S)
        config = Path(name) / "study.yaml"
        config.write_bytes(dump_settings(study).encode())
        planned = statistics.median(command_seconds("study", config) for _ in range(3))
        print(f"`study --dry-run` of {5 * len(seeds)} cells: {planned:.1f} s, the whole command")


if __name__ == "__main__":
    main()
