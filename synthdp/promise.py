"""The statement of a run, a study or a data set, and of several of them published together."""

from collections.abc import Sequence
from pathlib import Path

from synthdp.data.dataset import Dataset, open_dataset
from synthdp.privacy.ledger import recorded_releases
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.statement import Statement, make_statement
from synthdp.runs import read_statement


def dataset_lineage(dataset: Dataset) -> Lineage:
    """What a data set descends from and, for patients, every release recorded on them.

    Raises:
        InputError: as `recorded_releases`.
    """
    recorded = recorded_releases(dataset.ledger_path)
    return dataset.info.lineage.joined([Lineage(releases=recorded)])


def _statement_of_one(path: Path) -> Statement:
    if (path / "status.json").is_file():
        return read_statement(path)
    dataset = open_dataset(path)
    lineage = dataset_lineage(dataset)
    unit = lineage.releases[0].unit if lineage.releases else "patient"
    made = dataset.info.kind == "synthetic"
    subject = "data set" if made else "data set's releases so far, taken together"
    return make_statement(lineage, subject=subject, unit=unit)


def statement_of(paths: Sequence[Path]) -> Statement:
    """The statement of one path, or of publishing all of `paths` together.

    Releases that several share count once; delta is the largest that any of them states.

    Raises:
        InputError: when a path is neither a finished run or study nor a data set.
    """
    statements = [_statement_of_one(Path(path)) for path in paths]
    if len(statements) == 1:
        return statements[0]
    return joined_statement(statements, subject="collection")


def joined_statement(statements: Sequence[Statement], *, subject: str) -> Statement:
    """The statement of all that several promise together, each release once.

    Delta is the largest of any, the population the smallest that is stated, the unit the first's.
    """
    populations = [one.population for one in statements if one.population is not None]
    return make_statement(
        Lineage().joined(statement.lineage for statement in statements),
        subject=subject,
        delta=max(statement.delta for statement in statements),
        unit=statements[0].unit,
        population=min(populations, default=None),
    )
