"""Time and memory of an import of many small images, and of a check of what it made."""

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.data.decoding import decode_pixels
from synthdp.data.images import encode_png, fit_square, resample

SIDE_PX = 128
#: Pictures from which all are blended: of tissue that is made up, where none are given.
BASES = 1500
FOLDER_OF = 1000


def main() -> None:
    """Write the images, import and check them, and print what that took."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_import.py --images 20000"
    )
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--like", type=Path, help="blend the PNG images below this folder instead")
    parser.add_argument("--folder", type=Path, help="work there, and leave what was written")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        measure(arguments.folder, arguments.images, arguments.like)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments.images, arguments.like)


def measure(folder: Path, count: int, like: Path | None) -> None:
    """Import and check `count` images below `folder`, which are written where they are not yet."""
    src, out = folder / f"src-{count}", folder / f"set-{count}"
    if not (src / "metadata.csv").is_file():
        began = time.perf_counter()
        write_images(src, count, bases(like))
        print(f"wrote {count:,} images in {time.perf_counter() - began:.0f} s")
    run("import", "data", "patches", f"src={src}", f"out={out}", "name=bench", "licence=none")
    run("check", "data", "check", str(out))


def bases(like: Path | None) -> NDArray[np.float32]:
    """(N, SIDE_PX, SIDE_PX) pictures in 0..255."""
    if like is None:
        rng = np.random.default_rng(0)
        slope = np.linspace(0, 2, SIDE_PX, dtype=np.float32)
        pictures = [
            resample(rng.normal(size=(6, 6)).astype(np.float32), SIDE_PX)
            + 0.3 * resample(rng.normal(size=(32, 32)).astype(np.float32), SIDE_PX)
            + slope
            for _ in range(BASES)
        ]
        return np.stack([255 * (one - one.min()) / np.ptp(one) for one in pictures])
    paths = sorted(like.rglob("*.png"))[:BASES]
    return np.stack([fit_square(decode_pixels(path), SIDE_PX) for path in paths]).astype(np.float32)


def write_images(src: Path, count: int, pictures: NDArray[np.float32]) -> None:
    """Write blends of two pictures each, shifted, two a patient, and their table."""
    rng = np.random.default_rng(1)
    rows = [("file", "patient_id", "malignant", "view")]
    for index in range(count):
        if index % FOLDER_OF == 0:
            (src / f"{index // FOLDER_OF:04d}").mkdir(parents=True)
        one, other = rng.integers(len(pictures), size=2)
        share = np.float32(rng.uniform(0.1, 0.9))
        up, left = rng.integers(0, 24, size=2)
        blend = share * pictures[one] + (1 - share) * np.roll(pictures[other], (up, left), (0, 1))
        name = f"{index // FOLDER_OF:04d}/{index:07d}.png"
        (src / name).write_bytes(encode_png(blend.astype(np.uint8), compress_level=1))
        rows.append((name, f"P{index // 2:06d}", str(rng.integers(2)), "CC" if index % 2 else "ML"))
    with open(src / "metadata.csv", "w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def run(what: str, *command: str) -> None:
    """Run one command of synthdp, and print the time and memory that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 (our own command)
        [sys.executable, "-m", "synthdp.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = Peak(process.pid)
    output, _ = process.communicate()
    peak.end()
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{what}: exit {process.returncode}, {wall:.0f} s, {cpu:.0f} s of CPU, largest process "
        f"{peak.largest_mb:.0f} MB, all together {peak.together_mb:.0f} MB"
    )
    print("\n".join(f"    {line}" for line in output.splitlines()[-8:]), flush=True)


class Peak:
    """The most memory that a process and those that it started hold, looked at twice a second.

    `largest_mb` is the resident memory of the largest; `together_mb` counts shared pages once
    (Pss), and leaves out files that the system keeps in memory while there is room.
    """

    def __init__(self, pid: int) -> None:
        self.largest_mb = self.together_mb = 0.0
        self._pid, self._over = pid, threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            sizes = [memory_mb(pid) for pid in family(self._pid)]
            self.largest_mb = max([self.largest_mb, *(rss for rss, _ in sizes)])
            self.together_mb = max(self.together_mb, sum(pss for _, pss in sizes))


def family(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has just ended
            continue
        parents[int(name)] = int(fields[1])
    pids = [pid]
    for one in pids:
        pids += [child for child, parent in parents.items() if parent == one]
    return pids


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident and shared-out (Pss) memory of a process; zeros once it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0, 0.0
    values = {line.split(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
    return int(values["Rss"]) / 1024, int(values["Pss"]) / 1024


if __name__ == "__main__":
    main()
