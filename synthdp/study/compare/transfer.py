"""Do models hold at other sites? `transfer.csv`: internal against external, by epsilon.

After arXiv 2306.06503: models trained at one site are scored there and elsewhere. Models scored on
the same images are compared on the same redraws of the patients (paired); scores of one model at
two sites are of different patients, so each site is redrawn by itself (unpaired).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from synthdp.data.dataset import open_dataset
from synthdp.evaluation.differences import benjamini_hochberg
from synthdp.evaluation.intervals import Redrawn, redrawn_auroc, redraws_of
from synthdp.machine.progress import progress
from synthdp.stages import crosses_grid
from synthdp.storage.files import write_atomic
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.predictions import (
    ScoredCell,
    compared_settings,
    has_evaluations,
    scored_cells,
)
from synthdp.study.compare.results import (
    CellKey,
    CellRow,
    ResultRow,
    read_rows,
    rounded_rows,
    table_csv,
)
from synthdp.study.settings import EvaluateOn, StudySettings, seen_from

TRANSFER_FILE = "transfer.csv"

Measure: TypeAlias = Literal[
    "auroc", "privacy_loss", "external_drop", "off_site_loss", "off_site_loss_change"
]
Domain: TypeAlias = Literal["internal", "external", "mixed"]


class TransferRow(CellRow):
    """One figure of models that were trained on one set and scored on another, or on its own.

    `domain` is internal where they were trained on the site that they are scored at, and mixed
    where on a part of it. A difference is of AUROCs, positive where something is lost:

    - `privacy_loss`: without privacy minus this, the same recipe on the same images;
    - `external_drop`: at the site of training minus here, the same models;
    - `off_site_loss`: trained here minus this, the same recipe on the same images;
    - `off_site_loss_change`: the `off_site_loss` at this epsilon minus that without privacy.

    `p_value` is two-sided, by bootstrap over patients; `p_adjusted` the same after Benjamini and
    Hochberg over all rows of the measure (`Redrawn.p_value`, `benjamini_hochberg`).
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


class _Key(NamedTuple):
    """Models by their cell, with the set that they were trained on, and where they are scored."""

    models: CellKey
    target: str
    data_set: str
    split: str


@dataclass(frozen=True, eq=False)
class _ScoredAt:
    """The models of one cell on one split and target: their mean AUROC with its redraws.

    `n_images` and `n_patients` are those whose target is known.
    """

    key: _Key
    cell: Cell
    auroc: Redrawn
    n_images: int
    n_patients: int

    @property
    def domain(self) -> Domain:
        return domain_of(self.key.models.trained_on, self.key.data_set)


def transfer_table(
    cells: Iterable[ScoredCell], data_set: str, *, redraws: int = 2000
) -> list[TransferRow]:
    """The table of a study's models.

    Args:
        cells: what was scored.
        data_set: the study's data, on which models were trained that name no other set.
        redraws: how often the patients of a split are drawn.

    Raises:
        InputError: when an evaluation is damaged, or does not fit its data set any more.
    """
    scored = list(_scored(cells, data_set, redraws))
    table = {one.key: one for one in scored}
    return _adjusted([row for one in scored for row in _rows(one, table)])


def _scored(cells: Iterable[ScoredCell], data_set: str, redraws: int) -> Iterator[_ScoredAt]:
    seeds: dict[tuple[str, str], int] = {}
    for one in progress(list(cells), what="transfer between sites", public_unit="cells"):
        images, cell = one.images(), one.cell
        # patients of one split are drawn alike for all models, those of another anew
        seed = seeds.setdefault((cell.data_set, cell.split), len(seeds))
        columns, weights = redraws_of([row.patient_id for row in images.rows], seed, redraws)
        trained_on = cell.trained_on or (data_set if crosses_grid(cell.strategy) else "")
        models = cell.key._replace(trained_on=trained_on)
        for index, target in enumerate(images.predictions.targets):
            known, _ = images.target(index, columns)
            yield _ScoredAt(
                key=_Key(models, target, cell.data_set, cell.split),
                cell=cell,
                auroc=redrawn_auroc(known.labels, known.scores, known.patients, weights),
                n_images=len(known.labels),
                n_patients=np.unique(known.patients).size,
            )


_Table: TypeAlias = Mapping[_Key, _ScoredAt]


def _rows(one: _ScoredAt, table: _Table) -> Iterator[TransferRow]:
    """The AUROC of some models, and each loss for which the other side is in the table."""
    yield _row(one, "auroc", one.auroc)
    private = one.cell.epsilon is not None
    models = one.key.models._replace(epsilon=None)
    free = table.get(one.key._replace(models=models)) if private else None
    if free is not None:
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
    free_loss = None if free is None else _off_site_loss(free, table)
    if free_loss is not None:
        yield _row(one, "off_site_loss_change", loss.minus(free_loss), note="paired")


def _homes(one: _ScoredAt, table: _Table) -> list[_ScoredAt]:
    """The same models at the site of training: on splits of the same name, where there are any."""
    homes = [
        other
        for key, other in table.items()
        if key[:2] == one.key[:2] and other.domain == "internal"
    ]
    return [other for other in homes if other.key.split == one.key.split] or homes


def _off_site_loss(one: _ScoredAt, table: _Table) -> Redrawn | None:
    """What models trained on this very set are better by, where there are any."""
    models = one.key.models._replace(trained_on=one.cell.data_set)
    local = table.get(one.key._replace(models=models))
    return None if local is None else local.auroc.minus(one.auroc)


def _row(one: _ScoredAt, measure: Measure, figure: Redrawn, *, note: str = "") -> TransferRow:
    p_value = math.nan if measure == "auroc" else figure.p_value()
    return TransferRow.model_validate(
        {
            **one.cell.columns,
            **figure.interval().to_json(),
            "trained_on": one.key.models.trained_on,
            "domain": one.domain,
            "target": one.key.target,
            "measure": measure,
            "p_value": None if math.isnan(p_value) else p_value,
            "n_images": one.n_images,
            "n_patients": one.n_patients,
            "note": "one class alone" if math.isnan(figure.value) else note,
        }
    )


def _adjusted(rows: Sequence[TransferRow]) -> list[TransferRow]:
    """The rows with p-values for many comparisons, measure by measure."""
    adjusted: dict[int, float] = {}
    for measure in {row.measure for row in rows}:
        tested = {
            index: row.p_value
            for index, row in enumerate(rows)
            if row.measure == measure and row.p_value is not None
        }
        adjusted |= dict(zip(tested, benjamini_hochberg([*tested.values()]), strict=True))
    return [
        row.model_copy(update={"p_adjusted": adjusted.get(index)}) for index, row in enumerate(rows)
    ]


def compares_sites(settings: StudySettings) -> bool:
    """Whether a study asks for the table: by `transfer`, or by several evaluation sets."""
    return settings.transfer is not None or len(settings.evaluation_sets) > 1


def compare_sites(
    study: Path, rows: Sequence[ResultRow], evaluated_on: Sequence[EvaluateOn], data: Path
) -> list[TransferRow]:
    """Compare the models of a study across sites, and write `transfer.csv`; gives its rows.

    Args:
        study: the study's folder; a released one has no predictions, and so no table.
        rows: its results.
        evaluated_on: what its models were scored on.
        data: the study's data set.

    Raises:
        InputError: when an evaluation is damaged.
    """
    if not has_evaluations(study):
        return []
    cells = list(scored_cells(study, rows, evaluated_on))
    name = open_dataset(seen_from(study, data)).info.name
    compared = transfer_table(cells, name)
    write_transfer(study / TRANSFER_FILE, compared)
    return compared


def transfer_of(
    study: Path, rows: Sequence[ResultRow], *, asked: bool = False
) -> list[TransferRow]:
    """The transfer table of a study: as it stands, or computed and written when it does not.

    Args:
        study: the study's folder; a released one has no predictions, and so no table.
        rows: its results.
        asked: compute it whatever stands, and whatever the study asks for.

    Raises:
        InputError: when a table or an evaluation is damaged.
    """
    path = study / TRANSFER_FILE
    if path.is_file() and not asked:
        return read_transfer(path)
    settings = compared_settings(study)
    if settings is None or not (asked or compares_sites(settings)):
        return []
    return compare_sites(study, rows, settings.evaluation_sets, settings.data)


def write_transfer(path: Path, rows: Sequence[TransferRow]) -> None:
    """Write `transfer.csv`, atomically."""
    write_atomic(path, table_csv(TransferRow, rounded_rows(rows)))


def read_transfer(path: Path) -> list[TransferRow]:
    """Read `transfer.csv`.

    Raises:
        InputError: when it is missing or damaged.
    """
    return read_rows(path, TransferRow, remedy="`synthdp report`")
