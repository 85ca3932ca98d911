"""Whose each listed image is, and in which split and cohort it stands: settings alone."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from synthdp.config.settings import Seed
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.privacy.units import CohortPart, UnitFrom

#: On mammography patches and chest radiographs, images of different patients stay below it.
NEAR_DUPLICATE_CORRELATION = 0.98


class AssignmentSettings(ListingSettings):
    """Who is one person, and who goes where.

    Ids stand as they are declared.
    """

    val_fraction: float | None = Field(default=None, gt=0, lt=1)
    """Chance of a patient to be in val where neither folders nor table split, or of one of their
    train where they put nobody into val: a keyed hash of the id decides, so that nobody moves
    anybody, and the share comes out about so.
    Example: 0.15
    """

    seed: Seed = 0
    """Splits synthetic images evenly; real patients are split by a keyed hash."""

    key: Path | None = None
    """File of the key, made where there is none; by default each set gets its own. Sets that share
    one give an id the same split, written name and cohort, so that an id must name the same person
    in all of them.
    Example: keys/clinic.key
    """

    links: Path | None = None
    """A table (patient_id, person) of ids that are one person. Example: links.csv"""

    unit_from: UnitFrom = "declared"
    """`looks` also makes ids one where images look alike, and every statement then says so first.
    """

    near_duplicate_correlation: float = Field(default=NEAR_DUPLICATE_CORRELATION, gt=0.5, le=1)
    """From which correlation on images look alike."""

    cohort: CohortPart = None
    """Takes a part of the patients, such as the first of two, by a keyed hash of their ids. Sets
    that share `cohort_key` and have different parts are disjoint, where an id names the same person
    in all of them and `links` are the same, and the ledger counts them in parallel.
    Example: 1/2
    """

    cohort_key: Path | None = None
    """File of the key of all parts, which is also the key of their split.
    Example: keys/parts.key
    """

    ids: Literal["kept", "hashed"] = "kept"
    """`kept` writes a safe id as it is declared, and any other as a keyed hash; `hashed` writes all
    of them as keyed hashes, and none of them into the note of the import.
    """

    alike_ids: Literal["refuse", "distinct"] = "refuse"
    """Ids that differ as spellings of one do (1.1 and 1.10, P01 and p01) are refused, where `links`
    has no row for each; `distinct` declares that all such are different persons, where `links` does
    not say otherwise.
    """

    @model_validator(mode="after")
    def _cohort_has_a_key(self) -> "AssignmentSettings":
        if (self.cohort is None) != (self.cohort_key is None):
            raise ValueError("cohort and cohort_key go together: a part, and the key of all parts")
        if self.key is not None and self.cohort_key is not None:
            raise ValueError("key: cohort_key is the key of the split too; leave key out")
        return self

    @model_validator(mode="after")
    def _one_thing_splits(self) -> "AssignmentSettings":
        if self.split is not None and self.val_fraction is not None:
            raise ValueError("split puts all images into one split; leave it or val_fraction out")
        return self

    @model_validator(mode="after")
    def _patients_alone_have_ids(self) -> "AssignmentSettings":
        if self.shows_patients and self.seed != 0:
            raise ValueError(
                "seed: a keyed hash of the id splits patients, since a seed would make each "
                "one's split depend on who else is there; leave seed out (key keeps a split)"
            )
        if self.images_are_patients and self.unit_from == "looks":
            raise ValueError("unit_from: with patient_pattern none there are no ids to make one")
        if self.kind == "synthetic" and (self.key or self.links or self.unit_from == "looks"):
            raise ValueError("key, links, unit_from: synthetic images show no patients; leave out")
        return self
