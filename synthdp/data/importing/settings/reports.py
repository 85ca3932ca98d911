"""How a table tells findings, people and splits otherwise than in a column each: settings alone."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from synthdp.config.settings import Settings
from synthdp.data.importing.tables.cells import Column, same_word


def _as_texts(value: Any) -> Any:
    return [str(word) for word in (value if isinstance(value, list | tuple) else [value])]


def _as_pairs(value: Any) -> Any:
    """Columns that are called alike in both tables, given as a name or a list of names."""
    names = [value] if isinstance(value, str) else value
    return {name: name for name in names} if isinstance(names, list | tuple) else names


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_texts)]


class WordList(Settings):
    """A column whose cells list words, such as `Effusion|Mass` or `['normal']`.

    A target is 1 where one of its words is listed, else 0; an empty list says nothing of any.
    Brackets around the list and quotes around words are passed over.
    """

    column: Column
    """The column. Example: Finding Labels"""

    separator: str = Field(default="|", min_length=1, max_length=3)
    """Between words."""

    words: dict[str, Texts] = Field(min_length=1)
    """The words of each target; a word may be of several. Example: {effusion: [Effusion]}"""

    leave_open: Texts = ()
    """Words that leave open what the list does not name: beside one of them a target is 1 or
    unknown.
    Example: [unchanged, suboptimal study]
    """

    others: Literal["refuse", "pass_over"] = "refuse"
    """Whether a word that stands nowhere in these settings is refused, or is of no target."""

    @model_validator(mode="after")
    def _words_have_one_meaning(self) -> "WordList":
        named = {same_word(word) for words in self.words.values() for word in words}
        if both := named.intersection(map(same_word, self.leave_open)):
            raise ValueError(f"leave_open: {sorted(both)[0][:40]!r} is a target's word too")
        return self


class CombinedTarget(Settings):
    """A target that is made of others, so that sites which name findings otherwise share one.

    It is 1 where one of `any_of` is 1. It is 0 where one of `against` is 1, or, without these,
    where all of `any_of` are 0. All else is unknown.
    """

    any_of: Texts = Field(min_length=1)
    """Columns of findings, or targets of `word_list`. Example: [pneumonia, consolidation]"""

    against: Texts = ()
    """Likewise, of images that have none of them for certain. Example: [no_finding]"""

    @model_validator(mode="after")
    def _is_not_both(self) -> "CombinedTarget":
        if both := sorted({*self.any_of} & {*self.against}):
            raise ValueError(f"against: {both[0][:40]!r} stands in any_of too")
        return self

    @property
    def findings(self) -> tuple[str, ...]:
        """All that it is made of, `any_of` first."""
        return (*self.any_of, *self.against)


class Gathering(Settings):
    """Rows that name one file are one image: a row for each box, or for each finding of a reader.

    What one reader marks in any row counts for that reader; what several say is decided by `agree`.
    """

    reader_column: Column | None = None
    """Column of who read the image; without it, or where a table has none, all rows of an image are
    of one reader.
    Example: rad_id
    """

    agree: Literal["majority", "any", "all"] = "majority"
    """When a target is 1: where more than half of the readers who know say so (0 where more than
    half deny it, unknown in between), or any one, or all of them.
    """


class JoinedTable(Settings):
    """A further table whose columns are put beside those of the images' table, row by row."""

    on: Annotated[dict[str, str], BeforeValidator(_as_pairs)] = Field(min_length=1)
    """The columns that tell which row belongs to which: a name, a list of names, or a mapping of
    the images' table's names to the further one's.
    Example: {dicom_id: dicom_id}
    """

    header: tuple[str, ...] | None = None
    """Names of the columns of a table that has none. Example: [Image Index]"""

    fill: dict[str, str] = Field(default={})
    """Columns that a row gets by being in the further table at all.
    Example: {official_split: test}
    """

    optional: bool = False
    """Whether the import goes on without it where it is not there."""


class AgeRule(Settings):
    """Which ages a person may have, and what they are made of where no column holds them.

    An age outside is unknown: collections write 0, 148 or 155 where nobody knew. DICOM's forms
    (`045Y`, `018M`) become years.
    """

    least_years: int = Field(default=0, ge=0, le=120)
    """A younger age is unknown; 1 where 0 stands for none."""

    most_years: int = Field(default=120, ge=1, le=150)
    """An older age is unknown."""

    born: Column | None = None
    """Column of the year or date of birth. Example: PatientBirth"""

    taken: Column | None = None
    """Column of the date of the image; the age is the difference of the years.
    Example: StudyDate_DICOM
    """

    @field_validator("most_years")
    @classmethod
    def _some_age_is_possible(cls, most: int, info: Any) -> int:
        if most < info.data.get("least_years", 0):
            raise ValueError("below least_years, so that no age would be known")
        return most

    @model_validator(mode="after")
    def _two_dates(self) -> "AgeRule":
        if (self.born is None) != (self.taken is None):
            raise ValueError("born and taken go together: an age is the difference of two years")
        return self
