"""Where the models of a study are trained and scored: data sets, or a site of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from synthdp.config.settings import Settings
from synthdp.data.columns import Where, where_words
from synthdp.privacy.units import CROSS_VALIDATED


class EvaluateOn(Settings):
    """A split of a data set that every model of the study is scored on, or images `where`."""

    data: Path
    """The data set. Example: data/cbis-ddsm"""

    split: str = "val"
    """Its split."""

    where: Where | None = None
    """Takes the images alone that have certain values in columns of the manifest.
    Example: {site: A}
    """

    @property
    def name(self) -> str:
        """What results call the set."""
        return set_name(name_of(self.data), self.where)

    @property
    def manifest_split(self) -> str:
        """What the set's manifest calls the split."""
        return "train" if self.split == CROSS_VALIDATED else self.split


def name_of(data: Path) -> str:
    """The name of a data set, as its folder gives it."""
    from synthdp.data.description import (  # noqa: PLC0415 (settings are read without numpy)
        read_info,
    )

    return read_info(data).name


def set_name(data_set: str, where: Mapping[str, Sequence[str]] | None) -> str:
    """A data set for people, or a part of one, as in `clinic (site A)`."""
    return f"{data_set} ({where_words(where)})" if where else data_set


_Population = Annotated[int, Field(ge=1)]


class TransferSettings(Settings):
    """At which sites each strategy is trained, one after the other, to be scored at all of them.

    What `evaluate_on` names of the study's `data` is scored site by site.
    """

    column: str = "site"
    """Column of the manifest that holds the site."""

    sites: tuple[str, ...] = ()
    """Values of `column` in the study's `data`, each trained on alone. Example: [A, B]"""

    whole: bool = True
    """Each strategy is trained on all of the study's `data` too."""

    data: tuple[Path, ...] = ()
    """Other sets, each a site of its own. Example: [data/other-clinic]"""

    population: _Population | dict[str, _Population] | None = None
    """Public round upper bound on the patients of each site, for the runs that meet one alone; that
    of the study when not set. Where sites differ in size, a number for each value of `column`, or
    each name of another set.
    Example: {A: 300, other-clinic: 4000}
    """

    @model_validator(mode="after")
    def _names_each_site_once(self) -> "TransferSettings":
        if len(set(self.sites)) < len(self.sites) or len(set(self.data)) < len(self.data):
            raise ValueError("a site or a data set stands twice; keep one")
        if not (self.sites or self.whole or self.data):
            raise ValueError("nothing to train on; name sites or data, or leave whole out")
        return self

    def population_of(self, site: str) -> int | None:
        """The bound on the patients of one site, or of another set by its name."""
        if isinstance(self.population, dict):
            return self.population.get(site)
        return self.population


class CrossValidation(Settings):
    """Scores each patient of `data` by a model that was trained on the patients of other folds.

    A public hash of each patient's written id decides the fold (`synthdp.data.people.folds`).
    """

    folds: int = Field(default=5, ge=2, le=50)
    """How many models each cell of the grid has; the patients of a fold are scored by the one that
    never met them.
    """

    shares: dict[Annotated[float, Field(gt=0, le=1)], _Population] = Field(default_factory=dict)
    """Trains each cell on several shares of the set's patients, to see how results grow with their
    number: share -> public round upper bound on the patients in it, which their runs declare. None
    is larger than what the other folds hold; that of all other folds when not set.
    Example: {0.2: 150, 0.8: 500}
    """

    @model_validator(mode="after")
    def _other_folds_hold_the_shares(self) -> "CrossValidation":
        most = 1 - 1 / self.folds
        if large := [share for share in self.shares if share > most + 1e-9]:
            raise ValueError(
                f"shares: {large[0]:g}: of {self.folds} folds all but one hold {most:g} of the "
                "patients; name a smaller share, or more folds"
            )
        return self

    def of_the_others(self, share: float) -> float | None:
        """A share of all patients as one of those in all folds but one; None for all of these."""
        part = round(share * self.folds / (self.folds - 1), 9)
        return None if part >= 1 else part


_SHARE = "a share of "


def share_words(share: float) -> str:
    """What results say that models of a share of the patients were trained on."""
    return f"{_SHARE}{share:g}"


def share_of(trained_on: str) -> float | None:
    """The share in the words of `share_words`; None where these are of something else."""
    try:
        share = float(trained_on.removeprefix(_SHARE)) if trained_on.startswith(_SHARE) else 0.0
    except ValueError:  # a site of this name
        return None
    return share if 0 < share <= 1 else None


def seen_from(study: Path, path: Path) -> Path:
    """A path of a study's settings: as seen from here, where the study ran, or from its folder."""
    return path if path.exists() else study / path


@dataclass(frozen=True)
class TrainingSet:
    """What a strategy is trained on: a data set or images of it, and how results call it."""

    data: Path
    where: Mapping[str, Sequence[str]] | None = None
    name: str = ""
