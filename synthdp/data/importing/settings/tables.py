"""How to read the tables of a source: settings that a mapping of a public collection is made of."""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from synthdp.config.settings import Settings
from synthdp.data.importing.settings.lesions import RegionColumns
from synthdp.data.importing.settings.reports import (
    AgeRule,
    CombinedTarget,
    Gathering,
    JoinedTable,
    Texts,
    WordList,
)
from synthdp.data.importing.tables.cells import Column, Decimal
from synthdp.data.importing.tables.sheets import Delimiter, SheetForm, is_encoding
from synthdp.data.manifest.contract import Split


def _as_mapping(value: Any) -> Any:
    return (
        dict.fromkeys([value] if isinstance(value, str) else value)
        if not isinstance(value, dict)
        else value
    )


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(_as_text)]


class ArraySettings(Settings):
    """The arrays of a .npz file that holds the images of every split, as MedMNIST's do.

    `{split}` stands for train, val and test.
    """

    images: str = "{split}_images"
    """Name of the array of images, (N, H, W)."""

    labels: str = "{split}_labels"
    """Name of the array of labels, (N,), or (N, K) with a column for each target."""

    patients: str | None = None
    """Name of the array of patients, (N,), where it is there. Example: {split}_patients"""


class TableSettings(Settings):
    """How to read the tables of a source.

    Wherever a column is named, a list gives synonyms, and a text with `{names}` is a template, such
    as `"images/{study_id}/{image_id}.dicom"`; `*` in it stands for any name. The row of the header
    is found, and said.
    """

    tables: Annotated[dict[str, Split | None], BeforeValidator(_as_mapping)] = Field(default={})
    """Names or patterns of tables below `src`, or a mapping of them to the split of their rows.
    Example: {train.csv: train, test.csv: test}
    """

    paths_from: Literal["src", "table"] = "src"
    """`table` takes the files that a table names from its own folder."""

    delimiter: Delimiter = "auto"
    """Between cells; found, and said, by default."""

    encoding: str = "auto"
    """Of the tables, such as utf-8, cp1252 or utf-16; found, and said, by default."""

    header: tuple[str, ...] | None = None
    """Names of the columns of a table that has none. Example: [file, patient_id, malignant]"""

    short_rows: Literal["refuse", "blank"] = "refuse"
    """`blank` takes cells that are missing at the end of a row for empty."""

    decimal: Decimal = "auto"
    """Tells a comma for decimals from one for thousands."""

    target_columns: dict[str, Column] = Field(default={})
    """Which column holds a target. Example: {malignant: pathology}"""

    attribute_columns: dict[str, Column] = Field(default={})
    """Which column holds an attribute. Example: {view: ViewPosition}"""

    attribute_words: dict[str, dict[Text, Text]] = Field(default={})
    """What the words of an attribute become. Example: {view: {CRANIO-CAUDAL: CC}}"""

    split_words: dict[Text, Split] = Field(default={})
    """What the words of the split column mean. Example: {training: train, testing: test}"""

    unknown: Texts = ()
    """Words that stand for an empty cell in any column. Example: [-9, n/a]"""

    only: dict[str, Texts] = Field(default={})
    """Keeps the rows whose cells are among the words of each column that it names.
    Example: {modality: [MG]}
    """

    match_header: dict[Literal["laterality", "view"], Column] = Field(default={})
    """Keeps, of several DICOM files that a row names, those whose laterality or view is the cell's.
    Example: {view: view}
    """

    films_per_patient: int | None = Field(default=None, ge=2, le=1000)
    """Images are numbered through, so many to a patient: the number is what `patient_pattern`
    finds.
    Example: 4
    """

    region: RegionColumns | None = None
    """Columns that say where a lesion lies in its image.
    Example: {left: xmin, top: ymin, right: xmax, bottom: ymax}
    """

    arrays: ArraySettings | None = None
    """Arrays of a .npz file with the images of every split, which `tables` names.
    Example: {patients: "{split}_patients"}
    """

    joined: dict[str, JoinedTable] = Field(default={})
    """Names or patterns of further tables below `src`, and how each belongs to those of images.
    Example: {split.csv: {on: dicom_id}}
    """

    word_list: WordList | None = None
    """A column that lists findings as words. Example: {column: Findings, words: {effusion: [E]}}"""

    filled_columns: dict[str, Column] = Field(default={})
    """A target that is 1 where the cell of this column is filled, and 0 where it is empty.
    Example: {death: death_offset}
    """

    combined_targets: dict[str, CombinedTarget] = Field(default={})
    """Targets that are made of several findings.
    Example: {opacity: {any_of: [pneumonia, consolidation], against: [no_finding]}}
    """

    uncertain_words: Texts = ()
    """Words of a target's cell that say that nobody is certain. Example: [-1]"""

    uncertain: Literal["unknown", "positive", "negative"] = "unknown"
    """What they count as."""

    unmentioned: Literal["unknown", "negative"] = "unknown"
    """What an empty cell of a target counts as where the row says something of another target, as
    reports do that name what was seen. A row that says nothing of any is unknown.
    """

    gather: Gathering | None = None
    """Several rows are of one image. Example: {reader_column: rad_id, agree: any}"""

    ages: AgeRule | None = None
    """Which ages a person may have (0 to 120 years when not set; others are unknown), and the
    columns that they are made of.
    Example: {least_years: 1}
    """

    @field_validator("tables", "joined")
    @classmethod
    def _tables_stand_below_src(cls, tables: dict[str, Any]) -> dict[str, Any]:
        for pattern in tables:
            path = PurePosixPath(pattern)
            if not pattern or path.is_absolute() or ".." in path.parts:
                raise ValueError("tables: names or patterns below `src`")
            if any("**" in part and part != "**" for part in path.parts):
                raise ValueError("tables: ** stands alone between slashes, for any folders")
        return tables

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, encoding: str) -> str:
        if encoding != "auto" and not is_encoding(encoding):
            raise ValueError("no encoding of this name; such as utf-8, cp1252, latin-1 or utf-16")
        return encoding

    @field_validator("header")
    @classmethod
    def _names_differ(cls, header: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if header is not None and (len(set(header)) < len(header) or not all(header)):
            raise ValueError("give each column a name of its own")
        return header

    @model_validator(mode="after")
    def _arrays_have_a_file(self) -> "TableSettings":
        if self.arrays is not None and not self.tables:
            raise ValueError("arrays: name the .npz file in `tables`")
        return self

    @property
    def sheet_form(self) -> SheetForm:
        """How the tables are written, as far as it is known."""
        return SheetForm(self.delimiter, self.encoding, self.header, self.short_rows)
