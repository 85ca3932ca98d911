"""Settings of `synthdp data dicom`."""

from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from synthdp.data.importing.settings.listing import ATTRIBUTES
from synthdp.data.importing.settings.patches import PatchesSettings, on_its_mapping
from synthdp.data.people.ages import AGE_COLUMNS


class DicomSettings(PatchesSettings):
    """Settings of `synthdp data dicom`: those of `data patches`, for the files of hospitals.

    `src` (`--images`) is the folder of the files, `metadata` (`--table`) the table with a row for
    each lesion, or for each image. The set is called by the folder `out`, unless `name` is given.
    """

    ids: Literal["hashed", "kept"] = "hashed"
    """Patients are written under keyed hashes of their ids; `kept` writes safe ids as they are
    declared.
    """

    whole_images: bool = False
    """Columns that say where a lesion lies are found by their usual names, unless `region` names
    them; with this they are left aside, and images are taken whole.
    """

    header_ids: Literal["compare", "leave_aside"] = "compare"
    """Who is one person, the table says. Where it has several patients for images of which the
    headers have one PatientID, or are of one study, the import is refused until `links` says who
    they are; `leave_aside` is for files whose ids an anonymiser has made alike.
    """

    @property
    def finds_region(self) -> bool:
        """By the usual names of columns."""
        return not self.whole_images

    @model_validator(mode="before")
    @classmethod
    def _is_called_by_its_folder(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = on_its_mapping(values)  # which has a name
        if "name" not in values and values.get("out"):
            return {**values, "name": Path(values["out"]).name}
        return values

    @property
    def default_attributes(self) -> tuple[str, ...]:
        """Those of `data patches` without ages, which are kept where `attributes` asks for them."""
        return tuple(name for name in ATTRIBUTES if name not in AGE_COLUMNS)

    @model_validator(mode="after")
    def _whole_images_have_no_region(self) -> "DicomSettings":
        if self.whole_images and self.region is not None:
            raise ValueError("whole_images: no lesion is cut then; leave it or `region` out")
        return self
