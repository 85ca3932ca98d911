"""A data set as one self-contained HTML page, for who holds it and must judge it.

It shows patients' images and exact counts, so it stays with the set, in its private part.
"""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from synthdp import __version__
from synthdp.data.columns import cell_of, columns_of
from synthdp.data.dataset import Dataset, Row, evenly_spaced, load_pictures, open_dataset
from synthdp.data.images import encode_png, to_uint8
from synthdp.data.importing.images.survey import ImageFacts, survey_images
from synthdp.data.importing.images.thumbnails import Thumbnails
from synthdp.data.importing.note import left_out_row_words, read_whole_note
from synthdp.data.looks.likeness import look_alikes
from synthdp.data.manifest.contract import SPLITS
from synthdp.data.people.splits import duplicate_groups, label_conflicts
from synthdp.errors import InputError
from synthdp.pages.html import INK, MARK_COLOURS, MARKS, MUTED, RULE, inline_svg, page_environment
from synthdp.storage.files import closed_to_others, refused_without_rights, write_atomic
from synthdp.storage.paths import settings_without_paths

PAGE_FILE = "dataset.html"
#: Side of a picture on the page, pictures of a class, groups of copies, pictures of a group.
SHOWN_PX, PER_CLASS, MAX_GROUPS, MAX_IN_GROUP = 96, 24, 24, 8
#: Images whose grey levels are drawn, evenly spaced over the manifest.
DRAWN_IMAGES = 2000
#: Free columns with more values than this are shown by how many they have.
MAX_VALUES = 12


@dataclass(frozen=True)
class Picture:
    """An image as the page shows it: a data URI of a grey PNG, and a line below it."""

    uri: str
    caption: str


@dataclass(frozen=True)
class Group:
    """Images that are copies of each other, and what speaks for or against that they may be."""

    what: str
    pictures: tuple[Picture, ...]
    more: int


def write_dataset_page(root: Path, out: Path | None = None) -> Path:
    """Write the page of the data set at `root`; returns its path.

    Args:
        root: the folder of the set.
        out: the file; `private/dataset.html` of the set for None.

    Raises:
        InputError: when there is no data set, an image is unreadable, or `out` is a folder.
        RunError: when the private part may not be written.
    """
    dataset = open_dataset(root)
    page = dataset_page(dataset)
    if out is not None and out.is_dir():
        raise InputError(f"{out}: is a folder; name a file for the page")
    path = out or dataset.private / PAGE_FILE
    with closed_to_others(), refused_without_rights("the page of the data set (name --out FILE)"):
        write_atomic(path, page)
    return path


def dataset_page(dataset: Dataset) -> str:
    """The page as HTML text.

    Raises:
        InputError: when an image is unreadable.
    """
    facts, thumbnails = _surveyed(dataset)
    groups = _groups(dataset, facts, thumbnails)
    note = _note(dataset)
    classes = _classes_held(dataset)
    template = page_environment("synthdp.pages").get_template("dataset.html.j2")
    return template.render(
        info=dataset.info,
        title=dataset.info.name,
        whose="patients" if dataset.info.protects_patients else "ids",
        patients=len({row.patient_id for row in dataset.rows}),
        images=len(dataset.rows),
        classes=classes,
        splits=_splits(dataset, classes),
        sheets=_sheets(dataset, classes),
        levels=Markup(_draw_levels(dataset, classes)),  # noqa: S704 (drawn here)
        drawn=min(DRAWN_IMAGES, len(dataset.rows)),
        ranges=_ranges(facts),
        images_per_patient=_images_per_patient(dataset.rows),
        columns=_columns(dataset),
        groups=groups,
        max_groups=MAX_GROUPS,
        source_sizes=note.get("source_sizes", {}),
        left_out=[
            *(f"{count} {what}" for what, count in note.get("left_out", {}).items() if count),
            *left_out_row_words(note),
        ],
        imported=settings_without_paths(note.get("settings", {})),
        marks=MARKS,
        synthdp_version=__version__,
    )


def _surveyed(dataset: Dataset) -> tuple[list[ImageFacts], Thumbnails]:
    facts, problems = [], []
    survey = survey_images([dataset.root / row.image for row in dataset.rows])
    for number, entry in enumerate(survey.entries, start=2):
        if isinstance(entry, ImageFacts):
            facts.append(entry)
        else:
            problems.append(f"row {number}: {entry}")
    if problems:
        raise InputError(
            f"{dataset.info.name}: {len(problems)} image(s) cannot be shown, such as "
            f"{problems[0]}; `synthdp data check` lists them all"
        )
    return facts, survey.thumbnails


def _note(dataset: Dataset) -> Mapping[str, Any]:
    """What the import kept for the owner; nothing for a set that was not imported."""
    note = read_whole_note(dataset.root)
    return note if isinstance(note, Mapping) else {}


# Counts: which images of whom.


@dataclass(frozen=True)
class ImageClass:
    """A class that images are shown and counted by: those whose target at `index` is `value`."""

    label: str
    index: int
    value: float

    def holds(self, row: Row) -> bool:
        """Whether an image is of the class; nan is of its own."""
        target = row.targets[self.index]
        return bool(np.isnan(target)) if np.isnan(self.value) else target == self.value


def _classes_held(dataset: Dataset) -> list[ImageClass]:
    """The classes that have an image, unknown ones too."""
    named = []
    for index, target in enumerate(dataset.info.targets):
        negative = "benign" if target == "malignant" else f"no {target}"
        named += [ImageClass(target, index, 1.0), ImageClass(negative, index, 0.0)]
        named.append(ImageClass(f"{target} unknown", index, float("nan")))
    return [one for one in named if any(map(one.holds, dataset.rows))]


def _splits(
    dataset: Dataset, classes: Sequence[ImageClass]
) -> Sequence[tuple[str, int, int, Sequence[tuple[int, int]]]]:
    """Of each split: its name, its images and patients, and both of each class."""
    counted = []
    for split in SPLITS:
        rows = [row for row in dataset.rows if row.split == split]
        if rows:
            of_class = [_counts([row for row in rows if one.holds(row)]) for one in classes]
            counted.append((split, *_counts(rows), of_class))
    return counted


def _counts(rows: Sequence[Row]) -> tuple[int, int]:
    return len(rows), len({row.patient_id for row in rows})


def _images_per_patient(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """How many patients have how many images, by the number of images."""
    return sorted(Counter(Counter(row.patient_id for row in rows).values()).items())


def _columns(dataset: Dataset) -> list[tuple[str, int, list[tuple[str, int]]]]:
    """Of each free column: its name, how many values it has, and the commonest with counts."""
    counted = []
    for name in columns_of(dataset):
        values = Counter(cell_of(row, name) for row in dataset.rows)
        shown = values.most_common(MAX_VALUES) if len(values) <= MAX_VALUES else []
        counted.append((name, len(values), sorted(shown)))
    return counted


# Grey levels.


def _ranges(facts: Sequence[ImageFacts]) -> list[tuple[str, int, list[tuple[str, list[int]]]]]:
    """Of each depth: images, and the quantiles of their darkest and brightest pixels and spans."""
    rows = []
    for bits in sorted({entry.bits for entry in facts}):
        chosen = [entry for entry in facts if entry.bits == bits]
        darkest = np.array([entry.darkest for entry in chosen])
        brightest = np.array([entry.brightest for entry in chosen])
        lines = [
            ("darkest pixel", _quantiles(darkest)),
            ("brightest pixel", _quantiles(brightest)),
            ("levels between them", _quantiles(brightest - darkest)),
        ]
        rows.append((f"{bits} bit", len(chosen), lines))
    return rows


def _quantiles(values: NDArray[np.int64]) -> list[int]:
    """Least, 5 %, median, 95 %, greatest."""
    return [int(value) for value in np.quantile(values, [0, 0.05, 0.5, 0.95, 1], method="nearest")]


def _draw_levels(dataset: Dataset, classes: Sequence[ImageClass]) -> str:
    """How often each grey level occurs in each class of the first target, as an SVG element."""
    rows = evenly_spaced(dataset.rows, DRAWN_IMAGES)
    images = to_uint8(load_pictures(dataset, rows, min(dataset.info.size_px, SHOWN_PX)))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "levels", "font.size": 11}):
        figure = Figure(figsize=(9.6, 2.8), layout="constrained")
        axes = figure.subplots()
        for number, one in enumerate(one for one in classes if one.index == 0):
            chosen = images[[one.holds(row) for row in rows]]
            if len(chosen):
                share = np.bincount(chosen.ravel(), minlength=256).reshape(64, 4).sum(axis=1)
                axes.stairs(
                    100 * share / chosen.size,
                    np.linspace(0, 100, 65),
                    color=MARK_COLOURS[number],
                    linewidth=1.8,
                    label=f"{one.label} ({len(chosen)} images)",
                )
        axes.set_xlim(0, 100)
        axes.set_ylim(0)
        axes.set_xlabel("grey level, % of the full scale", color=INK)
        axes.set_ylabel("pixels, %", color=INK)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=INK, color=MUTED, length=3)
        for edge, spine in axes.spines.items():
            spine.set_visible(edge in ("left", "bottom"))
            spine.set_color(RULE)
        axes.legend(frameon=False, labelcolor=INK)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return inline_svg(
        stream.getvalue(), "levels", "How often each grey level occurs, a line for each class."
    )


# Pictures.


def _sheets(
    dataset: Dataset, classes: Sequence[ImageClass]
) -> list[tuple[str, int, tuple[Picture, ...]]]:
    """Of each class: its label, how many images it has, and some, evenly spaced."""
    sheets = []
    for one in classes:
        rows = [row for row in dataset.rows if one.holds(row)]
        sheets.append((one.label, len(rows), _pictures(dataset, evenly_spaced(rows, PER_CLASS))))
    return sheets


def _pictures(dataset: Dataset, rows: Sequence[Row]) -> tuple[Picture, ...]:
    """Images with the number of their row in the manifest."""
    size_px = min(dataset.info.size_px, SHOWN_PX)
    images = to_uint8(load_pictures(dataset, rows, size_px)[:, 0])
    numbers = {row.image: number for number, row in enumerate(dataset.rows, start=2)}
    return tuple(
        Picture(
            f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}",
            f"row {numbers[row.image]}, {row.split}",
        )
        for image, row in zip(images, rows, strict=True)
    )


def _groups(
    dataset: Dataset, facts: Sequence[ImageFacts], thumbnails: Thumbnails
) -> dict[str, list[Group]]:
    """Copies by kind, for a person to judge: most urgent first."""
    digests = [entry.digest for entry in facts]
    targets = [row.targets for row in dataset.rows]
    patients = [row.patient_id for row in dataset.rows]
    same = duplicate_groups(digests)
    groups_of = {
        "The same picture with different labels": label_conflicts(digests, targets),
        "The same picture under different ids": [
            group for group in same if len({patients[index] for index in group}) > 1
        ],
        "The same picture twice under one id": [
            group for group in same if len({patients[index] for index in group}) == 1
        ],
    }
    if dataset.info.shows_patients:  # images of one generator may resemble each other
        groups_of["Nearly the same picture under different ids"] = [
            group
            for group in look_alikes(thumbnails, patients, digests=digests)
            if len({digests[index] for index in group}) > 1
        ]
    shown = partial(_group, dataset)
    return {what: list(map(shown, groups)) for what, groups in groups_of.items() if groups}


def _group(dataset: Dataset, indices: Sequence[int]) -> Group:
    rows = [dataset.rows[index] for index in indices]
    splits = [split for split in SPLITS if any(row.split == split for row in rows)]
    ids = len({row.patient_id for row in rows})
    whose = "one id" if ids == 1 else f"{ids} ids"
    where = f"in {splits[0]}" if len(splits) == 1 else f"across {' and '.join(splits)}"
    pictures = _pictures(dataset, rows[:MAX_IN_GROUP])
    return Group(f"{len(rows)} images of {whose}, {where}", pictures, len(rows) - len(pictures))
