"""How findings stand together in a published table, which several findings are drawn by.

A table says which findings and attributes each of its images has; no image of it is read. What is
drawn so shows its co-occurrence, so it has to be public, and what is made names it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from gan.package.conditions import UNKNOWN, Conditions, finding_code, level_codes, shares_of
from gan.settings.parts import FindingsTable
from synthdp.data.description import charged_set_of, protected_set_of
from synthdp.data.importing.tables.collection_table import read_collection
from synthdp.data.importing.tables.sheets import read_sheet
from synthdp.errors import InputError
from synthdp.storage.files import sha256_file

#: The label that a cell of a finding gives where no collection says how cells are read.
_LABELS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "": math.nan, "-1": math.nan, "-1.0": math.nan}


@dataclass(frozen=True)
class PublishedTable:
    """What a table says: its name, for statements, which file it was, and its images.

    findings: by name, of each image its code, 2 yes, 1 no, 0 unknown; attributes: by name, of each
    image its cell.
    """

    name: str
    digest: str
    findings: Mapping[str, Sequence[int]]
    attributes: Mapping[str, Sequence[str]]

    @property
    def words(self) -> str:
        """The table in words that may leave the house."""
        return f"as they stand together in the public table {self.name} (sha256 {self.digest})"

    def drawn_by(self, known: Conditions) -> Conditions:
        """The same generator, whose findings are drawn as they stand together in the table.

        Attributes stand beside them where the table has them all, by the names and levels that the
        generator knows: rows of others, such as lateral views, are left out. Else they are drawn as
        before, whatever the findings are.

        Raises:
            InputError: when no row is left, or the table has too many combinations.
        """
        findings = list(zip(*(self.findings[name] for name in known.findings), strict=True))
        if not all(name in self.attributes for name in known.names):
            return known.with_blocks([shares_of(findings), *known.attribute_blocks])
        codes = [
            [code_of.get(one, UNKNOWN) for one in self.attributes[name]]
            for name, code_of in zip(known.names, map(level_codes, known.levels), strict=True)
        ]
        beside = list(zip(*codes, strict=True)) or [()] * len(findings)
        together = [
            (*one, *other)
            for one, other in zip(findings, beside, strict=True)
            if UNKNOWN not in other
        ]
        if not together:
            raise InputError(
                f"findings_table: no row of {self.name} has a level of {', '.join(known.names)} "
                "that the generator knows; name another table"
            )
        return known.with_blocks([shares_of(together)])


def read_published(asked: FindingsTable, findings: Sequence[str]) -> PublishedTable:
    """Read the table that the settings name.

    Args:
        asked: the settings.
        findings: what it has to tell of each image.

    Raises:
        InputError: when it can't be read, is one of protected patients, or says nothing of one.
    """
    for path in asked.table:
        if (protected := protected_set_of(path)) is not None:
            raise InputError(
                f"findings_table: is one of the patients of the data set {protected.name}, who are "
                "protected, so that it is not public; give public shares in findings"
            )
        if (charged := charged_set_of(path)) is not None:
            raise InputError(
                f"findings_table: is one of the set {charged.name}, which was made from patients, "
                "so that it is not public; give public shares in findings"
            )
        if not path.is_file():
            raise InputError(f"findings_table: there is no table {path}; correct the path")
    if asked.collection is not None:
        labels, attributes = _of_collection(asked.collection, asked.table)
    else:
        labels, attributes = _of_columns(asked.table[0], findings)
    if lacking := [name for name in findings if name not in labels]:
        has = ", ".join(sorted(labels)) or "none"
        raise InputError(
            f"findings_table: the table says nothing of {', '.join(lacking)} (it has: {has}); name "
            "another one, or give public shares in findings"
        )
    digests = " ".join(sha256_file(path) for path in asked.table)
    return PublishedTable(
        asked.collection or " + ".join(path.name.split(".")[0] for path in asked.table),
        sha256(digests.encode()).hexdigest()[:16],
        labels,
        attributes,
    )


def _of_collection(
    name: str, paths: Sequence[Path]
) -> tuple[dict[str, list[int]], dict[str, list[str]]]:
    read = read_collection(name, paths)
    labels = {
        target: [finding_code(row.targets[index]) for row in read.rows]
        for index, target in enumerate(read.targets)
    }
    cells = {one: [row.attributes.get(one, "") for row in read.rows] for one in read.attributes}
    return labels, cells


def _of_columns(
    path: Path, findings: Sequence[str]
) -> tuple[dict[str, list[int]], dict[str, list[str]]]:
    sheet = read_sheet(path, wanted=[(name,) for name in findings])
    if sheet.problems or not sheet.records:
        why = "; ".join(sheet.problems[:3]) or "it has no row"
        raise InputError(f"findings_table: {path.name}: {why}")
    labels: dict[str, list[int]] = {}
    for name in (name for name in findings if name in sheet.columns):
        odd = [row for row, cells in sheet.records.items() if cells[name] not in _LABELS]
        if odd:
            raise InputError(
                f"findings_table: {path.name}: row {odd[0]}: {name} is none of 1, 0, -1 or empty; "
                "name the collection by whose mapping the table is read, or correct it"
            )
        labels[name] = [finding_code(_LABELS[cells[name]]) for cells in sheet.records.values()]
    others = [name for name in sheet.columns if name not in findings]
    return labels, {one: [cells[one] for cells in sheet.records.values()] for one in others}
