"""Settings of `synthdp data volumes`."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from synthdp.data.importing.settings.listing import ATTRIBUTES
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.people.ages import AGE_COLUMNS
from synthdp.data.volumes.form import MAX_STACK_PX, VolumeForm


class VolumesSettings(PatchesSettings):
    """Settings of `synthdp data volumes`: those of `data patches`, for volumes.

    A volume is a NIfTI file, an array in a .npy or .npz file, one of many in an array of a set
    (`arrays`), or a folder of DICOM files, one series of one patient, whose path is the folder's.
    The set is called by the folder `out`, unless `name` is given.
    """

    volumes: VolumeForm = VolumeForm()
    """What every volume becomes. Example: {depth: 32, spacing_mm: [3, 2, 2], window: [-1000, 400]}
    """

    size_px: int = Field(default=64, ge=8, le=1024)
    """Side that every slice is brought to; it is never read from them."""

    ids: Literal["hashed", "kept"] = "hashed"
    """Patients are written under keyed hashes of their ids; `kept` writes safe ids as they are
    declared.
    """

    header_ids: Literal["compare", "leave_aside"] = "compare"
    """Who is one person, names or the table say. Where they have several patients for series of
    which the headers have one PatientID, or are of one study, the import is refused until `links`
    says who they are; `leave_aside` is for files whose ids an anonymiser has made alike.
    """

    @property
    def form(self) -> VolumeForm | None:
        """What every volume becomes."""
        return self.volumes

    @property
    def default_attributes(self) -> tuple[str, ...]:
        """Those of `data patches` without ages, which are kept where `attributes` asks for them."""
        return tuple(name for name in ATTRIBUTES if name not in AGE_COLUMNS)

    @model_validator(mode="before")
    @classmethod
    def _is_called_by_its_folder(cls, values: Any) -> Any:
        if isinstance(values, dict) and "name" not in values and values.get("out"):
            return {**values, "name": Path(values["out"]).name}
        return values

    @model_validator(mode="after")
    def _slices_fit_into_a_file(self) -> "VolumesSettings":
        stack = self.volumes.depth * self.size_px
        if stack > MAX_STACK_PX:
            raise ValueError(
                f"volumes.depth x size_px is {stack}, and the slices of a volume stand one below "
                f"the other in a file of at most {MAX_STACK_PX} px; take fewer or smaller ones"
            )
        return self

    @model_validator(mode="after")
    def _volumes_are_whole(self) -> "VolumesSettings":
        if self.region is not None or self.crop is not None or self.match_header:
            raise ValueError(
                "region, crop, match_header: are of flat images; leave them out, since volumes are "
                "taken whole (volumes.spacing_mm makes a box about the middle of each)"
            )
        return self
