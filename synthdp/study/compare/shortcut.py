"""Do models do better than a few pixels? `shortcut.csv`: a logistic regression on 16 x 16 of them.

Sets differ in frame, contrast and position, and where these go with the label, an AUROC says little
of what a model has seen: on the children of Kermany et al. (Cell 172:1122, 2018) such a probe is
almost as good as any network.

Guarantee: the probe spends nothing, since it never meets a patient that a promise is for. On images
of no patients (phantoms, synthetic, public sets) it learns from their train split. On patients it
learns from those that are scored, in parts, each scored by a probe of the other parts' patients:
they stand outside every promise already. Its figures are exact functions of them, and stay in the
house as those of the models do. A split on which models were trained has no probe.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthdp.data.columns import rows_where
from synthdp.data.dataset import (
    Dataset,
    Row,
    load_images,
    load_volumes,
    open_dataset,
    targets_array,
)
from synthdp.evaluation.metrics import MACRO
from synthdp.evaluation.uncertainty.intervals import Redrawn, redrawn_auroc, redraws_of
from synthdp.machine.progress import progress
from synthdp.privacy.promise.uncovered import TRAINED_ON
from synthdp.storage.files import write_atomic
from synthdp.study.compare.predictions import (
    ScoredCell,
    has_evaluations,
    kept_or_compared,
    refuse_other_images,
    scored_cells,
)
from synthdp.study.compare.results import CellRow, ResultRow, read_rows, rounded_rows, table_csv
from synthdp.study.compare.transfer.sites import domain_of, trained_on_of
from synthdp.study.sets import EvaluateOn, seen_from

Array = NDArray[np.float64]

SHORTCUT_FILE = "shortcut.csv"
#: The strategy that the probe's own rows have.
PIXELS = "pixels"
SIDE_PX = 16
#: Parts of the patients scored, where the probe learns from them.
N_PARTS = 5
#: Strength of its penalty, as scikit-learn has it: chosen once, for no set.
_C = 0.01
_ROWS_AT_ONCE = 256
#: A model that gains no more than this in AUROC does no better than the probe.
AS_WELL = 0.02
TOO_FEW = f"a class of fewer than {N_PARTS} patients to learn from"


class ShortcutRow(CellRow):
    """The probe's AUROC on one split, of the strategy `pixels`; or what models of a cell gain.

    `gain` is the mean AUROC of models over seeds less the probe's, on the same images and redraws;
    of models that were trained at that very site. `learned_on` says what the probe learned from.
    """

    target: str
    measure: Literal["auroc", "gain"]
    learned_on: str
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_images: int
    n_patients: int
    note: str = ""


@dataclass(frozen=True, eq=False)
class _Probe:
    """What the probe gave for the N images of a split: scores (N, T) by the set's targets, nan
    where it could not learn."""

    targets: tuple[str, ...]
    scores: Array
    learned_on: str


def shortcut_table(
    cells: Sequence[ScoredCell], on: EvaluateOn, data_set: str, *, redraws: int = 2000
) -> list[ShortcutRow]:
    """The probe on one split, and what models gain over it.

    Args:
        cells: all that were scored there, at least one.
        on: the split.
        data_set: the study's data, as results call it.
        redraws: how often patients are drawn for the intervals.

    Raises:
        InputError: when an evaluation is damaged or was made of other images than others, or an
            image is unreadable.
    """
    refuse_other_images(cells)
    dataset, rows = cells[0].dataset, cells[0].images().rows
    probe = _probe(dataset, rows, on)
    patients = [row.patient_id for row in rows]
    columns, weights = redraws_of(patients, 0, redraws)
    labels = np.asarray(targets_array(rows), dtype=np.float64)
    aurocs: dict[str, Redrawn] = {}
    counts: dict[str, tuple[int, int]] = {}
    for index, target in enumerate(probe.targets):
        known = ~np.isnan(labels[:, index])
        counts[target] = int(known.sum()), np.unique(columns[known]).size
        scores = probe.scores[known, index]
        if not np.isnan(scores).any():
            aurocs[target] = redrawn_auroc(
                labels[known, index], scores[None], columns[known], weights
            )
    first = cells[0].cell
    about = {"data_set": first.data_set, "split": first.split, "learned_on": probe.learned_on}
    of_probe = {**about, "strategy": PIXELS, "epsilon": None, "n_seeds": 1, "measure": "auroc"}
    table = [_row(of_probe, name, aurocs.get(name), counts[name]) for name in probe.targets]
    known_aurocs = {name: one for name, one in aurocs.items() if not math.isnan(one.value)}
    if len(probe.targets) > 1:
        largest = max(counts.values())
        table.append(_row(of_probe, MACRO, _mean(list(known_aurocs.values())), largest))
    for one in cells:
        if domain_of(trained_on_of(one.cell, data_set), first.data_set) != "internal":
            continue
        gains = _gains(one, known_aurocs, columns, weights)
        of_cell = {**one.cell.columns, **about, "measure": "gain"}
        table += [_row(of_cell, name, gain, counts[name]) for name, gain in gains.items()]
        if len(one.predictions.targets) > 1 and gains:
            shared = [counts[name] for name in gains]
            table.append(_row(of_cell, MACRO, _mean(list(gains.values())), max(shared)))
    return table


def _gains(
    one: ScoredCell,
    probe: Mapping[str, Redrawn],
    columns: NDArray[np.intp],
    weights: NDArray[np.int64],
) -> dict[str, Redrawn]:
    images, gains = one.images(), {}
    for index, target in enumerate(images.predictions.targets):
        if target in probe:
            known, _ = images.target(index, columns)
            auroc = redrawn_auroc(known.labels, known.scores, known.patients, weights)
            gains[target] = auroc.minus(probe[target])
    return gains


def _mean(figures: Sequence[Redrawn]) -> Redrawn | None:
    return Redrawn.mean(figures) if figures else None


def _row(
    about: Mapping[str, object], target: str, figure: Redrawn | None, counts: tuple[int, int]
) -> ShortcutRow:
    figures = {} if figure is None else figure.interval().to_json()
    n_images, n_patients = counts
    note = "" if figures.get("value") is not None else "one class alone, or " + TOO_FEW
    return ShortcutRow.model_validate(
        {
            **about,
            **figures,
            "target": target,
            "n_images": n_images,
            "n_patients": n_patients,
            "note": note,
        }
    )


# The probe.


def _probe(dataset: Dataset, rows: Sequence[Row], on: EvaluateOn) -> _Probe:
    pixels, targets = few_pixels(dataset, rows), dataset.info.targets
    n_targets = len(targets)
    labels = np.asarray(targets_array(rows, n_targets), dtype=np.float64)
    train = _free_train_rows(dataset, on)
    if train:
        known = np.asarray(targets_array(train, n_targets), dtype=np.float64)
        of_train = few_pixels(dataset, train)
        scores = [_learned(of_train, known[:, one], pixels) for one in range(n_targets)]
        return _Probe(targets, np.stack(scores, axis=1), f"{dataset.info.name}, train")
    patients = np.array([row.patient_id for row in rows])
    scores = [_cross_scored(pixels, labels[:, one], patients) for one in range(n_targets)]
    words = f"the other patients of these, in {N_PARTS} parts"
    return _Probe(targets, np.stack(scores, axis=1), words)


def _free_train_rows(dataset: Dataset, on: EvaluateOn) -> tuple[Row, ...]:
    """The images to learn from where none is a patient's; none where a promise is for them."""
    if dataset.info.protects_patients or on.manifest_split == "train":
        return ()
    rows = dataset.split("train", may_be_empty=True)
    return rows_where(dataset, rows, on.where, may_be_empty=True)


def few_pixels(dataset: Dataset, rows: Sequence[Row]) -> Array:
    """16 x 16 pixels of each image, (N, 256); of a volume those of the mean of its slices."""
    if dataset.info.depth is None:
        return load_images(dataset, rows, SIDE_PX).reshape(len(rows), -1).astype(np.float64)
    parts = [
        load_volumes(dataset, rows[start : start + _ROWS_AT_ONCE], SIDE_PX).mean(axis=1)
        for start in range(0, len(rows), _ROWS_AT_ONCE)
    ]
    return np.concatenate(parts).reshape(len(rows), -1).astype(np.float64)


def _learned(pixels: Array, labels: Array, others: Array) -> Array:
    """Scores (M,) of other images by a probe of these; nan where it can't learn."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 (tables are read without)
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 (as above)
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 (as above)

    known = ~np.isnan(labels)
    if np.unique(labels[known]).size < 2:
        return np.full(len(others), np.nan)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_C, max_iter=500))
    probe.fit(pixels[known], labels[known])
    scores: Array = probe.predict_proba(others)[:, 1]
    return scores


def _cross_scored(pixels: Array, labels: Array, patients: NDArray[np.str_]) -> Array:
    """Scores (N,), each by a probe that never met the image's patient; nan where it can't learn.

    Patients are dealt out to the parts by class, so that each part has both.
    """
    known = ~np.isnan(labels)
    positive = sorted(set(patients[labels == 1]))
    negative = sorted(set(patients[known]) - set(positive))
    scores = np.full(len(labels), np.nan)
    if min(len(positive), len(negative)) < N_PARTS:
        return scores
    dealt = np.random.default_rng(0)
    part_of = {
        patient: position % N_PARTS
        for some in (positive, negative)
        for position, patient in enumerate(dealt.permutation(some))
    }
    parts = np.array([part_of.get(patient, 0) for patient in patients])
    for part in range(N_PARTS):
        here = parts == part
        scores[here] = _learned(pixels[~here], labels[~here], pixels[here])
    return scores


# The table of a study.


def compare_with_pixels(
    study: Path, rows: Sequence[ResultRow], evaluated_on: Sequence[EvaluateOn], data: Path
) -> list[ShortcutRow]:
    """Compare the models of a study with the probe, and write `shortcut.csv`; gives its rows.

    Args:
        study: the study's folder; a released one has no predictions, and so no table.
        rows: its results.
        evaluated_on: what its models were scored on.
        data: the study's data set.

    Raises:
        InputError: as `shortcut_table`.
    """
    if not has_evaluations(study):
        return []
    name = open_dataset(seen_from(study, data)).info.name
    table = list(_tables(study, rows, evaluated_on, name))
    write_atomic(study / SHORTCUT_FILE, table_csv(ShortcutRow, rounded_rows(table)))
    return table


def _tables(
    study: Path, rows: Sequence[ResultRow], evaluated_on: Sequence[EvaluateOn], name: str
) -> Iterator[ShortcutRow]:
    for on in progress(list(evaluated_on), what="comparing with pixels", public_unit="sets"):
        cells = list(scored_cells(study, rows, [on]))
        if cells and not (cells[0].dataset.info.protects_patients and on.split in TRAINED_ON):
            yield from shortcut_table(cells, on, name)


def shortcut_of(
    study: Path, rows: Sequence[ResultRow], *, asked: bool = False
) -> list[ShortcutRow]:
    """The table of a study with these results, as `kept_or_compared` gives it."""
    return kept_or_compared(
        study,
        SHORTCUT_FILE,
        read_shortcut,
        lambda settings: compare_with_pixels(study, rows, settings.evaluation_sets, settings.data),
        asked=asked,
        wanted=lambda settings: settings.shortcut,
    )


def read_shortcut(path: Path) -> list[ShortcutRow]:
    """Read `shortcut.csv`.

    Raises:
        InputError: when it is missing or damaged.
    """
    return read_rows(path, ShortcutRow, remedy="`synthdp report`")


def shortcut_words(table: Sequence[ShortcutRow]) -> list[str]:
    """A sentence for each split and target of which no model is better than the probe, or is not
    shown to be, be it at some epsilons alone; none where all is well."""
    sentences = []
    for probe in (row for row in table if row.measure == "auroc" and row.value is not None):
        where = (probe.data_set, probe.split, probe.target)
        gains = [
            row
            for row in table
            if row.measure == "gain"
            and (row.data_set, row.split, row.target) == where
            and row.value is not None
        ]
        if not gains:
            continue
        best = _best(gains)
        assert probe.value is not None
        assert best.value is not None  # as chosen
        of = f"{probe.target} on {probe.data_set}, {probe.split}"
        pixels = f"a probe of {SIDE_PX} x {SIDE_PX} pixels reaches {probe.value:.3f}"
        model = f"the best model {probe.value + best.value:.3f}"
        weak = [
            one
            for epsilon in dict.fromkeys(row.epsilon for row in gains)
            if not _is_better(one := _best([row for row in gains if row.epsilon == epsilon]))
        ]
        if best.value <= AS_WELL:
            sentences.append(f"{of}: {pixels}, which is as well as {model}.")
        elif not _is_better(best):
            sentences.append(f"{of}: {pixels}; that {model} is better is not shown.")
        elif weak:
            sentences.append(
                f"{of}: {pixels}; models {_at_epsilons(weak)} are not shown to be better, "
                f"{model} is."
            )
    return sentences


def _best(gains: Sequence[ShortcutRow]) -> ShortcutRow:
    return max(gains, key=lambda row: -1.0 if row.value is None else row.value)


def _is_better(gain: ShortcutRow) -> bool:
    """Whether models are shown to do better than the probe, by more than counts for nothing."""
    assert gain.value is not None  # callers choose those
    return gain.value > AS_WELL and (gain.ci_low is None or gain.ci_low > 0)


def _at_epsilons(rows: Sequence[ShortcutRow]) -> str:
    """At which epsilons, as in `at epsilon 1, 3 and 8` or `without privacy`."""
    *others, last = [f"{row.epsilon:g}" for row in rows if isinstance(row.epsilon, float)] or [""]
    words = [f"at epsilon {', '.join(others)}{' and ' * bool(others)}{last}"] if last else []
    free = any(row.epsilon is None for row in rows)
    return " and ".join([*words, *(["without privacy"] if free else [])])
