"""Which study to report, and how."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, Field

from synthdp.config.settings import Settings
from synthdp.config.typed_values import InWords
from synthdp.evaluation.settings import Fairness
from synthdp.study.compared import ComparePlan
from synthdp.study.report.figures.sizes import FigureFormat, FigureSettings

TableFormat = Literal["csv", "markdown", "latex"]
TABLE_FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)


def _as_statement(value: Any) -> Any:
    """A statement, as it is or as a file holds it; what it is made of is imported for one alone."""
    if value is None:
        return None
    from synthdp.privacy.promise.statement import Statement  # noqa: PLC0415 (as said)

    return Statement.model_validate(value)


if TYPE_CHECKING:
    from synthdp.privacy.promise.statement import Statement

    StatementOrNone: TypeAlias = Statement | None
else:
    StatementOrNone = Annotated[
        Any, BeforeValidator(_as_statement), InWords("statement, as a privacy.json holds it")
    ]


class ReportSettings(Settings):
    """Which study to report, and what may be shown."""

    study: Path
    """The study's folder. Example: studies/cbis-ddsm"""

    statement: StatementOrNone = None
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
    Example: {age: [50, 70]}
    """

    transfer: bool = False
    """Writes `transfer.csv` anew, for a study of one evaluation set too."""

    shortcut: bool = False
    """Writes `shortcut.csv` anew: the models beside a logistic regression on 16 x 16 pixels."""

    patients: int | None = Field(default=None, ge=1)
    """A public number of the patients whom shares of a cross-validated study are of, such as that
    of a published collection; `privacy.population`, as the study declares it, when not set.
    Example: 578
    """

    published: Path | None = None
    """A file of others' figures to set beside. Example: published.yaml"""

    format: Literal["html"] | TableFormat | FigureFormat = "html"
    """csv, markdown and latex give a table for papers; svg, pdf and png each figure as a file."""

    table: Literal["results", "comparisons"] = "results"
    """Which table: `metric` of each strategy over seeds, or what each gains over the reference."""

    metric: Literal["auroc", "auprc", "sensitivity", "specificity"] = "auroc"
    """What the table of results shows."""

    figures: FigureSettings = FigureSettings()
    """Size and letters of figures. Example: {column: single, font_pt: 7}"""

    out: Path | None = None
    """File to write, or folder for figures; when not set, `report.html` or `figures` in the study,
    and the terminal for a table.
    Example: table.tex
    """
