"""Each figure of a study as a file for a paper, with a text file of captions beside them.

A figure that a study has no data for is not drawn: captions say so.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from synthdp.data.dataset import Dataset, open_dataset
from synthdp.errors import InputError
from synthdp.pages.html import class_images
from synthdp.pages.look import Look, printed
from synthdp.pages.patch_grid import PatchRow, grid_figure
from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.privacy.units import CROSS_VALIDATED
from synthdp.storage.files import write_atomic
from synthdp.storage.paths import without_paths
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.cited import interval_words
from synthdp.study.compare.defaults import AtEpsilon, choose
from synthdp.study.compare.fairness import FairnessRow, fairness_of
from synthdp.study.compare.results import CellRow
from synthdp.study.compare.transfer.table import TransferRow, transfer_of
from synthdp.study.record import read_sets
from synthdp.study.report.curve import curve_figure
from synthdp.study.report.figures.files import figure_bytes
from synthdp.study.report.figures.growth import (
    across_words,
    growth_figure,
    growth_panels,
    public_shares,
)
from synthdp.study.report.figures.panels import Line, Panel, Point, panels_figure
from synthdp.study.report.figures.sizes import FigureSettings
from synthdp.study.report.settings import ReportSettings
from synthdp.study.report.study_results import StudyResults
from synthdp.study.report.summary import scope_words, strategy_words
from synthdp.study.sets import seen_from

logger = logging.getLogger(__name__)

FOLDER, CAPTIONS_FILE = "figures", "captions.txt"
PER_CLASS = 8  # patches of the grid
_CALIBRATION = (
    ("brier", "Brier score", None),
    ("calibration_slope", "calibration slope", 1.0),
    ("calibration_intercept", "calibration intercept", 0.0),
)


@dataclass(frozen=True)
class StudyFigure:
    """A figure of a study: the name of its file, its caption, and how it is drawn."""

    name: str
    caption: str
    draw: Callable[[float, Look], Figure]


@dataclass(frozen=True)
class NoFigure:
    """Why a study has no figure of a kind."""

    name: str
    why: str


def write_figures(settings: ReportSettings, results: StudyResults) -> Path:
    """Write each figure of a study, and `captions.txt`; gives their folder.

    Raises:
        InputError: when the folder is a file, there is no such font, or a table that stands in the
            study is damaged.
    """
    assert settings.format in ("svg", "pdf", "png")  # callers ask for figures
    out = settings.out or settings.study / FOLDER
    if out.is_file():
        raise InputError(f"out: {out} is a file; figures are several files, so name a folder")
    sizes: FigureSettings = settings.figures
    look = printed(sizes.font_pt, sizes.font)
    captions = []
    for figure in study_figures(settings.study, results, settings.patients):
        if isinstance(figure, NoFigure):
            logger.info("no figure of %s: %s", figure.name, figure.why)
            captions.append(f"{figure.name}: not drawn, since {figure.why}.")
            continue
        with look.applied(figure.name):
            drawn = figure.draw(sizes.width_in, look)
            content = figure_bytes(drawn, settings.format, dpi=sizes.dpi)
        write_atomic(out / f"{figure.name}.{settings.format}", content)
        captions.append(f"{figure.name}.{settings.format}\n{figure.caption}")
    write_atomic(out / CAPTIONS_FILE, "\n\n".join(captions) + "\n")
    return out


def study_figures(
    study: Path, results: StudyResults, patients: int | None = None
) -> Iterator[StudyFigure | NoFigure]:
    """All figures of a study, in the order of its page; `patients`: a public number of all."""
    yield from _growth(study, results, patients)
    yield from _curves(results)
    yield from _calibration(results)
    yield from _fairness(results, fairness_of(study, results.rows))
    yield from _transfer(results, transfer_of(study, results.rows))
    yield _grid(study, results)


def _by_set(results: StudyResults) -> Mapping[tuple[str, str, str], list[Cell]]:
    """The cells to draw, of tuned settings the chosen ones, by set, split and training set."""
    chosen = choose(results.rows)
    by_set: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in results.cells:
        if cell.n_seeds and chosen.get((cell.strategy, cell.epsilon), "") == cell.tuned:
            by_set.setdefault((cell.data_set, cell.split, cell.trained_on), []).append(cell)
    return by_set


def _name(kind: str, number: int, of: int) -> str:
    return kind if of == 1 else f"{kind}-{number}"


def _where(key: tuple[str, str, str]) -> str:
    data_set, split, trained_on = key
    return f"{data_set}, {split}" + (f"; trained on {trained_on}" if trained_on else "")


def _curves(results: StudyResults) -> Iterator[StudyFigure | NoFigure]:
    sets = {
        key: cells
        for key, cells in _by_set(results).items()
        if any(cell.metrics["auroc"].mean is not None for cell in cells)
    }
    if not sets:
        yield NoFigure("curve", "no run has an AUROC")
    for number, (key, cells) in enumerate(sets.items(), start=1):
        has_members = any(results.members_found.get(cell.runs) is not None for cell in cells)
        voided = any(cell.voided for cell in cells)
        caption = [
            f"Privacy and utility on {_where(key)}: mean AUROC over seeds by end-to-end epsilon.",
            scope_words(cells),
            f"Thin lines: {interval_words(cells)}.",
            "Thick lines: one standard deviation over seeds."
            if any(cell.metrics["auroc"].sd is not None for cell in cells)
            else "",
            "Hollow marks and dashed lines stand at the epsilon of their last stage alone: an "
            "earlier stage met the same patients without privacy, so they promise nothing."
            if voided
            else "",
            "Below: members that the best attack finds at 1 % false alarms (chance: 1 %), worst "
            "over models."
            if has_members
            else "",
        ]
        yield StudyFigure(
            _name("curve", number, len(sets)),
            " ".join(filter(None, caption)),
            _drawing_of_curve(cells, results),
        )


def _drawing_of_curve(
    cells: Sequence[Cell], results: StudyResults
) -> Callable[[float, Look], Figure]:
    def draw(width_in: float, look: Look) -> Figure:
        return curve_figure(
            cells,
            results.strategies,
            width_in=width_in,
            members_found=results.members_found,
            look=look,
        )

    return draw


def _drawing_of_panels(panels: Sequence[Panel], *, share_up: bool) -> Callable[..., Figure]:
    def draw(width_in: float, look: Look) -> Figure:
        return panels_figure(panels, width_in=width_in, look=look, share_up=share_up)

    return draw


def _growth(study: Path, results: StudyResults, patients: int | None) -> Iterator[StudyFigure]:
    """Of a study on several shares of its patients alone."""
    shares = public_shares(study, results.cells, patients)
    panels = growth_panels(results.cells, shares, results.strategies)
    if not panels:
        return
    cells = [cell for cell in results.cells if cell.split == CROSS_VALIDATED and cell.n_seeds]

    def draw(width_in: float, look: Look) -> Figure:
        return growth_figure(panels, cells, width_in=width_in, look=look)

    number = across_words(shares).removesuffix(" (log scale)")
    yield StudyFigure(
        "growth",
        f"AUROC on {cells[0].data_set}, {cells[0].split}, over the number of patients ({number}): "
        f"means over seeds, by the epsilon asked for. {scope_words(cells)} Vertical lines: "
        f"{interval_words(cells)}. Marks of one number stand side by side. Dashes, where "
        "they are in sight: chance.",
        draw,
    )


def _calibration(results: StudyResults) -> Iterator[StudyFigure | NoFigure]:
    by_set = _by_set(results)
    drawn = {
        key: panels
        for key, cells in by_set.items()
        if (panels := _calibration_panels(cells, results))
    }
    if not drawn:
        yield NoFigure("calibration", "its evaluations hold no figures of calibration")
    for number, (key, panels) in enumerate(drawn.items(), start=1):
        yield StudyFigure(
            _name("calibration", number, len(drawn)),
            f"How well scores are calibrated on {_where(key)}: means over seeds by the epsilon "
            f"asked for. {scope_words(by_set[key])} Vertical lines: 95 % intervals over patients "
            "(mean of the seeds' bootstrap intervals). Dashed: perfect calibration. Brier score: "
            "the lower, the better.",
            _drawing_of_panels(panels, share_up=False),
        )


def _calibration_panels(cells: Sequence[Cell], results: StudyResults) -> list[Panel]:
    panels = []
    for metric, words, best in _CALIBRATION:
        lines = []
        for style, strategy in enumerate(results.strategies):
            points = tuple(
                Point(cell.epsilon, part.mean, part.ci_low, part.ci_high)
                for cell in cells
                if cell.strategy == strategy
                for part in [cell.metrics[metric]]
                if part.mean is not None
            )
            if points:
                lines.append(Line(strategy, style, points))
        if lines:
            panels.append(Panel("", words, tuple(lines), at_best=best))
    return panels


def _fairness(
    results: StudyResults, rows: Sequence[FairnessRow]
) -> Iterator[StudyFigure | NoFigure]:
    chosen = choose(results.rows)
    parts: dict[tuple[str, str, str, str], list[FairnessRow]] = {}
    for row in rows:
        if row.measure == "auroc" and row.group and _is_drawn(row, chosen):
            key = (row.attribute, row.target, row.data_set, row.split)
            parts.setdefault(key, []).append(row)
    if not parts:
        yield NoFigure("fairness", "the study judged no groups (its setting `fairness`)")
    for number, (key, part) in enumerate(parts.items(), start=1):
        attribute, target, data_set, split = key
        yield StudyFigure(
            _name("fairness", number, len(parts)),
            f"AUROC of {target} by {attribute.replace('_', ' ')} on {data_set}, {split}: means "
            f"over {_seeds(part)} by the epsilon asked for. {_sizes(part, _group)}. Vertical "
            "lines: 95 % intervals over patients, drawn alike for all groups and models. Groups "
            "that are too small are left out.",
            _drawing_of_panels(_recipe_panels(part, _group), share_up=True),
        )


def _is_drawn(row: FairnessRow | TransferRow, chosen: Mapping[AtEpsilon, str]) -> bool:
    """Whether a row has a figure at one epsilon, of a setting that was not tried in vain."""
    if row.value is None or row.epsilon == "all":
        return False
    return chosen.get((row.strategy, row.epsilon), "") == row.tuned


def _seeds(rows: Sequence[CellRow]) -> str:
    seeds = sorted({row.n_seeds for row in rows})
    words = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{words} seed{'' if words == '1' else 's'}"


def _sizes(
    rows: Sequence[FairnessRow] | Sequence[TransferRow], line_of: Callable[[Any], str]
) -> str:
    """How many images and patients each line stands for."""
    sizes = {line_of(row): (row.n_images, row.n_patients) for row in rows}
    return "; ".join(
        f"{name}: {images} images of {patients} patients"
        for name, (images, patients) in sizes.items()
    )


def _recipe_panels(
    rows: Sequence[FairnessRow] | Sequence[TransferRow], line_of: Callable[[Any], str]
) -> list[Panel]:
    """A panel for each recipe, with a line for each group or site, which `line_of` a row names."""
    names = list(dict.fromkeys(map(line_of, rows)))
    recipes: dict[tuple[str, str], dict[str, list[Point]]] = {}
    for row in rows:
        if row.value is not None and row.epsilon != "all":
            lines = recipes.setdefault((row.strategy, row.trained_on), {})
            point = Point(row.epsilon, row.value, row.ci_low, row.ci_high)
            lines.setdefault(line_of(row), []).append(point)
    return [
        Panel(
            strategy_words(strategy) + (f"\ntrained on {trained_on}" if trained_on else ""),
            "AUROC",
            tuple(
                Line(name, style, tuple(lines[name]))
                for style, name in enumerate(names)
                if name in lines
            ),
        )
        for (strategy, trained_on), lines in recipes.items()
    ]


def _transfer(
    results: StudyResults, rows: Sequence[TransferRow]
) -> Iterator[StudyFigure | NoFigure]:
    chosen = choose(results.rows)
    parts: dict[str, list[TransferRow]] = {}
    for row in rows:
        if row.measure == "auroc" and _is_drawn(row, chosen):
            parts.setdefault(row.target, []).append(_with_cited_interval(row, results))
    if not parts:
        yield NoFigure("transfer", "the study scored its models on one set alone")
    for number, (target, part) in enumerate(parts.items(), start=1):
        yield StudyFigure(
            _name("transfer", number, len(parts)),
            f"AUROC of {target} by where models are scored: means over {_seeds(part)} by the "
            f"epsilon asked for. {_sizes(part, _site)}. "
            f"Vertical lines: {interval_words(results.cells)}.",
            _drawing_of_panels(_recipe_panels(part, _site), share_up=True),
        )


def _group(row: FairnessRow) -> str:
    return row.group


def _site(row: TransferRow) -> str:
    return f"{row.data_set}, {row.split}"


def _with_cited_interval(row: TransferRow, results: StudyResults) -> TransferRow:
    """The AUROC with the interval that the study's first table has for it."""
    for cell in results.cells:
        same = (cell.data_set, cell.split, cell.strategy, cell.epsilon, cell.tuned)
        if same == (row.data_set, row.split, row.strategy, row.epsilon, row.tuned) and (
            cell.trained_on in ("", row.trained_on)
        ):
            part = cell.metrics["auroc"]
            if part.mean is not None and math.isclose(part.mean, row.value or 0.0, abs_tol=1e-5):
                return row.model_copy(update={"ci_low": part.ci_low, "ci_high": part.ci_high})
    return row


def _grid(study: Path, results: StudyResults) -> StudyFigure | NoFigure:
    path = results.record.facts.synthetic
    if path is None:
        return NoFigure("patches", "the study names no synthetic set")
    try:
        dataset = open_dataset(seen_from(study, path))
    except InputError as error:
        reason = without_paths(str(error)).splitlines()[0]
        return NoFigure("patches", f"the synthetic set can't be read ({reason})")
    if dataset.info.shows_patients or dataset.info.protects_patients:
        return NoFigure("patches", "the set that the study calls synthetic shows patients")
    sets = results.record.facts.sets or read_sets(study)
    epsilon = next((one.epsilon for one in sets if one.name == dataset.info.name), None)
    return StudyFigure("patches", _grid_caption(dataset, epsilon), _drawing_of_grid(dataset))


def _grid_caption(dataset: Dataset, epsilon: float | None) -> str:
    if epsilon is None:
        promise = ""
    elif epsilon == 0 and (public := dataset.info.lineage.public):
        promise = f" They descend from the public {' and '.join(public)}, and no other patient."
    elif epsilon == 0:
        promise = " They descend from no patient's image."
    elif math.isinf(epsilon):
        promise = " Their generator learned without privacy."
    else:
        promise = f" Of its patients, each has a promise of epsilon {epsilon_text(epsilon)}."
    return (
        f"Synthetic patches of {dataset.info.name}, {dataset.info.size_px} px, by class; evenly "
        f"spaced over the {len(dataset.rows)} images of the set, not chosen by eye.{promise}"
    )


def _drawing_of_grid(dataset: Dataset) -> Callable[[float, Look], Figure]:
    def draw(width_in: float, look: Look) -> Figure:
        shown = class_images(dataset, PER_CLASS, dataset.info.size_px)
        rows = [PatchRow(label, list(images)) for label, images in shown]
        return grid_figure(rows, width_in=width_in, look=look)

    return draw
