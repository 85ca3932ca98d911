"""How well the result does, and for whom: of evaluations and of a study's tables.

Scores of patients are exact functions of them, outside every promise, so a dossier says what was
scored, and shows the figures where they are asked for by name. Scores of images that are no
patients', and noisy ones under their own promise, are shown at once.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from synthdp.config.settings import validate_settings
from synthdp.dossier.evidence import Evidence, StudyTables
from synthdp.evaluation.assessment import Assessment
from synthdp.evaluation.fairness import FairnessFigure
from synthdp.evaluation.metrics import MACRO
from synthdp.evaluation.predictions import METRICS_FILE, figures_by_target
from synthdp.privacy.accounting.bounds import epsilon_text, exactly
from synthdp.privacy.promise.dossier import GroupFigure, Utility
from synthdp.runs.evaluations import ScoredSplit
from synthdp.study.compare.cells import Cell, cells_by_set
from synthdp.study.compare.cited import with_cited_intervals
from synthdp.study.compare.results import cell_key

_METRICS = ("auroc", "auprc", "sensitivity", "specificity")
#: Sections of an assessment that are attacks, and stand among those.
_ATTACKS = ("Memorisation", "Membership", "Disclosure")
#: Figures of groups that a page has room for; fairness.json and fairness.csv hold the others.
_OF_GROUPS = (
    *("auroc", "auroc_loss", "sensitivity", "specificity"),
    *("worst_group_gap", "equal_opportunity_difference", "statistical_parity_difference"),
)


def utility_of(evidence: Evidence, *, with_figures: bool, with_counts: bool) -> tuple[Utility, ...]:
    """What was scored, by set and split.

    Args:
        evidence: what commands wrote down.
        with_figures: show exact scores of patients too.
        with_counts: say how many patients each figure is of.
    """
    made = [_of_evaluation(one, with_figures) for one in evidence.evaluations]
    made += [_of_assessment(one, with_figures) for one in evidence.assessments]
    if evidence.tables is not None:
        patients = {one.name: one.stands_for_patients for one in evidence.sets}
        public = frozenset(one.name for one in evidence.sets if one.kind == "public")
        made += _of_study(evidence.tables, patients, public, with_figures)
    return tuple(made) if with_counts else tuple(_without_counts(one) for one in made)


def _without_counts(one: Utility) -> Utility:
    figures = tuple(figure.model_copy(update={"n_patients": None}) for figure in one.figures)
    return one.model_copy(update={"figures": figures})


def _of_evaluation(evaluation: ScoredSplit, with_figures: bool) -> Utility:
    shown = with_figures or not evaluation.of_patients
    attributes = tuple(dict.fromkeys(figure.attribute for figure in evaluation.groups))
    words = _shown_words(shown, evaluation.of_patients, of_public=evaluation.of_public)
    figures: list[GroupFigure] = []
    if evaluation.noisy is not None:
        noisy = evaluation.noisy
        several = {MACRO: noisy.auroc, **noisy.targets}
        shared = f", shared by {len(noisy.targets)} targets" if noisy.targets else ""
        figures += [
            GroupFigure(
                target=target,
                measure="noisy auroc",
                value=figure.value,
                note=f"under a promise of its own: epsilon {epsilon_text(noisy.epsilon)} at delta "
                f"{exactly(noisy.delta)} for each {noisy.unit} that was scored{shared}",
            )
            for target, figure in (several if noisy.targets else {"": noisy.auroc}).items()
        ]
        words += (
            " The noisy AUROC spent a budget of its own on the patients scored; "
            "`synthdp privacy RUN EVALUATION` says what both come to."
        )
    if shown:
        figures += _overall(evaluation.metrics)
        figures += _groups(evaluation.groups)
    return Utility(
        data_set=evaluation.data_set,
        split=evaluation.split,
        of_patients=evaluation.of_patients,
        attributes=attributes,
        words=words,
        figures=tuple(figures),
    )


def _of_assessment(assessment: Assessment, with_figures: bool) -> Utility:
    figures = [
        GroupFigure(
            target="",
            measure=f"{figure.measure}, {figure.features}",
            value=figure.synthetic.value,
            ci_low=figure.synthetic.ci_low,
            ci_high=figure.synthetic.ci_high,
            note=figure.synthetic.why or figure.comparison,
        )
        for figure in assessment.main_figures
        if figure.section not in _ATTACKS
    ]
    return Utility(
        data_set=assessment.real.name,
        split="as `synthdp assess` held the set against it",
        of_patients=True,
        words=_shown_words(with_figures, True),
        figures=tuple(figures) if with_figures else (),
    )


def _shown_words(shown: bool, of_patients: bool, *, of_public: bool = False) -> str:
    if of_public:
        return "Figures of the patients of a public set, whom nothing protects."
    if not of_patients:
        return "No patient was scored, so these figures tell nothing of any."
    if shown:
        return (
            "Exact figures of the patients scored, who are outside every promise on them: they "
            "are shown since this dossier was asked for utility by name."
        )
    return (
        "Scored. The figures are exact functions of the patients scored and stay in the house; "
        "`--show utility` puts them here."
    )


def _overall(metrics: Mapping[str, Any]) -> Iterator[GroupFigure]:
    for target, held in figures_by_target(metrics).items():
        for name in _METRICS:
            figure = held.get(name)
            if isinstance(figure, dict):
                bounds = {key: figure.get(key) for key in ("value", "ci_low", "ci_high")}
                about = {"target": target, "measure": name, "n_patients": held.get("n_patients")}
                yield validate_settings(GroupFigure, {**about, **bounds}, where=METRICS_FILE)


def _groups(figures: Iterable[FairnessFigure], model: str = "") -> Iterator[GroupFigure]:
    for figure in figures:
        if figure.measure in _OF_GROUPS:
            yield GroupFigure(
                model=model,
                target=figure.target,
                attribute=figure.attribute,
                group=figure.group,
                measure=figure.measure,
                value=figure.value,
                ci_low=figure.ci_low,
                ci_high=figure.ci_high,
                n_patients=figure.n_patients,
                note=figure.note,
            )


def _of_study(
    tables: StudyTables, patients: dict[str, bool], public: Container[str], with_figures: bool
) -> Iterator[Utility]:
    by_split: dict[tuple[str, str], list[Cell]] = {}
    for cell in with_cited_intervals(cells_by_set(tables.rows), tables.compared):
        if cell.finished:
            by_split.setdefault((cell.data_set, cell.split), []).append(cell)
    for (data_set, split), cells in by_split.items():
        of_patients = patients.get(data_set, True)
        shown = with_figures or not of_patients
        words = _shown_words(shown, of_patients, of_public=data_set in public)
        groups = [one for one in tables.groups if (one.data_set, one.split) == (data_set, split)]
        figures = [figure for cell in cells for figure in _of_cell(cell)] if shown else []
        if shown:
            for cell in cells:
                of_cell = [one for one in groups if cell_key(one) == cell.key]
                figures += _groups(of_cell, _model(cell))
        yield Utility(
            data_set=data_set,
            split=split,
            of_patients=of_patients,
            attributes=tuple(dict.fromkeys(one.attribute for one in groups)),
            words=f"{words} {_models_words(cells)}",
            figures=tuple(figures),
        )


def _models_words(cells: Sequence[Cell]) -> str:
    runs = len({run for cell in cells for run in cell.runs})
    return f"{runs} models were scored; figures are means over seeds."


def _model(cell: Cell) -> str:
    asked = "without privacy" if cell.epsilon is None else f"epsilon {cell.epsilon:g} asked for"
    parts = (cell.strategy.replace("_", " "), asked, cell.trained_on, cell.tuned)
    return ", ".join(part for part in parts if part)


def _of_cell(cell: Cell) -> Iterator[GroupFigure]:
    for name in _METRICS:
        figure = cell.metrics[name]
        if figure.mean is not None:
            yield GroupFigure(
                model=_model(cell),
                target=cell.target,
                measure=name,
                value=figure.mean,
                ci_low=figure.ci_low,
                ci_high=figure.ci_high,
                n_patients=cell.n_patients,
            )
