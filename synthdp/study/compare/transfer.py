"""Do models hold at other sites? `transfer.csv`: internal against external, by epsilon.

After arXiv 2306.06503: models trained at one site are scored there and elsewhere. Models scored on
the same images are compared on the same redraws of the patients (paired); scores of one model at
two sites are of different patients, so each site is redrawn by itself (unpaired).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from scipy.stats import false_discovery_control

from synthdp.config import load_settings
from synthdp.data.dataset import open_dataset
from synthdp.evaluation.predictions import Estimate, auroc_estimate, redraws_of
from synthdp.files import write_atomic
from synthdp.stages import crosses_grid
from synthdp.study.compare.predictions import ScoredCell, scored_cells
from synthdp.study.compare.results import ResultRow, StudyCell, read_table, table_csv
from synthdp.study.settings import StudySettings

TRANSFER_FILE = "transfer.csv"

Measure: TypeAlias = Literal[
    "auroc", "privacy_loss", "external_drop", "off_site_loss", "off_site_loss_change"
]
Domain: TypeAlias = Literal["internal", "external", "mixed"]
_Recipe: TypeAlias = tuple[str, str, str]  # strategy, tuned, target


class TransferRow(StudyCell):
    """One figure of models that were trained on one set and scored on another, or on its own.

    `domain` is internal where they were trained on the site that they are scored at, and mixed
    where on a part of it. A difference is of AUROCs, positive where something is lost:

    - `privacy_loss`: without privacy minus this, the same recipe on the same images;
    - `external_drop`: at the site of training minus here, the same models;
    - `off_site_loss`: trained here minus this, the same recipe on the same images;
    - `off_site_loss_change`: the `off_site_loss` at this epsilon minus that without privacy.

    `p_value` is two-sided, by bootstrap over patients; `p_adjusted` the same after Benjamini and
    Hochberg over all rows of the measure.
    """

    domain: Domain
    target: str
    measure: Measure
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    n_images: int
    n_patients: int
    note: str = ""


def domain_of(trained_on: str, scored_on: str) -> Domain:
    """Whether models meet the site that they were trained at: by the names of both.

    Args:
        trained_on: a set, `clinic`, or a part of one, `clinic (site A)`; empty for none.
        scored_on: likewise.
    """
    if trained_on == scored_on or (trained_on and scored_on.startswith(f"{trained_on} (")):
        return "internal"
    return "mixed" if trained_on.startswith(f"{scored_on} (") else "external"


@dataclass(frozen=True, eq=False)
class _Scored:
    """Models of one recipe at one epsilon, trained on one set and scored on one place."""

    cell: StudyCell
    trained_on: str
    target: str
    auroc: Estimate
    n_images: int
    n_patients: int

    @property
    def recipe(self) -> _Recipe:
        return self.cell.strategy, self.cell.tuned, self.target

    @property
    def place(self) -> tuple[str, str]:
        return self.cell.data_set, self.cell.split

    @property
    def domain(self) -> Domain:
        return domain_of(self.trained_on, self.cell.data_set)


def transfer_table(
    cells: Iterable[ScoredCell], data_set: str, *, redraws: int = 2000
) -> list[TransferRow]:
    """The table of a study's models.

    Args:
        cells: what was scored.
        data_set: the study's data, on which models were trained that name no other set.
        redraws: how often the patients of a place are drawn.

    Raises:
        InputError: when an evaluation is damaged, or does not fit its data set any more.
    """
    found = list(_scored(cells, data_set, redraws))
    by_key = {(one.recipe, one.cell.epsilon, one.trained_on, one.place): one for one in found}
    return _adjusted([row for one in found for row in _rows(one, by_key)])


def _scored(cells: Iterable[ScoredCell], data_set: str, redraws: int) -> Iterator[_Scored]:
    places: dict[tuple[str, str], int] = {}
    for one in cells:
        images, cell = one.images(), one.cell
        seed = places.setdefault((cell.data_set, cell.split), len(places))
        patients = [row.patient_id for row in images.rows]
        columns, weights = redraws_of(patients, seed, redraws)
        met = data_set if crosses_grid(cell.strategy) else ""
        for index, target in enumerate(images.targets):
            scored, _ = images.target(index, columns)
            yield _Scored(
                cell=cell,
                trained_on=cell.trained_on or met,
                target=target,
                auroc=auroc_estimate(scored, weights),
                n_images=len(scored.labels),
                n_patients=np.unique(scored.patients).size,
            )


_Table: TypeAlias = Mapping[
    tuple[_Recipe, float | Literal["all"] | None, str, tuple[str, str]], _Scored
]


def _rows(one: _Scored, table: _Table) -> Iterator[TransferRow]:
    yield _row(one, "auroc", one.auroc)
    free = table.get((one.recipe, None, one.trained_on, one.place))
    private = one.cell.epsilon is not None
    if private and free is not None:
        yield _row(one, "privacy_loss", free.auroc.minus(one.auroc), note="paired")
    if one.domain != "external":
        return
    for home in _homes(one, table):
        note = f"from {home.cell.data_set}, {home.cell.split}, unpaired"
        yield _row(one, "external_drop", home.auroc.minus(one.auroc), note=note)
    loss = _off_site_loss(one, table)
    if loss is None:
        return
    yield _row(one, "off_site_loss", loss, note="paired")
    free_loss = _off_site_loss(free, table) if private and free is not None else None
    if free_loss is not None:
        yield _row(one, "off_site_loss_change", loss.minus(free_loss), note="paired")


def _homes(one: _Scored, table: _Table) -> list[_Scored]:
    """The same models at the site of training: on splits of the same name, where there are any."""
    found = [
        other
        for (recipe, epsilon, trained_on, _), other in table.items()
        if (recipe, epsilon, trained_on) == (one.recipe, one.cell.epsilon, one.trained_on)
        and other.domain == "internal"
    ]
    return [other for other in found if other.place[1] == one.place[1]] or found


def _off_site_loss(one: _Scored, table: _Table) -> Estimate | None:
    """What models trained at this very place are better by, where there are any."""
    local = table.get((one.recipe, one.cell.epsilon, one.cell.data_set, one.place))
    return None if local is None else local.auroc.minus(one.auroc)


def _row(one: _Scored, measure: Measure, estimate: Estimate, *, note: str = "") -> TransferRow:
    p_value = math.nan if measure == "auroc" else estimate.p_value()
    told = "one class alone" if math.isnan(estimate.value) else note
    return TransferRow.model_validate(
        {
            **one.cell.model_dump(),
            **estimate.interval().to_json(),
            "trained_on": one.trained_on,
            "domain": one.domain,
            "target": one.target,
            "measure": measure,
            "p_value": None if math.isnan(p_value) else p_value,
            "n_images": one.n_images,
            "n_patients": one.n_patients,
            "note": told,
        }
    )


def _adjusted(rows: Sequence[TransferRow]) -> list[TransferRow]:
    """The rows with p-values for many comparisons, measure by measure."""
    adjusted: dict[int, float] = {}
    for measure in {row.measure for row in rows}:
        tested = [
            (index, row.p_value)
            for index, row in enumerate(rows)
            if row.measure == measure and row.p_value is not None
        ]
        if tested:
            values = false_discovery_control([value for _, value in tested])
            adjusted |= dict(zip((index for index, _ in tested), values.tolist(), strict=True))
    return [
        row.model_copy(update={"p_adjusted": adjusted.get(index)}) for index, row in enumerate(rows)
    ]


def transfer_of(
    study: Path, rows: Sequence[ResultRow], *, asked: bool = False, anew: bool = False
) -> list[TransferRow]:
    """The transfer table of a study: as it stands, or computed and written when it does not.

    A study has one when its setting `transfer` or several evaluation sets ask for it, or `asked`.

    Args:
        study: the study's folder; a released one has no predictions, and so no table.
        rows: its results.
        asked: whatever the study asked for.
        anew: whatever stands.

    Raises:
        InputError: when a table or an evaluation is damaged.
    """
    path, config = study / TRANSFER_FILE, study / "config.yaml"
    if path.is_file() and not anew:
        return read_transfer(path)
    if not config.is_file() or not (study / "evaluations").is_dir():
        return []
    settings = load_settings(StudySettings, config)
    if not (asked or settings.transfer is not None or len(settings.evaluation_sets) > 1):
        return []
    cells = list(scored_cells(study, rows, settings.evaluation_sets))
    data = settings.data if settings.data.exists() else study / settings.data
    found = transfer_table(cells, open_dataset(data).info.name)
    write_transfer(path, found)
    return found


def write_transfer(path: Path, rows: Sequence[TransferRow]) -> None:
    """Write `transfer.csv`, atomically."""
    write_atomic(path, table_csv(TransferRow, rows, decimals=6))


def read_transfer(path: Path) -> list[TransferRow]:
    """Read `transfer.csv`.

    Raises:
        InputError: when it is missing or damaged.
    """
    return read_table(path, TransferRow, remedy="`synthdp report`")
