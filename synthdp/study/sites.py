"""Where the models of a study are trained and scored: data sets, or a site of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, model_validator

from synthdp.config import Settings
from synthdp.data.columns import Where, where_words
from synthdp.data.dataset import read_info


class EvaluateOn(Settings):
    """A split of a data set that every model of the study is scored on, or images `where`."""

    data: Path
    split: str = "val"
    where: Where | None = None

    @property
    def name(self) -> str:
        """What results call the set."""
        return place_name(read_info(self.data).name, self.where)


def place_name(data_set: str, where: Mapping[str, Sequence[str]] | None) -> str:
    """A data set for people, or a part of one, as in `clinic (site A)`."""
    return f"{data_set} ({where_words(where)})" if where else data_set


class TransferSettings(Settings):
    """At which sites each strategy is trained, one after the other, to be scored at all of them.

    `sites` are values of `column` in the study's `data`, `data` other sets, each a site of its own;
    with `whole` each strategy is trained on all of the study's `data` too. What `evaluate_on` names
    of the study's `data` is scored site by site. `population` is a public round upper bound on the
    patients of each site, for the runs that meet one alone; None: that of the study.
    """

    column: str = "site"
    sites: tuple[str, ...] = ()
    whole: bool = True
    data: tuple[Path, ...] = ()
    population: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _names_each_site_once(self) -> "TransferSettings":
        if len(set(self.sites)) < len(self.sites) or len(set(self.data)) < len(self.data):
            raise ValueError("a site or a data set stands twice; keep one")
        if not (self.sites or self.whole or self.data):
            raise ValueError("nothing to train on; name sites or data, or leave whole out")
        return self


@dataclass(frozen=True)
class TrainedAt:
    """What a strategy is trained on: a data set or images of it, and how results call it."""

    data: Path
    where: Mapping[str, Sequence[str]] | None = None
    name: str = ""
