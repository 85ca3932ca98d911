"""What is made of listed images: settings of `synthdp data patches`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from synthdp.config.settings import Settings
from synthdp.config.yaml_core import read_yaml
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.importing.settings.assignment import AssignmentSettings
from synthdp.data.importing.settings.lesions import CropSettings
from synthdp.data.importing.tables.collection import collection_file
from synthdp.errors import InputError
from synthdp.privacy.ledger.budget import Budget


def on_its_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with what the collection that they name in `like` says beside them.

    Raises:
        ValueError: where there is no such collection.
    """
    like = values.get("like")
    if not isinstance(like, str):
        return dict(values)
    try:
        return {**read_yaml(collection_file(like)), **values}
    except InputError as error:
        raise ValueError(str(error)) from error


class ImportPrivacy(Settings):
    """What the patients may be asked for in all: an epsilon at a delta."""

    budget: Budget
    """The most that all releases on the patients may cost together.
    Example: {epsilon: 12, delta: 1e-5}
    """


class PatchesSettings(AssignmentSettings):
    """What to make of the listed images.

    Where `region` names columns, an image of the set is what is cut around a lesion
    (`synthdp.data.importing.lesions.crops`).
    """

    like: str | None = None
    """The known collection whose mapping says what is not said here. Example: nih-cxr14"""

    out: Path
    """The data set, which is made. Example: data/clinic"""

    name: str = Field(pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    """What results call the set; for `data dicom` the name of the folder `out`, when not given.
    Example: clinic
    """

    licence: str = ""
    """Licence of the images, for the set's card. Example: CC-BY-4.0"""

    description: str = ""
    """A sentence for the set's card. Example: Masses of our clinic, 2015 to 2020"""

    lineage: str = "unprotected"
    """What a synthetic set descends from: `unprotected` (a generator trained without a guarantee on
    the patients that `lineage_data` names), `none` (no patient was involved), or the path of the
    privacy.json of the run that made it.
    """

    lineage_data: str = "patients of a data set that was not named"
    """Whom an unprotected generator was trained on."""

    size_px: int = Field(default=128, ge=8, le=8192)
    """Side that every image is brought to; it is never read from them."""

    population: int | None = Field(default=None, ge=1)
    """Public round number, at least the patients of train: an import of more is refused, since a
    private training may not refuse.
    Example: 600
    """

    privacy: ImportPrivacy | None = None
    """What all that is ever released of the patients may cost together; `synthdp data budget`
    raises it.
    Example: {budget: {epsilon: 12, delta: 1e-5}}
    """

    workers: int | None = Field(default=None, ge=1)
    """Processes that read images at once; as many as there are cores when not set. What is made
    does not depend on it.
    Example: 4
    """

    crop: CropSettings | None = None
    """How lesions are cut out, where `region` says where they lie. Example: {margin_px: 60}"""

    dicom: DicomReading | None = None
    """Which DICOM images are taken, and how their grey levels are made. Example: {window: full}"""

    @model_validator(mode="before")
    @classmethod
    def _stands_on_a_mapping(cls, values: Any) -> Any:
        return on_its_mapping(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _patients_have_budgets(self) -> "PatchesSettings":
        if self.privacy is not None and self.kind != "real":
            raise ValueError("privacy.budget: for patients (kind: real) alone; leave it out")
        return self

    @model_validator(mode="after")
    def _keys_stand_elsewhere(self) -> "PatchesSettings":
        for name, path in (("key", self.key), ("cohort_key", self.cohort_key)):
            if path is not None and path.resolve().is_relative_to(self.out.resolve()):
                raise ValueError(
                    f"{name}: lies inside `out`, which is made as a whole and gets a copy of the "
                    "key; keep the file elsewhere"
                )
        return self

    @model_validator(mode="after")
    def _crops_are_of_lesions(self) -> "PatchesSettings":
        if self.crop is not None and self.region is None and not self.finds_region:
            raise ValueError("crop: nothing is cut without `region`; name columns, or leave it out")
        return self

    @property
    def finds_region(self) -> bool:
        """Whether it is found out where lesions lie, where `region` does not say it."""
        return False
