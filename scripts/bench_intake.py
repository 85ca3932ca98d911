"""How fast mammograms come in, and in how much memory: a table of lesions and 16-bit DICOM files.

    python scripts/bench_intake.py --images 200

The files (25 MB each, of which four differ in their pixels) are written to a temporary folder, and
go at the end. Two lesions are cut from each. Memory is that of the command with all its processes:
what is shared counts once (PSS, less where other commands share it), and in each (RSS). CPU time
tells the speed on quiet cores where others compute too.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation as Mammography
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

HEIGHT_PX, WIDTH_PX = 4096, 3072
PATTERNS = 4
LESIONS = ((900, 1200, 1300, 1500), (400, 2600, 900, 3200))


def pattern(seed: int) -> bytes:
    """Pixels of a smooth breast on black with the grain of a film, 16 bits each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(np.float32)
    inside = ((y - HEIGHT_PX / 2) / HEIGHT_PX) ** 2 + (x / WIDTH_PX) ** 2 < 0.24
    grey = 30000 + 9000 * np.sin(x / (70 + seed)) * np.cos(y / 90)
    grey += rng.normal(0, 900, grey.shape).astype(np.float32)
    return np.where(inside, np.clip(grey, 0, 65535), 0).astype("<u2").tobytes()


def write(path: Path, pixels: bytes) -> None:
    """One mammogram, uncompressed."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = Mammography
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    one.SOPClassUID, one.SOPInstanceUID = Mammography, meta.MediaStorageSOPInstanceUID
    one.SeriesInstanceUID, one.StudyInstanceUID = generate_uid(), generate_uid()
    one.Modality, one.ImageLaterality, one.ViewPosition = "MG", "L", "CC"
    one.Rows, one.Columns = HEIGHT_PX, WIDTH_PX
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
    one.PixelData = pixels
    one["PixelData"].VR = "OW"
    pydicom.dcmwrite(path, one, enforce_file_format=True)


def make(folder: Path, n_images: int) -> Path:
    """The files, and a table of their lesions."""
    pixels = [pattern(seed) for seed in range(PATTERNS)]
    lines = ["file,patient_id,malignant,xmin,ymin,xmax,ymax"]
    for number in range(n_images):
        write(folder / f"{number:05d}.dcm", pixels[number % PATTERNS])
        for label, box in enumerate(LESIONS):
            corners = ",".join(map(str, box))
            lines.append(f"{number:05d}.dcm,P{number // 4},{label},{corners}")
    table = folder / "lesions.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def memory_mb(root: int) -> tuple[float, float]:
    """The memory of a process and all below it in MB: shared pages once, and as often as shared."""
    once, often, left = 0, 0, [root]
    while left:
        process = left.pop()
        try:
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    once += int(line.split()[1])
                if line.startswith("Rss:"):
                    often += int(line.split()[1])
            for task in os.listdir(f"/proc/{process}/task"):
                children = Path(f"/proc/{process}/task/{task}/children").read_text()
                left += map(int, children.split())
        except OSError:  # it has just ended
            continue
    return once / 1024, often / 1024


def main() -> None:
    """Write, import, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the files are written for a while")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        source, out = Path(scratch) / "source", Path(scratch) / "set"
        source.mkdir()
        started = time.perf_counter()
        table = make(source, arguments.images)
        size_mb = sum(path.stat().st_size for path in source.iterdir()) / 2**20
        print(f"wrote {size_mb:,.0f} MB in {time.perf_counter() - started:.0f} s")
        command = [sys.executable, "-m", "synthdp.cli", "data", "dicom", "--images", str(source)]
        command += ["--table", str(table), "--out", str(out), f"workers={arguments.workers}"]
        started, once, often = time.perf_counter(), 0.0, 0.0
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603 (our own)
        while process.poll() is None:
            now = memory_mb(process.pid)
            once, often = max(once, now[0]), max(often, now[1])
            time.sleep(0.1)
        took_s = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = used.ru_utime + used.ru_stime
        print(
            f"exit {process.returncode}: {arguments.images} full images, "
            f"{len(LESIONS) * arguments.images} lesions, {took_s:.1f} s: "
            f"{arguments.images / took_s:.1f} images/s; CPU {cpu_s:.1f} s, so "
            f"{arguments.workers * arguments.images / cpu_s:.1f} images/s on "
            f"{arguments.workers} quiet cores; peak memory {once:,.0f} MB "
            f"({often:,.0f} MB with what processes share counted in each)"
        )


if __name__ == "__main__":
    main()
