"""What phantom radiographs are drawn to: a table's columns, and the sites that take them."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from synthdp.config.settings import NONE_WORD, Names, Settings
from synthdp.data.phantoms.chest.names import FINDINGS, NO_FINDING


def _refuse_unknown(names: tuple[str, ...], *more: str) -> None:
    unknown = [name for name in names if name not in (*FINDINGS, *more)]
    if unknown:
        raise ValueError(f"{unknown[0]} is not drawn; choose of {', '.join((*FINDINGS, *more))}")


_Column = Annotated[str | None, NONE_WORD]
View = Literal["PA", "AP"]


class TableColumns(Settings):
    """What a table of labels calls its columns; by default as in NIH's Data_Entry_2017."""

    patient: str = "Patient ID"
    """The column of the patients' ids: rows of one id are images of one person."""

    age: _Column = "Patient Age"
    """That of ages, as years or as DICOM has them (045Y); others, and those above 120, are unknown.
    """

    sex: _Column = "Patient Gender"
    """That of sexes: M, F or the words for them; anything else is unknown."""

    view: _Column = "View Position"
    """That of views, PA or AP; `none` where all images are of the first of `views`."""

    findings: _Column = "Finding Labels"
    """That which lists an image's findings with | between them; `none` where each finding has a
    column of its own, named as here, with 1, 0, -1 (unknown) or nothing (unknown).
    """

    site: _Column = None
    """That of the sites, named as in `sites`. Example: Hospital"""

    split: _Column = None
    """That of the splits, for a table that has them: train, val, test or external. Example: Split
    """

    called: dict[str, str] = Field(default={})
    """What the table calls a finding otherwise than here, and `none` for what is not drawn.
    Example: {Lung Opacity: infiltration, Fracture: none}
    """

    @field_validator("called")
    @classmethod
    def _of_known_findings(cls, called: dict[str, str]) -> dict[str, str]:
        _refuse_unknown(tuple(called.values()), NO_FINDING, "none")
        return called

    def named(self) -> tuple[str, ...]:
        """All columns that the table must have."""
        columns = (self.patient, self.age, self.sex, self.view, self.findings, self.site)
        return tuple(name for name in (*columns, self.split) if name is not None)


class LabelPolicy(Settings):
    """How a site's readers label a finding, where it is not what the image shows."""

    finding: str
    """The finding. Example: atelectasis"""

    missed: float = Field(default=0.0, ge=0, le=1)
    """Share of its images that are labelled as without it."""

    added: float = Field(default=0.0, ge=0, le=1)
    """Share of the images without it that are labelled with it."""

    also: Names = ()
    """Findings that get this label too. Example: [consolidation]"""

    unless: Names = ()
    """Findings beside which this label is not given, as where readers name the main one alone.
    Example: [effusion]
    """

    @field_validator("finding")
    @classmethod
    def _is_known(cls, finding: str) -> str:
        _refuse_unknown((finding,))
        return finding

    @field_validator("also", "unless")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        _refuse_unknown(names)
        return names


class SiteSettings(Settings):
    """A site: its patients, its machines, and how its readers label."""

    name: str = Field(pattern=r"^[A-Za-z0-9_. -]{1,32}$")
    """What the column `site` calls it. Example: A"""

    share: float = Field(default=1.0, gt=0)
    """Its patients, relative to those of the other sites; a table's own column goes first."""

    odds: dict[str, Annotated[float, Field(gt=0)]] = Field(default={})
    """What the odds of a finding are multiplied by; without a table. Example: {effusion: 2}"""

    older_years: float = Field(default=0.0, ge=-40, le=40)
    """How much older its patients are; without a table."""

    ap_share: float | None = Field(default=None, ge=0, le=1)
    """Share of AP views; without a table, whose usual one is .4. Example: 0.9"""

    power: float = Field(default=0.9, ge=0.3, le=3)
    """Exponent of its grey response; below 1 lightens the lungs."""

    contrast: float = Field(default=1.0, ge=0.3, le=3)
    """Slope of its grey scale about the middle."""

    level: float = Field(default=0.0, ge=-0.5, le=0.5)
    """Grey that it adds to all, of 1 from black to white."""

    noise: float = Field(default=0.005, ge=0, le=0.3)
    """Standard deviation of its noise, of 1 from black to white."""

    blur_px: float = Field(default=0.35, ge=0, le=4)
    """Its blur, in pixels of an image of 64."""

    sharpening: float = Field(default=0.0, ge=0, le=3)
    """How much of the finest detail its processing adds once more."""

    collimation: float = Field(default=0.15, ge=0, le=1)
    """Share of images with a visible edge of the X-ray field."""

    marker: Literal["none", "letter", "text"] = "letter"
    """What is burnt into a corner."""

    labels: tuple[LabelPolicy, ...] = ()
    """How its readers label, where it is otherwise than what an image shows. Example: []"""

    @field_validator("odds")
    @classmethod
    def _of_known_findings(cls, odds: dict[str, float]) -> dict[str, float]:
        _refuse_unknown(tuple(odds))
        return odds

    @property
    def has_own_patients(self) -> bool:
        """Whether it says of its patients what a table would say."""
        return bool(self.odds) or self.older_years != 0 or self.ap_share is not None
