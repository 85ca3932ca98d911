"""The dossier as two files: one page that prints on A4 and opens offline, and JSON for programs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment

from synthdp import __version__
from synthdp.dossier.asked import controller_lines
from synthdp.dossier.attacks import attacks_on
from synthdp.dossier.evidence import Evidence, read_evidence
from synthdp.dossier.lines import dossier_layers, registry_record
from synthdp.dossier.utility import utility_of
from synthdp.pages.html import content_policy, page_environment
from synthdp.privacy.accounting.bounds import (
    at_least,
    at_most,
    epsilon_text,
    percent,
    percent_interval,
)
from synthdp.privacy.promise.dossier import (
    TO_FILL_IN,
    AttackFigure,
    AttackKind,
    Dossier,
    GroupFigure,
    Shown,
    Utility,
)
from synthdp.privacy.promise.words import headline
from synthdp.releases.files import paths_in, refuse_paths
from synthdp.storage.files import atomic_folder, write_atomic, write_json
from synthdp.storage.paths import without_paths
from synthdp.study.report.sections.promises import statement_html

PAGE_FILE, JSON_FILE = "dossier.html", "dossier.json"
_MEASURES = {
    "auroc": "AUROC",
    "noisy auroc": "AUROC, with noise",
    "auprc": "AUPRC",
    "auroc_loss": "AUROC lost to privacy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "worst_group_gap": "Worst-group gap in AUROC",
    "equal_opportunity_difference": "Equal-opportunity difference",
    "statistical_parity_difference": "Statistical parity difference",
}

_ENDED = {
    "BROKEN": "run, THE PROMISE IS BROKEN",
    "held": "run, the promise held",
    "measured": "run, figures measured",
    "not run": "not run",
}


def write_dossier(
    original: Path,
    out: Path,
    *,
    evidence: Sequence[Path] = (),
    shown: Collection[Shown] = (),
    date: str | None = None,
) -> Dossier:
    """Write `dossier.html` and `dossier.json` into the new folder `out`.

    No id of a patient and no path stands in them; exact figures of patients do where they are asked
    for by name alone, and the folder is then closed to others. All else that commands wrote is
    public as the statement is.

    Args:
        original: a finished run or study, or a synthetic or phantom data set.
        out: a folder that is not there yet, or empty, or holds the very same dossier; it appears
            only when whole.
        evidence: evaluations of the run, assessments of the set, audited runs that it descends
            from.
        shown: exact figures to show: of `attacks`, `utility`, and `counts` of patients.
        date: the day (UTC) that it says it was made on; None: today.

    Raises:
        InputError: when the original is unfinished or holds patients' images, evidence is of
            something else, or `out` is taken.
    """
    with atomic_folder(Path(out), closed=bool(shown), again=True) as folder:
        read = read_evidence(Path(original), evidence)
        dossier = make_dossier(read, shown=shown, date=date or datetime.now(UTC).date().isoformat())
        write_json(folder / JSON_FILE, dossier.model_dump(mode="json"))
        write_atomic(folder / PAGE_FILE, dossier_page(dossier))
        refuse_paths(folder, paths_in(Path(original)))
    return dossier


def make_dossier(evidence: Evidence, *, shown: Collection[Shown], date: str) -> Dossier:
    """The dossier of what was read; `shown` and `date` as in `write_dossier`."""
    attacks = attacks_on(evidence, with_figures="attacks" in shown)
    utility = utility_of(evidence, with_figures="utility" in shown, with_counts="counts" in shown)
    layers = dossier_layers(evidence, attacks, utility)
    return Dossier(
        made_by=f"synthdp {__version__}",
        date=date,
        subject=evidence.subject,
        statement=evidence.statement,
        shown=tuple(sorted(shown)),
        layers=layers,
        attacks=attacks,
        utility=utility,
        registry=registry_record(evidence, layers),
        controller=controller_lines(),
    )


@dataclass(frozen=True)
class GroupsView:
    """What was scored on one split, as the page shows it: a line for each group, and differences.

    columns: the measures that have a value; lines: a figure that says which group, and its figures
    by measure; between: figures of all groups of a column together; without: which groups have no
    figure, and why.
    """

    scored: Utility
    columns: tuple[str, ...]
    lines: tuple[tuple[GroupFigure, Mapping[str, GroupFigure]], ...]
    between: tuple[GroupFigure, ...]
    without: tuple[str, ...]


def groups_view(scored: Utility) -> GroupsView:
    """The figures of one split, laid out by group."""
    lines: dict[tuple[str, ...], dict[str, GroupFigure]] = {}
    with_value = [one for one in scored.figures if one.value is not None]
    of_groups = [one for one in with_value if one.group or not one.attribute]
    for figure in of_groups:
        key = (figure.model, figure.target, figure.attribute, figure.group)
        lines.setdefault(key, {})[figure.measure] = figure
    missing: dict[str, list[str]] = {}
    for figure in (one for one in scored.figures if one.value is None):
        which = figure.group or "differences"
        missing.setdefault(figure.note or "no value", []).append(f"{figure.attribute} {which}")
    return GroupsView(
        scored,
        columns=tuple(dict.fromkeys(one.measure for one in of_groups)),
        lines=tuple((next(iter(figures.values())), figures) for figures in lines.values()),
        between=tuple(one for one in with_value if one.attribute and not one.group),
        without=tuple(
            f"No figure of {', '.join(dict.fromkeys(which)).replace('_', ' ')}: {why}."
            for why, which in missing.items()
        ),
    )


def dossier_page(dossier: Dossier) -> str:
    """The dossier as one HTML file without a script; every text is escaped."""
    content: dict[str, Any] = {
        "dossier": dossier,
        "headline": without_paths(headline(dossier.statement)),
        "word_for_word": statement_html(dossier.statement),
        "unit": next(one.says for one in dossier.layers[0].lines if one.key == "unit"),
        "attacked": _attacked_words(dossier),
        "utility": [groups_view(scored) for scored in dossier.utility],
        "to_fill_in": TO_FILL_IN,
        "marks": (),
        "policy": content_policy(),
    }
    return _environment().get_template("dossier.html.j2").render(content)


def _attacked_words(dossier: Dossier) -> list[str]:
    """How each kind of attack ended, or that it was not run."""
    return [f"{one.kind}: {_ENDED[_worst(one)]}" for one in dossier.attacks]


def _worst(attack: AttackKind) -> str:
    results = {test.result for test in attack.tests}
    return next((one for one in ("BROKEN", "held", "measured") if one in results), "not run")


def _environment() -> Environment:
    environment = page_environment("synthdp.dossier")
    environment.filters["epsilon"] = lambda value: epsilon_text(value).replace("inf", "∞")
    environment.filters["figure"] = _figure_words
    environment.filters["attack_figure"] = _attack_figure_words
    environment.filters["measure"] = lambda name: _MEASURES.get(name, name.replace("_", " "))
    return environment


def _figure_words(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3f}"


def _attack_figure_words(figure: AttackFigure) -> str:
    """A figure with its interval, and what the promise allows; what it shows at least, cut off."""
    shown = _share_words if figure.is_share else _plain_words
    if figure.value is None:
        return f"{figure.name}: no figure"
    words = f"{figure.name}: {shown(figure.value)}"
    if figure.low is not None and figure.high is not None:
        interval = percent_interval if figure.is_share else _plain_interval
        words += f" ({interval(figure.low, figure.high)})"
    if figure.promised is not None:
        bound = percent if figure.is_share else epsilon_text
        words += f"; at most {bound(figure.promised)}, as promised"
    return words


def _share_words(share: float) -> str:
    return f"{100 * share:.2g} %"


def _plain_words(value: float) -> str:
    return at_least(value, digits=3)


def _plain_interval(low: float, high: float) -> str:
    return f"{at_least(low, digits=3)} to {at_most(high, digits=3)}"
