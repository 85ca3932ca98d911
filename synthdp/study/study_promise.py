"""The promise of a study: of publishing all of its models and patches, and of choices by score."""

from collections.abc import Iterable, Sequence

from synthdp.data.dataset import read_info
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.statement import Statement, make_statement
from synthdp.study.grid import GridRow
from synthdp.study.settings import StudySettings
from synthdp.study.tuning import tuning_lineage


def tuned_on(settings: StudySettings, rows: Sequence[GridRow]) -> Statement:
    """What stands behind tuned values; refuses sets whose scores may not choose among them."""
    lineage = Lineage()
    if settings.tune is not None:
        lineage = tuning_lineage(settings.sets, [call for row in rows for call in row.calls])
    return _statement(settings, lineage, "choice of tuned settings")


def study_statement(settings: StudySettings, lineages: Iterable[Lineage]) -> Statement:
    """The promise of publishing models of these lineages, and the patches that the report shows."""
    shown = [path for path in (settings.synthetic, settings.phantoms) if path is not None]
    lineage = Lineage().joined([*lineages, *(read_info(path).lineage for path in shown)])
    return _statement(settings, lineage, "study, all of its runs published together")


def _statement(settings: StudySettings, lineage: Lineage, subject: str) -> Statement:
    return make_statement(
        lineage,
        subject=subject,
        delta=settings.privacy.delta,
        unit=settings.privacy.unit,
        population=settings.privacy.population,
    )
