"""Where the models of a study are trained and scored: data sets, or a site of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from synthdp.config.settings import Settings
from synthdp.data.columns import Where, where_words


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


def seen_from(study: Path, path: Path) -> Path:
    """A path of a study's settings: as seen from here, where the study ran, or from its folder."""
    return path if path.exists() else study / path


@dataclass(frozen=True)
class TrainingSet:
    """What a strategy is trained on: a data set or images of it, and how results call it."""

    data: Path
    where: Mapping[str, Sequence[str]] | None = None
    name: str = ""
