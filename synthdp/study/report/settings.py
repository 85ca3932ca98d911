"""Which study to report, and how."""

from pathlib import Path
from typing import Literal

from synthdp.config.settings import Settings
from synthdp.evaluation.fairness import Fairness
from synthdp.privacy.promise.statement import Statement
from synthdp.study.report.tables import TableFormat
from synthdp.study.settings import ComparePlan


class ReportSettings(Settings):
    """Which study to report, and what may be shown.

    `statement` is the promise of publishing the whole study; when None, the study's own is read,
    or composed from its runs. `show_real` shows patches of real patients, as does the study's
    own setting `report.show_real`. `fairness` judges the models by other columns than the study's
    own setting does, and writes `fairness.csv` anew; `transfer` writes `transfer.csv` anew, for a
    study of one evaluation set too; `compare` changes what is compared, where sets go by their
    names; `published` describes figures of others to set beside. `format` other than html gives the
    table over seeds of `metric`, for papers. `out` is the file to write: `report.html` in the study
    for html, the terminal for a table, when None.
    """

    study: Path
    statement: Statement | None = None
    show_real: bool = False
    compare: ComparePlan | None = None
    fairness: Fairness = None
    transfer: bool = False
    published: Path | None = None
    format: Literal["html"] | TableFormat = "html"
    metric: Literal["auroc", "auprc", "sensitivity", "specificity"] = "auroc"
    out: Path | None = None
