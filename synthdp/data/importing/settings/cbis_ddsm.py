"""Settings of `synthdp data cbis-ddsm`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from synthdp.data.importing.settings.dicom import DicomSettings
from synthdp.data.importing.settings.tables import TableSettings

Abnormality = Literal["mass", "calcification"]
#: Keys of an import by a table of one's own, which say nothing of these.
_OF_OTHER_TABLES = (
    *(name for name in TableSettings.model_fields if name != "tables"),
    *("file_column", "patient_column", "split_column", "benign_column", "targets", "metadata"),
    *("patient_pattern", "malignant_pattern", "benign_pattern", "whole_images", "kind", "lineage"),
)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class CbisDdsmSettings(DicomSettings):
    """Settings of `synthdp data cbis-ddsm`: those of `data dicom`, but for what the tables say.

    `src` is the folder of the download, in which the tables stand too, at any depth; `tables` names
    them where several copies do. `splits` chooses tables, such as `[train]`.
    """

    name: str = Field(default="cbis-ddsm", pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    """What results call the set."""

    licence: str = "CC-BY-3.0"
    """Licence of the images, for the set's card."""

    description: str = (
        "Lesions of CBIS-DDSM (Lee et al. 2017, Scientific Data 4:170177; Clark et al. 2013, "
        "TCIA), cut square out of the full mammograms."
    )
    """A sentence for the set's card."""

    abnormalities: Annotated[tuple[Abnormality, ...], BeforeValidator(_as_list)] = Field(
        default=("mass", "calcification"), min_length=1
    )
    """Masses, calcifications, or both."""

    official_splits: bool = True
    """Keeps the archive's train and test; `val_fraction` then takes patients of train for val, by a
    keyed hash of each id. Without it, that hash splits all patients.
    """

    @model_validator(mode="before")
    @classmethod
    def _is_called_by_its_folder(cls, values: Any) -> Any:
        return values  # it has a name of its own

    @model_validator(mode="after")
    def _tables_are_known(self) -> "CbisDdsmSettings":
        fields = type(self).model_fields
        given = sorted(
            name for name in _OF_OTHER_TABLES if getattr(self, name) != fields[name].default
        )
        if given:
            raise ValueError(
                f"{', '.join(given)}: the archive's own tables are read; leave out (another table: "
                "`synthdp data dicom`)"
            )
        return self
