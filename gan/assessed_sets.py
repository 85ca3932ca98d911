"""The data sets of an assessment: opened, checked against each other, and measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gan.assess_config import AssessSettings
from gan.comparisons import Sets, Subject, chosen_n
from gan.examples import refuse_other_targets
from gan.inception import load_inception
from gan.measured_sets import MeasuredSet, Networks, measure_set
from synthdp.data.dataset import Dataset, Row, open_dataset
from synthdp.devices import has_bfloat16
from synthdp.errors import InputError
from synthdp.extractors import build_extractor


@dataclass(frozen=True)
class Opened:
    """A data set and those of its rows that are looked at."""

    dataset: Dataset
    rows: tuple[Row, ...]
    n_images: int


@dataclass(frozen=True)
class Material:
    """All sets of an assessment, as folders and as measured."""

    synthetic: Opened
    baseline: Opened | None
    train: Opened
    held_out: Opened | None
    networks: Networks
    sets: Sets

    @property
    def made_up(self) -> dict[Subject, Opened]:
        """The synthetic set and, where there is one, the baseline."""
        both: dict[Subject, Opened] = {"synthetic": self.synthetic}
        return both if self.baseline is None else {**both, "baseline": self.baseline}


def read_material(settings: AssessSettings) -> Material:
    """Open, check and measure the sets.

    Raises:
        InputError: when a set is of the wrong kind, has other targets, or lacks train images; when
            weights do not fit or an image is unreadable.
        RunError: when features are not finite, or the disk is full.
    """
    real = open_dataset(settings.real)
    _refuse_made_up(real)
    train = _opened(real, real.split("train"))
    val = tuple(row for row in real.rows if row.split == "val")
    held_out = _opened(real, val) if val else None
    synthetic = _open_synthetic(settings.synthetic, real, settings.max_images)
    baseline = None
    if settings.baseline is not None:
        baseline = _open_synthetic(settings.baseline, real, settings.max_images)
    sizes = {"the synthetic set": len(synthetic.rows), "the real train split": len(train.rows)}
    if baseline is not None:
        sizes["the baseline"] = len(baseline.rows)
    compare_n = chosen_n(settings.compare_n, sizes)
    networks = _networks(settings)

    def measured(opened: Opened, *, copies: bool) -> MeasuredSet:
        size_px = real.info.size_px
        return measure_set(opened.dataset, opened.rows, networks, size_px=size_px, copies=copies)

    sets = Sets(
        synthetic=measured(synthetic, copies=False),
        baseline=None if baseline is None else measured(baseline, copies=False),
        train=measured(train, copies=True),
        held_out=None if held_out is None else measured(held_out, copies=True),
        compare_n=compare_n,
        seed=settings.seed,
        redraws=settings.redraws,
    )
    return Material(synthetic, baseline, train, held_out, networks, sets)


def _opened(dataset: Dataset, rows: Sequence[Row], most: int | None = None) -> Opened:
    """The rows, or `most` of them, evenly spaced."""
    count = min(len(rows), most or len(rows))
    places = np.linspace(0, len(rows) - 1, count).round().astype(int)
    return Opened(dataset, tuple(rows[place] for place in places), len(rows))


def _open_synthetic(path: Path, real: Dataset, most: int) -> Opened:
    dataset = open_dataset(path)
    info = dataset.info
    if info.protects_patients:
        raise InputError(
            f"{info.name}: holds patients' images, and the page would show them; assess judges "
            "made-up sets, so name a synthetic one first and the real one with --real"
        )
    if info.targets != real.info.targets:
        raise InputError(
            f"{info.name}: its target is {', '.join(info.targets)}, that of {real.info.name} is "
            f"{', '.join(real.info.targets)}; name the columns of both alike"
        )
    return _opened(dataset, dataset.split("all"), most)


def _refuse_made_up(real: Dataset) -> None:
    refuse_other_targets(real.info)
    if real.info.kind == "synthetic":
        raise InputError(
            f"real: {real.info.name} is a synthetic set; name the set of patients (or phantoms) "
            "that it is to be like"
        )


def _networks(settings: AssessSettings) -> Networks:
    low = settings.precision == "auto" and has_bfloat16(torch.device("cpu"))
    extractors = {
        space.label: build_extractor(space, seed=settings.seed, in_bfloat16=low).to(
            memory_format=torch.channels_last
        )
        for space in settings.features
    }
    if settings.inception is None:
        return Networks(extractors)
    return Networks(extractors, load_inception(settings.inception), settings.inception.sha256)
