"""Which study to report, and how."""

from pathlib import Path
from typing import Literal

from synthdp.config.settings import Settings
from synthdp.evaluation.fairness import Fairness
from synthdp.privacy.promise.statement import Statement
from synthdp.study.report.tables import TableFormat
from synthdp.study.settings import ComparePlan


class ReportSettings(Settings):
    """Which study to report, and what may be shown."""

    study: Path
    """The study's folder. Example: studies/cbis-ddsm"""

    statement: Statement | None = None
    """The promise of publishing the whole study, as its privacy.json holds it; the study's own is
    read, or composed from its runs, when not set.
    """

    show_real: bool = False
    """Shows patches of real patients, as does the study's own setting `report.show_real`."""

    compare: ComparePlan | None = None
    """Changes what is compared; sets go by their names. Example: {reference: [real_only]}"""

    fairness: Fairness = None
    """Judges the models by other columns than the study's own setting does, and writes
    `fairness.csv` anew.
    Example: {view: null, age: [50, 70]}
    """

    transfer: bool = False
    """Writes `transfer.csv` anew, for a study of one evaluation set too."""

    published: Path | None = None
    """A file of others' figures to set beside. Example: published.yaml"""

    format: Literal["html"] | TableFormat = "html"
    """Other than html gives the table over seeds of `metric`, for papers."""

    metric: Literal["auroc", "auprc", "sensitivity", "specificity"] = "auroc"
    """What the table shows."""

    out: Path | None = None
    """File to write; when not set, `report.html` in the study for html, and the terminal for a
    table.
    Example: table.tex
    """
