"""Do models hold at other sites? `transfer.csv`: internal against external, by epsilon.

After arXiv 2306.06503: models trained at one site are scored there and elsewhere. Models scored on
the same images are compared on the same redraws of the patients (paired); scores of one model at
two sites are of different patients, so each site is redrawn by itself (unpaired). Targets go by
their names: each has its rows, and `macro` their plain mean over those with both classes. Where two
sides of a difference have other targets, it is of those that they share.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from synthdp.data.dataset import open_dataset
from synthdp.evaluation.metrics import MACRO
from synthdp.evaluation.uncertainty.differences import benjamini_hochberg
from synthdp.evaluation.uncertainty.intervals import Redrawn
from synthdp.storage.files import write_atomic
from synthdp.study.compare.predictions import (
    ScoredCell,
    has_evaluations,
    kept_or_compared,
    scored_cells,
)
from synthdp.study.compare.results import CellRow, ResultRow, read_rows, rounded_rows, table_csv
from synthdp.study.compare.transfer.drops import paired_t
from synthdp.study.compare.transfer.sites import (
    DECISIONS,
    OPTIMISTIC,
    THESE_IMAGES,
    Domain,
    Reached,
    SiteFigures,
    SiteKey,
    figures_at_sites,
    mean_figure,
)
from synthdp.study.sets import EvaluateOn, seen_from
from synthdp.study.settings import StudySettings

TRANSFER_FILE = "transfer.csv"

Measure: TypeAlias = Literal[
    Reached,
    "privacy_loss",
    "external_drop",
    "off_site_loss",
    "off_site_loss_paper",
    "off_site_loss_change",
    "mean_off_site_loss",
    "mean_off_site_loss_paper",
    "mean_off_site_privacy_loss",
    "mean_off_site_privacy_loss_cells",
]

#: The training set of a mean over models that were trained elsewhere.
ELSEWHERE = "every other site"
_REVERSED = "scores rank the other way round here, so its labels may mean other things"
BELOW_CHANCE = f"below .5: {_REVERSED}"
MAYBE_BELOW_CHANCE = f"below .5, though not surely: if so, {_REVERSED}"


class TransferRow(CellRow):
    """One figure of models that were trained on one set and scored on another, or on its own.

    `domain` is internal where they were trained on the site that they are scored at, and mixed
    where on a part of it. `target` is `macro` for the mean over several.

    - `accuracy`, `sensitivity`, `specificity`: at each model's threshold of Youden's index at the
      site of training, which `note` names; those `_optimistic` at that of the images scored, as the
      paper has them.

    A difference is of AUROCs, positive where something is lost:

    - `privacy_loss`: without privacy minus this, the same recipe on the same images;
    - `external_drop`: at the site of training minus here, the same models;
    - `off_site_loss`: trained here minus this, the same recipe on the same images;
    - `off_site_loss_paper`: trained here *without privacy* minus this: the paper's drop;
    - `off_site_loss_change`: the `off_site_loss` at this epsilon minus that without privacy;
    - `mean_off_site_loss`, `mean_off_site_loss_paper`: the means over the sites of training, whose
      `trained_on` is `every other site`;
    - `mean_off_site_privacy_loss`: the mean `privacy_loss` of models trained elsewhere, which is by
      how much the paper's drop with privacy exceeds that without; `..._cells`: the same with the
      paper's test, a paired t over sites and findings.

    `p_value` is two-sided, by bootstrap over patients except for that last test; `p_adjusted` the
    same after Benjamini and Hochberg over all rows of the measure (`Redrawn.p_value`,
    `benjamini_hochberg`).
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
    scored = list(figures_at_sites(list(cells), data_set, redraws))
    table = {one.key: one for one in scored}
    of_cells = [row for one in scored for row in _rows(one, table)]
    return _adjusted([*of_cells, *_mean_rows(scored, table)])


# Rows: what models of one cell reach, and what they lose.

_Table: TypeAlias = Mapping[SiteKey, SiteFigures]


def _rows(one: SiteFigures, table: _Table) -> Iterator[TransferRow]:
    """The figures of some models, and each loss for which the other side is in the table."""
    yield _row(one, "auroc", one.auroc, note=_auroc_note(one))
    for name in DECISIONS:
        yield _row(one, name, one.figure(name), note=one.threshold_note)
    for measure in OPTIMISTIC:
        yield _row(one, measure, one.figure(measure), note=THESE_IMAGES)
    free = _without_privacy(one, table)
    if free is not None:
        yield _loss_row(one, "privacy_loss", free, one)
    if one.domain != "external":
        return
    for home in _homes(one, table):
        where = f"from {home.cell.data_set}, {home.cell.split}, unpaired"
        yield _loss_row(one, "external_drop", home, one, note=where)
    local = _trained_here(one, table)
    if local is None:
        return
    yield _loss_row(one, "off_site_loss", local, one)
    free_local = _without_privacy(local, table)
    if free is None or free_local is None:
        return
    yield _loss_row(one, "off_site_loss_paper", free_local, one)
    change = local.minus(one).minus(free_local.minus(free))
    yield _row(one, "off_site_loss_change", change, note="paired")


def _auroc_note(one: SiteFigures) -> str:
    """What a reader has to know of an AUROC: what it leaves out, and that it is below chance."""
    notes = [one.over_words] if one.over_words else []
    if one.domain == "external" and one.auroc.value < 0.5:
        surely = one.auroc.interval().ci_high < 0.5
        notes.append(BELOW_CHANCE if surely else MAYBE_BELOW_CHANCE)
    return "; ".join(notes)


def _without_privacy(one: SiteFigures, table: _Table) -> SiteFigures | None:
    """The same recipe without privacy on the same images; None where it is without already."""
    if not one.private:
        return None
    return table.get(one.key._replace(models=one.key.models._replace(epsilon=None)))


def _homes(one: SiteFigures, table: _Table) -> list[SiteFigures]:
    """The same models at the site of training: on splits of the same name, where there are any."""
    homes = [
        other
        for key, other in table.items()
        if key[:2] == one.key[:2] and other.domain == "internal"
    ]
    return [other for other in homes if other.key.split == one.key.split] or homes


def _trained_here(one: SiteFigures, table: _Table) -> SiteFigures | None:
    """The models of the same recipe that were trained on this very set, where there are any."""
    models = one.key.models._replace(trained_on=one.cell.data_set)
    return table.get(one.key._replace(models=models))


def _loss_row(
    one: SiteFigures,
    measure: Measure,
    first: SiteFigures,
    second: SiteFigures,
    *,
    note: str = "paired",
) -> TransferRow:
    """The AUROC of the first less that of the second, as a row about `one`."""
    shared = first.shared_targets(second)
    if one.key.target == MACRO and len(shared) < max(first.n_targets, second.n_targets):
        note += f", over {', '.join(shared) or 'no target that both have'}"
    return _row(one, measure, first.minus(second), note=note)


def _row(one: SiteFigures, measure: Measure, figure: Redrawn, *, note: str = "") -> TransferRow:
    tested = measure.endswith(("_loss", "_drop", "_paper", "_change"))
    p_value = figure.p_value() if tested else math.nan
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


# Means over the sites of training: the drop at a site, as the paper has it and as we have it.


def _mean_rows(scored: Sequence[SiteFigures], table: _Table) -> Iterator[TransferRow]:
    """The drops at each site that models of two other sites at least were brought to."""
    groups: dict[SiteKey, list[SiteFigures]] = {}
    for one in scored:
        local = _trained_here(one, table)
        if one.domain == "external" and local is not None and local.shared_targets(one):
            key = one.key._replace(models=one.key.models._replace(trained_on=ELSEWHERE))
            groups.setdefault(key, []).append(one)
    for key, models in groups.items():
        if len(models) > 1:
            yield from _mean_rows_at(key, models, table)


def _mean_rows_at(
    key: SiteKey, models: Sequence[SiteFigures], table: _Table
) -> Iterator[TransferRow]:
    """The drops at one site, of one recipe at one epsilon."""
    first, sites = models[0], ", ".join(one.key.models.trained_on for one in models)
    note = f"mean over {len(models)} sites of training: {sites}"

    def row(measure: Measure, figures: Sequence[Redrawn], note: str = note) -> TransferRow:
        about = {"trained_on": ELSEWHERE, "n_seeds": min(one.cell.n_seeds for one in models)}
        return _row(first, measure, mean_figure(figures), note=note).model_copy(update=about)

    pairs = [(local, one) for one in models if (local := _trained_here(one, table)) is not None]
    yield row("mean_off_site_loss", [local.minus(one) for local, one in pairs])
    frees = [(free, one) for one in models if (free := _without_privacy(one, table)) is not None]
    local_free = _without_privacy(pairs[0][0], table)
    if local_free is None or len(frees) < len(models):
        return
    yield row("mean_off_site_loss_paper", [local_free.minus(one) for one in models])
    lost = row("mean_off_site_privacy_loss", [free.minus(one) for free, one in frees])
    yield lost
    cells = [
        (free.parts[target]["auroc"].value, one.parts[target]["auroc"].value)
        for free, one in frees
        for target in free.shared_targets(one)
    ]
    p_value = paired_t(*np.array(cells, dtype=np.float64).reshape(-1, 2).T)
    yield lost.model_copy(
        update={
            "measure": "mean_off_site_privacy_loss_cells",
            "p_value": None if math.isnan(p_value) else p_value,
            "note": f"the paper's paired t over {len(cells)} cells, sites by findings, which share "
            "patients and models",
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
    """The table of a study with these results, as `kept_or_compared` gives it."""
    return kept_or_compared(
        study,
        TRANSFER_FILE,
        read_transfer,
        lambda settings: compare_sites(study, rows, settings.evaluation_sets, settings.data),
        asked=asked,
        wanted=compares_sites,
    )


def write_transfer(path: Path, rows: Sequence[TransferRow]) -> None:
    """Write `transfer.csv`, atomically."""
    write_atomic(path, table_csv(TransferRow, rounded_rows(rows)))


def read_transfer(path: Path) -> list[TransferRow]:
    """Read `transfer.csv`.

    Raises:
        InputError: when it is missing or damaged.
    """
    return read_rows(path, TransferRow, remedy="`synthdp report`")
