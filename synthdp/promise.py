"""The statement of a run, a study or a data set, and of several of them published together."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from synthdp.data.dataset import Dataset, open_dataset
from synthdp.errors import InputError
from synthdp.privacy.ledger import Lineage, Release
from synthdp.privacy.statement import Statement, make_statement
from synthdp.runs import read_statement


def dataset_lineage(dataset: Dataset) -> Lineage:
    """What a data set descends from and, for patients, every release recorded on them.

    Raises:
        InputError: when a line of the set's ledger is not readable.
    """
    lineage = dataset.info.lineage
    if not dataset.ledger_path.is_file():
        return lineage
    for number, line in enumerate(dataset.ledger_path.read_text().splitlines(), start=1):
        try:
            lineage = lineage.with_release(Release.model_validate(json.loads(line)))
        except (ValueError, ValidationError) as error:
            raise InputError(
                f"{dataset.root.name}/private/ledger.jsonl, line {number}: not readable, so what "
                "was spent is unknown; restore the file"
            ) from error
    return lineage


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
    populations = [s.population for s in statements if s.population is not None]
    return make_statement(
        Lineage().joined(statement.lineage for statement in statements),
        subject="collection",
        delta=max(statement.delta for statement in statements),
        unit=statements[0].unit,
        population=min(populations, default=None),
    )
