"""Which ids are one person: the hospital's own file says so, before anything is made of an id."""

from collections.abc import Mapping
from pathlib import Path

from synthdp.data.dataset import raise_problems
from synthdp.data.importing.patients.ids import normalised_id
from synthdp.data.importing.tables.cells import column_problem, find_column
from synthdp.data.importing.tables.sheets import read_sheet
from synthdp.errors import InputError

ID_COLUMN, PERSON_COLUMN = "patient_id", "person"


def read_links(path: Path) -> Mapping[str, str]:
    """The person of each id in a table of links; an id that it does not name is its own person.

    Its columns are `patient_id` and `person`, further ones are not read; ids are taken in their one
    spelling (`synthdp.data.importing.patients.ids`). A person may be called by one of the ids,
    which then has a row too, or by any other word: the name stands in the file, so that it does not
    depend on which of the ids have images.

    Raises:
        InputError: with every problem at once, by row and never by id.
    """
    if not path.is_file():
        raise InputError(f"links: there is no file {path.name}; correct the path")
    table = read_sheet(path, wanted=((ID_COLUMN,), (PERSON_COLUMN,)))
    problems = list(table.problems)
    ids, persons = (find_column([one], table.columns) for one in (ID_COLUMN, PERSON_COLUMN))
    if ids is None or persons is None:
        of_columns = (column_problem("links", one, table) for one in (ID_COLUMN, PERSON_COLUMN))
        problems += [problem for problem in of_columns if problem is not None and table.columns]
        raise_problems(f"links, {path.name}", problems)
    assert ids is not None  # else there was a problem
    assert persons is not None
    person_of: dict[str, str] = {}
    row_of: dict[str, int] = {}
    for number, record in table.records.items():
        one, person = normalised_id(record[ids]), normalised_id(record[persons])
        if one is None or person is None:
            problems.append(
                f"row {number}: {ID_COLUMN} or {PERSON_COLUMN} is empty, or a word for nothing"
            )
            continue
        if person_of.setdefault(one, person) != person:
            problems.append(f"row {number}: row {row_of[one]} gives this id another person")
        row_of.setdefault(one, number)
    for one, person in person_of.items():
        # What a person is called must be the end: links of links would depend on how they are read.
        if person_of.get(person, person) != person:
            problems.append(
                f"row {row_of[one]}: its person is an id that row {row_of[person]} gives to "
                "another person; name the last one in both"
            )
    raise_problems(f"links, {path.name}", problems)
    return person_of
