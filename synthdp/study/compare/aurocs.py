"""A study's recipes compared on the same patients, with runs and patients as sources of variance.

For each set and split: the mean AUROC of each strategy at each epsilon; its difference from the
same strategy without privacy; and its difference from a reference strategy at the same epsilon.
`synthdp.evaluation.differences` says how. Of tuned settings the chosen ones alone are compared.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from synthdp.config import EpsilonTarget, Settings
from synthdp.errors import InputError
from synthdp.evaluation.differences import (
    Correlated,
    Estimate,
    auroc_draws,
    correlated_aurocs,
    correlated_shares,
    difference,
    holm,
    mean_over_runs,
)
from synthdp.evaluation.intervals import patient_weights, percentile_interval
from synthdp.evaluation.operating_point import threshold_of_scores
from synthdp.files import write_atomic
from synthdp.privacy.lineage import Spent
from synthdp.study.compare.cells import Recipe, recipes_of, sets_of
from synthdp.study.compare.predictions import ScoredRuns, read_scored
from synthdp.study.compare.results import ResultRow, read_table, table_csv
from synthdp.study.settings import ComparePlan, FixedOn, unknown_reference

Kind = Literal["mean", "without_privacy", "reference"]


class ComparisonRow(Settings):
    """A mean AUROC over seeds, or a difference of two: a row of `comparisons.csv`.

    kind: `mean`; `without_privacy`: less that of the same strategy without privacy;
    `reference`: less that of the strategy `against` at the same epsilon. `ci_low` and `ci_high`
    hold patients and seeds; those of `patients` come from redraws of the patients alone, with these
    very runs. `sd_seeds` is the standard deviation over runs; `se_seeds` and `se_patients` are what
    each source adds to the standard error of `value` (their squares add up), where seeds add what
    their spread holds beyond that of runs which err on other patients: it may be 0. `p` is that of
    no difference, `p_noninferior` that of a loss of `margin` or more; those with `holm` hold for
    all rows of a kind (and reference) on a split together. `noninferior`: `ci_low` lies above
    -margin. `note` says what is missing.
    """

    data_set: str
    split: str
    kind: Kind
    strategy: str = Field(min_length=1)
    epsilon: EpsilonTarget
    tuned: str = ""
    trained_on: str = ""
    against: str = ""
    n_seeds: int
    n_seeds_against: int | None = None
    epsilon_end_to_end: Spent | None = None
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    patients_ci_low: float | None = None
    patients_ci_high: float | None = None
    sd_seeds: float | None = None
    se_seeds: float | None = None
    se_patients: float | None = None
    margin: float | None = None
    p: float | None = None
    p_holm: float | None = None
    noninferior: bool | None = None
    p_noninferior: float | None = None
    p_noninferior_holm: float | None = None
    note: str = ""

    @property
    def seeds_share(self) -> float | None:
        """The share of the variance of `value` that seeds add, in [0, 1]; None without variance."""
        if self.se_seeds is None or self.se_patients is None:
            return None
        total = self.se_seeds**2 + self.se_patients**2
        return self.se_seeds**2 / total if total else None


@dataclass(frozen=True)
class _Set:
    """One split of a data set: its runs with their AUROCs, and redraws of them, (K, R)."""

    data_set: str
    split: str
    scored: ScoredRuns
    figures: Correlated
    draws: NDArray[np.float64]

    def places(self, recipe: Recipe) -> list[int]:
        return [self.scored.places[run] for run in recipe.runs if run in self.scored.places]


def compare_recipes(
    study: Path, rows: Sequence[ResultRow], plan: ComparePlan
) -> list[ComparisonRow]:
    """All comparisons of a study, from the predictions of its runs.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        plan: what is compared.
    """
    recipes = recipes_of(rows)
    references = plan.reference or tuple(recipe.strategy for recipe in recipes[:1])
    found = []
    for data_set, split in sets_of(rows):
        place = _read_set(study, data_set, split, recipes, plan.redraws)
        found += [_mean_row(place, recipe) for recipe in recipes]
        found += _adjusted(_privacy_rows(place, recipes, plan))
        for reference in references:
            found += _adjusted(_reference_rows(place, recipes, reference, plan))
    return found


def _read_set(
    study: Path, data_set: str, split: str, recipes: Sequence[Recipe], redraws: int
) -> _Set:
    runs = [run for recipe in recipes for run in recipe.runs]
    scored = read_scored(study, data_set, split, runs)
    figures = correlated_aurocs(scored.targets, scored.scores, scored.patients)
    n_patients = int(scored.patients.max()) + 1 if scored.patients.size else 1
    weights = patient_weights(n_patients, redraws, np.random.default_rng(0))
    draws = auroc_draws(scored.targets, scored.scores, scored.patients, weights)
    return _Set(data_set, split, scored, figures, draws)


def _mean_row(place: _Set, recipe: Recipe) -> ComparisonRow:
    runs = place.places(recipe)
    if not runs:
        return _row(place, recipe, "mean", notes=_notes(place, recipe))
    values = place.figures.values[runs]
    return _row(
        place,
        recipe,
        "mean",
        estimate=mean_over_runs(place.figures, runs),
        draws=place.draws[runs].mean(axis=0),
        bounds=(0.0, 1.0),
        notes=_notes(place, recipe),
        sd_seeds=rounded(float(values.std(ddof=1))) if len(runs) > 1 else None,
    )


def _privacy_rows(place: _Set, recipes: Sequence[Recipe], plan: ComparePlan) -> list[ComparisonRow]:
    without = {(one.strategy, one.trained_on): one for one in recipes if one.epsilon is None}
    return [
        _difference_row(place, recipe, other, "without_privacy", plan.margin)
        for recipe in recipes
        if recipe.epsilon is not None
        and (other := without.get((recipe.strategy, recipe.trained_on))) is not None
    ]


def _reference_rows(
    place: _Set, recipes: Sequence[Recipe], reference: str, plan: ComparePlan
) -> list[ComparisonRow]:
    others = {(one.epsilon, one.trained_on): one for one in recipes if one.strategy == reference}
    found = []
    for recipe in recipes:
        if recipe.strategy == reference:
            continue
        other = others.get((recipe.epsilon, recipe.trained_on))
        if other is not None:
            found.append(_difference_row(place, recipe, other, "reference", plan.margin))
        else:
            note = f"{reference} has no run at this epsilon"
            found.append(_row(place, recipe, "reference", against=reference, notes=[note]))
    return found


def _difference_row(
    place: _Set, recipe: Recipe, other: Recipe, kind: Kind, margin: float
) -> ComparisonRow:
    first, second = place.places(recipe), place.places(other)
    notes = [*_notes(place, recipe), *(f"compared with: {note}" for note in _notes(place, other))]
    cells: dict[str, Any] = {
        "against": other.strategy,
        "n_seeds_against": len(second),
        "margin": margin,
    }
    if not first or not second:
        return _row(place, recipe, kind, notes=notes, **cells)
    estimate = difference(place.figures, first, second)
    if estimate.standard_error == 0 and estimate.value:
        notes.append("no variance on these patients, so nothing is tested")
    return _row(
        place,
        recipe,
        kind,
        estimate=estimate,
        draws=place.draws[first].mean(axis=0) - place.draws[second].mean(axis=0),
        notes=notes,
        p=rounded(estimate.p_value()),
        p_noninferior=rounded(estimate.p_noninferior(margin)),
        noninferior=_above(estimate.interval()[0], -margin),
        **cells,
    )


def _above(low: float, bound: float) -> bool | None:
    return None if math.isnan(low) else low > bound


def _row(
    place: _Set,
    recipe: Recipe,
    kind: Kind,
    *,
    notes: Sequence[str],
    estimate: Estimate | None = None,
    draws: NDArray[np.float64] | None = None,
    bounds: tuple[float, float] = (-1.0, 1.0),
    **cells: Any,
) -> ComparisonRow:
    figures: dict[str, Any] = {}
    if estimate is not None and draws is not None:
        low, high = np.clip(estimate.interval(), *bounds)
        redrawn = percentile_interval(estimate.value, draws)
        figures = {
            "value": rounded(estimate.value),
            "ci_low": rounded(low),
            "ci_high": rounded(high),
            "patients_ci_low": rounded(redrawn.ci_low),
            "patients_ci_high": rounded(redrawn.ci_high),
            "se_seeds": rounded(math.sqrt(estimate.variance_seeds)),
            "se_patients": rounded(math.sqrt(estimate.variance_patients)),
        }
    return ComparisonRow.model_validate(
        {
            "data_set": place.data_set,
            "split": place.split,
            "kind": kind,
            "strategy": recipe.strategy,
            "epsilon": recipe.epsilon,
            "tuned": recipe.tuned,
            "trained_on": recipe.trained_on,
            "n_seeds": len(place.places(recipe)),
            "epsilon_end_to_end": recipe.epsilon_end_to_end,
            "note": "; ".join(notes),
            **figures,
            **cells,
        }
    )


def rounded(value: float) -> float | None:
    """To six significant digits, as tables hold it; None where it is nan."""
    return None if math.isnan(value) else float(f"{value:.6g}")


def _notes(place: _Set, recipe: Recipe) -> list[str]:
    """What is missing of a recipe on a set, in words."""
    runs = place.places(recipe)
    failed = recipe.asked - len(recipe.runs)
    notes = [f"{failed} of {recipe.asked} runs failed"] if failed else []
    problems = [place.scored.problems[run] for run in recipe.runs if run in place.scored.problems]
    notes += [
        f"{problems.count(why)} of {recipe.asked} runs: {why}" for why in dict.fromkeys(problems)
    ]
    if not runs:
        return notes or ["no run"]
    if math.isnan(place.figures.values[runs[0]]):
        return [*notes, "the set holds one class alone"]
    if np.isnan(place.figures.covariance[runs[0], runs[0]]):
        notes.append("a class has one patient alone, so there is no variance")
    return [*notes, "one seed, so the interval holds patients alone"] if len(runs) == 1 else notes


def _adjusted(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """The rows of one family with p-values that hold for all of them together (Holm)."""
    p_values, p_noninferior = (
        [rounded(value) for value in holm([math.nan if p is None else p for p in column])]
        for column in ([row.p for row in rows], [row.p_noninferior for row in rows])
    )
    return [
        row.model_copy(update={"p_holm": p, "p_noninferior_holm": worse})
        for row, p, worse in zip(rows, p_values, p_noninferior, strict=True)
    ]


# Sensitivity and specificity at thresholds that were fixed on another split. The threshold of each
# run is the highest that finds the wanted share of positives there. It is an exact function of
# those patients, who therefore stand outside every promise: a threshold that may be published
# comes from `synthdp calibrate`.


class ThresholdRow(Settings):
    """A recipe at its own thresholds on one split: a row of `thresholds.csv`.

    Thresholds find a share `at_sensitivity` of the positives of `fixed_on`, `fixed_on_split`, one
    for each run, from `threshold_low` to `threshold_high`. Means over runs, with intervals that
    hold seeds and patients (of this split; thresholds are taken as given) and standard deviations
    over runs; no interval where all or none are found. `note` says what is missing.
    """

    data_set: str
    split: str
    strategy: str
    epsilon: EpsilonTarget
    tuned: str = ""
    trained_on: str = ""
    fixed_on: str
    fixed_on_split: str
    at_sensitivity: float
    n_seeds: int
    threshold_low: float | None = None
    threshold_high: float | None = None
    sensitivity: float | None = None
    sensitivity_ci_low: float | None = None
    sensitivity_ci_high: float | None = None
    sensitivity_sd_seeds: float | None = None
    specificity: float | None = None
    specificity_ci_low: float | None = None
    specificity_ci_high: float | None = None
    specificity_sd_seeds: float | None = None
    note: str = ""


def threshold_rows(study: Path, rows: Sequence[ResultRow], plan: ComparePlan) -> list[ThresholdRow]:
    """Every recipe on every other split than the one that thresholds are fixed on.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        plan: what is compared; without `threshold_on` there are no rows.
    """
    fixed_on = plan.threshold_on
    if fixed_on is None:
        return []
    recipes = recipes_of(rows)
    runs = [run for recipe in recipes for run in recipe.runs]
    fitted = _fitted(read_scored(study, fixed_on.data_set, fixed_on.split, runs), plan.sensitivity)
    found = []
    for data_set, split in sets_of(rows):
        if (data_set, split) != (fixed_on.data_set, fixed_on.split):
            scored = read_scored(study, data_set, split, runs)
            for recipe in recipes:
                cells = {"data_set": data_set, "split": split, **_asked(recipe, fixed_on, plan)}
                found.append(
                    ThresholdRow.model_validate({**cells, **_figures(scored, fitted, recipe)})
                )
    return found


def _asked(recipe: Recipe, fixed_on: FixedOn, plan: ComparePlan) -> dict[str, object]:
    return {
        "strategy": recipe.strategy,
        "epsilon": recipe.epsilon,
        "tuned": recipe.tuned,
        "trained_on": recipe.trained_on,
        "fixed_on": fixed_on.data_set,
        "fixed_on_split": fixed_on.split,
        "at_sensitivity": plan.sensitivity,
    }


def _fitted(scored: ScoredRuns, sensitivity: float) -> dict[str, float]:
    """Each run's threshold; none where no positive is known, or there are several targets."""
    if scored.targets.shape[1] != 1 or not (scored.targets == 1).any():
        return {}
    known = ~np.isnan(scored.targets[:, 0])
    positives = scored.targets[known, 0]
    return {
        run: threshold_of_scores(scored.scores[place, known, 0], positives, sensitivity)
        for run, place in scored.places.items()
    }


def _figures(scored: ScoredRuns, fitted: dict[str, float], recipe: Recipe) -> dict[str, object]:
    if scored.targets.shape[1] != 1:
        return {"n_seeds": 0, "note": "thresholds are fixed for one target alone"}
    runs = [run for run in recipe.runs if run in fitted and run in scored.places]
    missing = recipe.asked - len(runs)
    lost = f"{missing} of {recipe.asked} runs have no threshold or no predictions"
    cells: dict[str, object] = {"n_seeds": len(runs), "note": lost if missing else ""}
    if not runs:
        return cells
    thresholds = np.array([fitted[run] for run in runs])
    called = scored.scores[[scored.places[run] for run in runs], :, 0] >= thresholds[:, None]
    targets = scored.targets[:, 0]
    return {
        **cells,
        "threshold_low": rounded(float(thresholds.min())),
        "threshold_high": rounded(float(thresholds.max())),
        **_share("sensitivity", called[:, targets == 1], scored.patients[targets == 1]),
        **_share("specificity", ~called[:, targets == 0], scored.patients[targets == 0]),
    }


def _share(
    name: str, hits: NDArray[np.bool_], patients: NDArray[np.intp]
) -> dict[str, float | None]:
    figures = correlated_shares(hits, patients)
    estimate = mean_over_runs(figures, range(len(hits)))
    low, high = np.clip(estimate.interval(), 0.0, 1.0)
    if estimate.standard_error == 0:  # all or none are found, which is not known without error
        low = high = math.nan
    sd = float(figures.values.std(ddof=1)) if len(hits) > 1 else math.nan
    return {
        name: rounded(estimate.value),
        f"{name}_ci_low": rounded(float(low)),
        f"{name}_ci_high": rounded(float(high)),
        f"{name}_sd_seeds": rounded(sd),
    }


# What a study's runs say when they are compared: read, worked out and written as tables.

COMPARISONS_FILE, THRESHOLDS_FILE = "comparisons.csv", "thresholds.csv"


@dataclass(frozen=True)
class Findings:
    """The comparisons of a study, and its recipes at fixed thresholds (none without a setting)."""

    comparisons: tuple[ComparisonRow, ...]
    thresholds: tuple[ThresholdRow, ...]

    def of_kind(self, data_set: str, split: str, kind: str) -> list[ComparisonRow]:
        """The comparisons of one kind on one split."""
        return [
            row
            for row in self.comparisons
            if (row.data_set, row.split, row.kind) == (data_set, split, kind)
        ]


def find(study: Path, rows: Sequence[ResultRow], plan: ComparePlan) -> Findings:
    """Compare the runs of a study; a released study, which has no predictions, as it was compared.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        plan: what is compared.

    Raises:
        InputError: when the tables of a released study can't be read.
    """
    if not (study / "evaluations").is_dir():
        return read_findings(study)
    return Findings(
        tuple(compare_recipes(study, rows, plan)), tuple(threshold_rows(study, rows, plan))
    )


def refuse_unfit_plan(study: Path, rows: Sequence[ResultRow], plan: ComparePlan) -> None:
    """Refuse a comparison that a finished study has nothing for.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        plan: what is to be compared anew.

    Raises:
        InputError: when it has no predictions, since it was released, no strategy of a name of
            `reference`, or no such split to fix thresholds on.
    """
    if not (study / "evaluations").is_dir():
        raise InputError(
            "compare: the study has no evaluations beside it, so that nothing can be compared "
            "anew; report the study where it ran"
        )
    problem = unknown_reference(plan.reference, dict.fromkeys(row.strategy for row in rows))
    if problem:
        raise InputError(problem)
    fixed_on, sets = plan.threshold_on, sets_of(rows)
    if fixed_on is not None and (fixed_on.data_set, fixed_on.split) not in sets:
        raise InputError(
            f"compare.threshold_on: {fixed_on.data_set}, {fixed_on.split}: models were not scored "
            f"there, but on {'; '.join(', '.join(place) for place in sets)}"
        )


def read_findings(study: Path) -> Findings:
    """Read the tables that `write_findings` wrote; none where there are none.

    Raises:
        InputError: when a table is of another version or damaged.
    """
    comparisons, thresholds = study / COMPARISONS_FILE, study / THRESHOLDS_FILE
    remedy = "`synthdp report`"
    return Findings(
        tuple(read_table(comparisons, ComparisonRow, remedy=remedy))
        if comparisons.is_file()
        else (),
        tuple(read_table(thresholds, ThresholdRow, remedy=remedy)) if thresholds.is_file() else (),
    )


def write_findings(study: Path, found: Findings) -> None:
    """Write `comparisons.csv`, and `thresholds.csv` where there are thresholds, atomically."""
    write_atomic(study / COMPARISONS_FILE, table_csv(ComparisonRow, found.comparisons))
    if found.thresholds:
        write_atomic(study / THRESHOLDS_FILE, table_csv(ThresholdRow, found.thresholds))
    else:
        (study / THRESHOLDS_FILE).unlink(missing_ok=True)
