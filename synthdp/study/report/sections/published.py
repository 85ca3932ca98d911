"""A study's rows beside figures that others published, with what each promise is worth.

What is theirs stands in two files: a table with a row for each seed, and a YAML file that says
which of its rows are which arm, and which strategy of ours repeats it; or in one YAML file of
matrices by site (`synthdp.study.report.sections.published_matrices`).
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from synthdp.config.packaged import packaged_config
from synthdp.config.settings import Settings, validate_settings
from synthdp.config.yaml_core import parse_yaml
from synthdp.data.manifest.tables import read_table
from synthdp.errors import InputError, quoted
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.accounting.privacy_loss import PrivacyLoss
from synthdp.privacy.units import Unit
from synthdp.storage.files import read_text
from synthdp.storage.paths import reason_of
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.results import ResultRow
from synthdp.study.report.sections.published_matrices import (
    PublishedMatrices,
    published_matrices_view,
)
from synthdp.study.sets import seen_from

MAX_DESCRIPTION_BYTES = 2**16


class PublishedArm(Settings):
    """Rows of the table that belong to one arm: those with these words in these columns.

    `strategy` is ours that repeats it (None: `why` it is not repeated); `end_to_end` says whether
    the epsilon of its last stage holds for its whole pipeline.
    """

    name: str = Field(min_length=1)
    rows: dict[str, str] = Field(min_length=1)
    strategy: str | None = None
    end_to_end: bool
    why: str = ""


class Published(Settings):
    """A published table: where it stands (from the file that says so), and what it means.

    `epsilon` is its column of epsilons (`inf`: no privacy); `figures` are columns of AUROCs by the
    set that they were read on; `unit` and `delta` are those of its promise.
    """

    source: str = Field(min_length=1)
    table: Path
    epsilon: str
    figures: dict[str, str] = Field(min_length=1)
    unit: Unit
    delta: float = Field(gt=0, lt=1)
    arms: tuple[PublishedArm, ...] = Field(min_length=1)


@dataclass(frozen=True)
class PublishedAuroc:
    """An AUROC over seeds: mean, standard deviation (None for one seed), number of seeds."""

    mean: float
    sd: float | None
    n_seeds: int


@dataclass(frozen=True)
class PublishedRow:
    """An arm at one epsilon (None: no privacy): theirs by evaluation set, and ours, if repeated.

    `members_found` is what the best attacker finds of members (their units) at 1 % false alarms
    when the epsilon is all that was spent, as at a Gaussian release; 1 where the pipeline promises
    nothing.
    """

    arm: PublishedArm
    epsilon: float | None
    theirs: Mapping[str, PublishedAuroc]
    members_found: float
    ours: Cell | None


def read_published(path: Path) -> Published | PublishedMatrices:
    """Read the YAML file that describes a published table, or that holds matrices.

    Raises:
        InputError: when it is missing, too large, or a setting is wrong.
    """
    with suppress(InputError):  # what comes with the package may be named as it stands there
        path = path if path.is_file() else packaged_config(str(path))
    if not path.is_file():
        raise InputError(f"published: {path} is missing; name the YAML file of the table")
    content = parse_yaml(read_text(path, MAX_DESCRIPTION_BYTES), where=path.name)
    if isinstance(content, dict) and "matrices" in content:
        return validate_settings(PublishedMatrices, content, where=path.name)
    published = validate_settings(Published, content, where=path.name)
    return published.model_copy(update={"table": path.parent / published.table})


def published_rows(published: Published, cells: Sequence[Cell]) -> list[PublishedRow]:
    """Every arm of the table at its epsilons, beside ours on the study's first evaluation set.

    Args:
        published: of `read_published`.
        cells: the study's, by set.

    Raises:
        InputError: when the table is missing or damaged, or an arm has no row in it.
    """
    columns = (published.epsilon, *published.figures.values())
    named = tuple(dict.fromkeys(column for arm in published.arms for column in arm.rows))
    if not published.table.is_file():
        raise InputError(
            f"{published.table.name}: the table is not at hand; put it where `table` says"
        )
    table = read_table(published.table, required=(*columns, *named))
    if table.problems:
        raise InputError(f"{published.table.name}: {'; '.join(table.problems[:5])}")
    first = [
        cell for cell in cells if (cell.data_set, cell.split) == (cells[0].data_set, cells[0].split)
    ]
    # of models of several sites those of the first, which come last here
    ours = {(cell.strategy, cell.epsilon): cell for cell in reversed(first) if not cell.tuned}
    records = list(table.records.values())
    return [row for arm in published.arms for row in _rows_of(published, arm, records, ours)]


def _rows_of(
    published: Published,
    arm: PublishedArm,
    records: Sequence[Mapping[str, str]],
    ours: Mapping[tuple[str, float | None], Cell],
) -> Iterator[PublishedRow]:
    """The arm at each of its epsilons, rising; `ours` go by strategy and epsilon asked for."""
    table = published.table.name
    chosen = [
        record
        for record in records
        if all(record[column] == words for column, words in arm.rows.items())
    ]
    if not chosen:
        raise InputError(f"{table}: holds no row of the arm {quoted(arm.name)}")
    by_epsilon: dict[float, list[Mapping[str, str]]] = {}
    for record in chosen:
        by_epsilon.setdefault(_figure(record[published.epsilon], table), []).append(record)
    for epsilon, rows in sorted(by_epsilon.items()):
        asked = None if math.isinf(epsilon) else epsilon
        theirs = {
            name: _over_seeds([_figure(row[column], table) for row in rows])
            for name, column in published.figures.items()
        }
        members_found = 1.0
        if arm.end_to_end and asked is not None:
            loss = PrivacyLoss(mu=gaussian_mu(asked, published.delta))
            members_found = loss.true_positive_rate(0.01)
        same = ours.get((arm.strategy, asked)) if arm.strategy is not None else None
        yield PublishedRow(arm, asked, theirs, members_found, same)


def _figure(text: str, table: str) -> float:
    """A cell as a number of at least 0; `table` is the file's name, for the error."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value) or value < 0:
        raise InputError(f"{table}: {text[:20]!r} is no figure of a table")
    return value


def _over_seeds(values: Sequence[float]) -> PublishedAuroc:
    sd = statistics.stdev(values) if len(values) > 1 else None
    return PublishedAuroc(statistics.fmean(values), sd, len(values))


def published_section(
    study: Path, rows: Sequence[ResultRow], cells: Sequence[Cell], path: Path | None
) -> dict[str, Any]:
    """Ours beside the figures that the file at `path` describes; `published.html.j2` shows it."""
    content: dict[str, Any] = {"published": [], "published_problem": "", "matrices": None}
    if path is None or not rows:
        return content
    try:
        about = read_published(seen_from(study, path))
        if isinstance(about, PublishedMatrices):
            return {**content, "matrices": published_matrices_view(about)}
        beside = published_rows(about, cells)
    except InputError as error:
        return {**content, "published_problem": reason_of(error)}
    on = f"{rows[0].data_set}, {rows[0].split}"
    return {**content, "published": beside, "published_about": about, "published_on": on}
