"""Draw the pictures of README and docs again: python scripts/draw_pictures.py.

The curve shows the figures of docs/results.md, as docs/pictures/cbis-ddsm.csv holds them. The
patches, radiographs and slices are drawn by the packaged generators and by the phantoms' code: no
patient's image is read.
"""

import argparse
import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gan.network.sampling import draw_codes, sample_images
from gan.package.model import load_opened
from gan.package.opened import open_generator
from synthdp.data.images import to_uint8
from synthdp.data.looks.contact_sheet import contact_sheet
from synthdp.data.phantoms.chest.chest_set import draw_images, plan_of
from synthdp.data.phantoms.chest.names import FINDINGS, NO_FINDING
from synthdp.data.phantoms.ct.ct_set import draw_ct_patient
from synthdp.data.phantoms.phantoms import draw_patient
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.pages.look import Look, printed
from synthdp.pages.patch_grid import PatchRow, grid_figure
from synthdp.storage.files import write_atomic
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.results import ResultRow
from synthdp.study.report.curve import curve_figure
from synthdp.study.report.figures.files import figure_bytes

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
#: Members that the best attacker finds at 1 % false alarms, by epsilon (docs/results.md).
MEMBERS_FOUND = {1.0: 0.023, 6.0: 0.2, 20.0: 0.92, 60.0: 1.0, math.inf: 1.0}
WIDTH_IN, FONT_PT = 8.0, 11.0
SEED, COLUMNS, DPI = 1, 10, 96
#: Phantom radiographs of each finding, and how far apart these are drawn, to be plain to see.
RADIOGRAPHS, SHOWN_SEPARATION = 8, 4.0
GENERATORS = {
    "mcgan-cbis": "synthetic\n(no privacy)",
    "cbis-selected6": "private, selected\n(epsilon 6)",
    "cbis-selected1": "private, selected\n(epsilon 1)",
}


def dark(look: Look) -> Look:
    """The look on the dark background of a code host."""
    marks = ("#5ab4ec", "#ff9148", "#38c79d", "#e39bcb", *look.marks[4:])
    return replace(
        look, ink="#e7eaee", muted="#a2abb6", rule="#39414a", paper="#0d1117", marks=marks
    )


def cells_of(path: Path) -> list[Cell]:
    """The published means with their intervals, each as a cell of one row."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [_cell(number, line) for number, line in enumerate(csv.DictReader(stream))]


def _cell(number: int, line: Mapping[str, str]) -> Cell:
    asked = None if line["epsilon"] == "none" else float(line["epsilon"])
    spent = math.inf if asked is None else asked
    low, high = (float(line[name]) if line[name] else None for name in ("ci_low", "ci_high"))
    row = ResultRow(
        strategy=line["strategy"],
        epsilon=asked,
        seed=0,
        data_set="CBIS-DDSM",
        split="val",
        auroc=float(line["auroc"]),
        auroc_ci_low=low,
        auroc_ci_high=high,
        epsilon_stage=spent,
        epsilon_end_to_end=spent if line["promise"] == "end to end" else math.inf,
        unit="patient",
        state="finished",
        run=f"published-{number}",
    )
    return Cell((row,))


def draw_curves(out: Path) -> None:
    """The privacy-utility curve of CBIS-DDSM, for light and for dark pages."""
    cells = cells_of(PICTURES / "cbis-ddsm.csv")
    strategies = list(dict.fromkeys(cell.strategy for cell in cells))
    members_found = {
        cell.runs: MEMBERS_FOUND.get(cell.epsilon_end_to_end or 0.0)
        for cell in cells
        if not cell.voided
    }
    light = printed(FONT_PT)
    for name, look in (("cbis-curve", light), ("cbis-curve-dark", dark(light))):
        with look.applied(name):
            figure = curve_figure(
                cells, strategies, width_in=WIDTH_IN, members_found=members_found, look=look
            )
            figure.set_facecolor(look.paper)
            for axes in figure.axes:
                axes.set_facecolor(look.paper)
            write_atomic(out / f"{name}.svg", figure_bytes(figure, "svg", dpi=DPI))


def drawn_patches(name: str) -> list[NDArray[np.uint8]]:
    """A few patches of a packaged generator, as many of either class, in turn."""
    opened = open_generator(Path(f"pretrained:{name}"))
    labels = torch.arange(COLUMNS) % 2
    codes = draw_codes(opened.description.shape.conditions.tables, labels, SEED)
    generator = load_opened(opened, torch.device("cpu"))
    batches = sample_images(generator, labels, codes, SEED)
    return [image for batch in batches for image in to_uint8(batch[:, 0].numpy())]


def phantom_patches() -> list[NDArray[np.uint8]]:
    """A few phantoms, as many of either class, in turn."""
    settings = PhantomSettings(out=Path("unused"), seed=SEED, malignant_fraction=0.5)
    of_class: Mapping[bool, list[NDArray[np.uint8]]] = {False: [], True: []}
    index = 0
    while min(map(len, of_class.values())) < COLUMNS // 2:
        first = draw_patient(settings, index).patches[0]
        of_class[first.malignant].append(first.pixels)
        index += 1
    return [of_class[bool(number % 2)][number // 2] for number in range(COLUMNS)]


def draw_patches(out: Path) -> None:
    """Synthetic, private synthetic and phantom patches; benign and malignant in turn."""
    rows: Sequence[PatchRow] = [
        *(PatchRow(words, drawn_patches(name)) for name, words in GENERATORS.items()),
        PatchRow("phantoms\n(no patient)", phantom_patches()),
    ]
    look = printed(FONT_PT)
    with look.applied("patches"):
        figure = grid_figure(rows, width_in=10.0, look=look)
        write_atomic(out / "patches.png", figure_bytes(figure, "png", dpi=DPI))


def phantom_radiographs() -> Mapping[str, list[NDArray[np.uint8]]]:
    """Radiographs of made-up patients by the one finding that they have, and of those with none."""
    settings = PhantomSettings(out=Path("unused"), subject="chest", seed=SEED, size_px=64)
    plan, names = plan_of(settings), (NO_FINDING, *FINDINGS)
    of: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in names}
    for number in count(1):
        patient = plan.patient(number)
        findings = [name for name, has in zip(FINDINGS, patient.images[0].has, strict=True) if has]
        (name,) = findings if len(findings) == 1 else [NO_FINDING] if not findings else [""]
        if name and len(of[name]) < RADIOGRAPHS:
            first = replace(patient, images=patient.images[:1])
            of[name] += draw_images(plan, first, SHOWN_SEPARATION, settings.size_px)
        if min(map(len, of.values())) == RADIOGRAPHS:
            break
    return of


def phantom_slices(*, lesion: bool) -> list[NDArray[np.uint8]]:
    """Slices of one CT volume, from top to bottom, with a plain lesion or without."""
    settings = PhantomSettings(
        out=Path("unused"),
        subject="ct",
        seed=SEED,
        size_px=64,
        separation=SHOWN_SEPARATION,
        lesion_fraction=float(lesion),
    )
    voxels = draw_ct_patient(settings, 12).volumes[0].voxels
    return list(voxels[2 : 2 + 3 * RADIOGRAPHS : 3])


def draw_chests(out: Path) -> None:
    """Phantom radiographs of each finding, and slices of phantom CT volumes."""
    slices = {"CT, lesion": phantom_slices(lesion=True), "CT, none": phantom_slices(lesion=False)}
    sheet = contact_sheet({**phantom_radiographs(), **slices})
    write_atomic(out / "chest-phantoms.png", sheet)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/draw_pictures.py --out docs/pictures"
    )
    parser.add_argument("--out", type=Path, default=PICTURES)
    arguments = parser.parse_args()
    draw_curves(arguments.out)
    draw_patches(arguments.out)
    draw_chests(arguments.out)
