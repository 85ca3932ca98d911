"""How to read the tables of a source: settings that a mapping of a public collection is made of."""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from synthdp.config.settings import Settings
from synthdp.data.dataset import Split
from synthdp.data.importing.lesions.region import RegionColumns
from synthdp.data.importing.tables.cells import Column, Decimal
from synthdp.data.importing.tables.sheets import Delimiter, SheetForm, is_encoding


def _as_mapping(value: Any) -> Any:
    return (
        dict.fromkeys([value] if isinstance(value, str) else value)
        if not isinstance(value, dict)
        else value
    )


def _as_texts(value: Any) -> Any:
    return [str(word) for word in (value if isinstance(value, list | tuple) else [value])]


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_texts)]
Text = Annotated[str, BeforeValidator(_as_text)]


class ArraySettings(Settings):
    """The arrays of a .npz file that holds the images of every split, as MedMNIST's do.

    `{split}` stands for train, val and test. `images` is (N, H, W); `labels` is (N,), or (N, K)
    with a column for each target; `patients`, where it is there, (N,).
    """

    images: str = "{split}_images"
    labels: str = "{split}_labels"
    patients: str | None = None


class TableSettings(Settings):
    """How to read the tables of a source.

    `tables` are the names or patterns of tables below `src`, such as `"**/bcdr_*_outlines.csv"`, or
    a mapping of them to the split of their rows; `paths_from: table` takes the files that a table
    names from its own folder. `delimiter`, `encoding` and the row of the header are found, and
    said; `header` names the columns of a table that has none, `short_rows: blank` takes cells that
    are missing at the end of a row for empty, and `decimal` tells a comma for decimals from one
    for thousands.

    Wherever a column is named, a list gives synonyms, and a text with `{names}` is a template, such
    as `"images/{study_id}/{image_id}.dicom"`; `*` in it stands for any name. `target_columns` and
    `attribute_columns` say which columns hold a target or an attribute, `attribute_words` what the
    words of an attribute become, `split_words` what those of the split column mean. `unknown`
    are words, such as -9, that stand for an empty cell in any column. `only` keeps the rows whose
    cells are among the words of each column that it names. `match_header` keeps, of several DICOM
    files that a row names, those whose laterality or view is the cell's.
    `films_per_patient` says that images are numbered through, so many to a patient: the number is
    what `patient_pattern` finds. `region` names the columns that say where a lesion lies in its
    image. `arrays` are those of a .npz file with the images of every split, which `tables` names.
    """

    tables: Annotated[dict[str, Split | None], BeforeValidator(_as_mapping)] = Field(default={})
    paths_from: Literal["src", "table"] = "src"
    delimiter: Delimiter = "auto"
    encoding: str = "auto"
    header: tuple[str, ...] | None = None
    short_rows: Literal["refuse", "blank"] = "refuse"
    decimal: Decimal = "auto"
    target_columns: dict[str, Column] = Field(default={})
    attribute_columns: dict[str, Column] = Field(default={})
    attribute_words: dict[str, dict[Text, Text]] = Field(default={})
    split_words: dict[Text, Split] = Field(default={})
    unknown: Texts = ()
    only: dict[str, Texts] = Field(default={})
    match_header: dict[Literal["laterality", "view"], Column] = Field(default={})
    films_per_patient: int | None = Field(default=None, ge=2, le=1000)
    region: RegionColumns | None = None
    arrays: ArraySettings | None = None

    @field_validator("tables")
    @classmethod
    def _tables_stand_below_src(cls, tables: dict[str, Split | None]) -> dict[str, Split | None]:
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
