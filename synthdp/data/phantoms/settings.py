"""Which phantoms to draw."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from synthdp.config.settings import NONE_WORD, Names, Seed, Settings
from synthdp.data.phantoms.chest.names import FINDINGS, NO_FINDING
from synthdp.data.phantoms.chest.settings import SiteSettings, TableColumns, View

#: Which settings are of one subject alone.
OF_SUBJECT = {
    "mass": ("malignant_fraction", "site_b_fraction", "site_shift", "style"),
    "chest": (
        *("table", "table_is_public", "collection", "columns", "views", "choice", "targets"),
        "sites",
    ),
    "ct": ("depth", "lesion_fraction"),
}


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


class PhantomSettings(Settings):
    """A phantom data set."""

    out: Path
    """The data set, which is made. Example: data/phantoms"""

    patients: int = Field(default=500, ge=1, le=999_999)
    """How many made-up patients are drawn."""

    size_px: int = Field(default=128, ge=16, le=1024)
    """Side of the images in pixels."""

    seed: Seed = 0
    """Which phantoms are drawn."""

    name: str = Field(default="phantoms", pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    """What results call the set."""

    as_real: bool = False
    """Makes the ledger treat the phantoms as patients."""

    val_fraction: float = Field(default=0.15, ge=0, lt=1)
    """Share of the patients in val."""

    test_fraction: float = Field(default=0.15, ge=0, lt=1)
    """Share of the patients in test."""

    malignant_fraction: float = Field(default=0.45, ge=0, le=1)
    """Share of malignant lesions."""

    site_b_fraction: float = Field(default=0.3, ge=0, le=1)
    """Share of the patients of a second site, B, with a digital detector in the place of A's film.
    """

    separation: float = Field(default=2.2, ge=0, le=10)
    """How far apart the classes lie, in standard deviations of the hidden suspicion that shapes
    every lesion: a classifier that saw it exactly would reach an AUROC of Phi(separation / sqrt 2),
    0.94 at 2.2; what pixels still show of it allows less.
    """

    site_shift: float = Field(default=0.0, ge=0, le=4)
    """Sets the two sites further apart, in response, noise and sharpness, for studies of domain
    transfer.
    """

    style: Literal["fibrous", "lumpy", "varied", "mixed"] = "fibrous"
    """The recipe of tissue, masses and detector: `fibrous` is modelled on mammograms; `lumpy` draws
    the same traits otherwise, for a set that the public phantoms shall not resemble; `varied` is
    wider in every trait, with strands, broad edges and opaque marks; `mixed` draws as many patients
    fibrous as varied, for a pool that a private generator selects from.
    """

    subject: Literal["mass", "chest", "ct"] = "mass"
    """What is drawn: `mass`, mammography patches; `chest`, radiographs with 14 findings; `ct`,
    volumes of the upper abdomen, half of them with a lesion. Keys of another subject are refused.
    """

    table: Annotated[tuple[Path, ...], BeforeValidator(_listed)] = ()
    """Of `chest`: a CSV table of labels, plain or gzipped, whose patients are drawn with as many
    images, findings, ages, sexes and views; without one, as public tables have them on average.
    Several where a `collection` has them.
    Example: Data_Entry_2017_v2020.csv.gz
    """

    collection: Annotated[str | None, NONE_WORD] = None
    """The known collection by whose mapping the table is read (`synthdp data import --like`);
    `none`: by `columns`.
    Example: chexpert
    """

    table_is_public: bool = False
    """Says that the table is published, so that what is drawn to it costs no privacy. A table of
    patients of your own is no such table: phantoms drawn to it must be made `as_real`.
    """

    columns: TableColumns = TableColumns()
    """What the table calls its columns; by default as in NIH's Data_Entry_2017. Of a `collection`
    its `called` alone counts.
    """

    views: tuple[View, ...] = Field(default=("PA", "AP"), min_length=1)
    """Of `chest`: the views that are drawn; the table's rows of other views are left out."""

    choice: Literal["even", "first"] = "even"
    """Of a table with more patients than are drawn: evenly spaced ones, or the first."""

    targets: Names = FINDINGS
    """Of `chest`: the findings that the set has as targets, and `no_finding`; all 14 are drawn."""

    sites: tuple[SiteSettings, ...] = ()
    """Of `chest`: the sites, each with patients, machines and readers of its own; by default one.
    """

    depth: int = Field(default=32, ge=1, le=1024)
    """Of `ct`: slices of a volume."""

    lesion_fraction: float = Field(default=0.5, ge=0, le=1)
    """Of `ct`: share of the patients with a lesion."""

    workers: Annotated[int | None, NONE_WORD] = Field(default=None, ge=1)
    """Processes that draw radiographs and volumes; the same bits for any number. `none`: a core
    each.
    Example: 2
    """

    @field_validator("targets")
    @classmethod
    def _targets_are_drawn(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = (*FINDINGS, NO_FINDING)
        unknown = [name for name in names if name not in known]
        if unknown or not names or len(set(names)) < len(names):
            raise ValueError(f"each of {', '.join(known)} at most once, and one at least")
        return names

    @field_validator("sites")
    @classmethod
    def _sites_differ(cls, sites: tuple[SiteSettings, ...]) -> tuple[SiteSettings, ...]:
        if len({site.name for site in sites}) < len(sites):
            raise ValueError("two sites have one name")
        return sites

    @model_validator(mode="after")
    def _keys_are_of_the_subject(self) -> "PhantomSettings":
        for subject, keys in OF_SUBJECT.items():
            if subject == self.subject:
                continue
            for key in keys:
                if getattr(self, key) != type(self).model_fields[key].get_default():
                    raise ValueError(
                        f"{key} belongs to subject: {subject}, and {self.subject} is drawn; leave "
                        "it out"
                    )
        return self

    @model_validator(mode="after")
    def _a_table_is_public_or_stands_for_patients(self) -> "PhantomSettings":
        if not self.table:
            if self.table_is_public or self.collection or self.columns != TableColumns():
                raise ValueError(
                    "table_is_public, collection and columns are of a table; name it in table"
                )
            return self
        if len(self.table) > 1 and self.collection is None:
            raise ValueError("table: several are read by a collection; name it, or one table")
        if not self.table_is_public and not self.as_real:
            raise ValueError(
                "table: what is drawn to a table shows its labels, ages and co-occurrence; say "
                "table_is_public: true of a published one, or as_real: true, which makes the set "
                "one of patients"
            )
        own = next((site.name for site in self.sites if site.has_own_patients), None)
        if own is not None:
            raise ValueError(
                f"sites: odds, older_years and ap_share of {own} are for sets without a table, "
                "whose rows say all that; leave them out"
            )
        return self

    @model_validator(mode="after")
    def _leaves_a_train_split(self) -> "PhantomSettings":
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                "val_fraction + test_fraction leave no patient for training; lower one of them"
            )
        return self
