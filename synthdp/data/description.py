"""What a data set is: `dataset.json`, its checks, and where files lie beside it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from synthdp.config.settings import Settings, read_json_as
from synthdp.data.volumes.form import VolumeForm
from synthdp.errors import InputError
from synthdp.privacy.ledger.set_record import Record, begun_without_patients
from synthdp.privacy.lineage import Cohort, Lineage
from synthdp.privacy.units import Unit, UnitFrom

LEDGER, KEY_FILE = "ledger.jsonl", "key"


class DatasetInfo(Settings):
    """What `dataset.json` says: public facts, nothing counted from private images.

    A `public` set shows patients whom nothing protects, because somebody declared at its import
    that there is nobody to protect; its lineage names it, so that the name stands in the statement
    of all that learns from it.
    `lineage` names every release that the images descend from; it is empty for real images and for
    phantoms. `delta` is that of its statement, where it has one. `as_real` makes a phantom set
    stand in for patients, so that demo and tests exercise the promise. `unit` is what a
    `patient_id` stands for: `image` where it is not known which images are of one patient.
    `unit_from` says whether ids stand as the importer declared them or were made one where images
    look alike, and `linked` is a keyed digest of which ids were made one either way, and of whether
    they name images. `cohort` is set where the patients are a part of a larger population, by a key
    that the parts share. `population` is a public round number that the units of its train split
    don't exceed: an import that exceeds it makes no set, and no training may declare fewer.
    `ledger` is the id in the first line of the set's own ledger, None of sets that were received or
    are of an earlier version. `depth` is the number of slices where an image is a volume, whose
    file shows them one below the other (`load_volumes`), and `volumes` how those were made of
    scans; both are None of flat images, and then stand in no file.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    kind: Literal["real", "synthetic", "phantom", "public"]
    size_px: int = Field(ge=8, le=8192)
    targets: tuple[str, ...] = ("malignant",)
    licence: str = ""
    description: str = ""
    as_real: bool = False
    unit: Unit = "patient"
    unit_from: UnitFrom = "declared"
    linked: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")
    lineage: Lineage = Lineage()
    delta: float | None = Field(default=None, gt=0, lt=1)
    cohort: Cohort | None = None
    population: int | None = Field(default=None, ge=1)
    ledger: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$")
    depth: int | None = Field(default=None, ge=1, le=1024)
    volumes: VolumeForm | None = None

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of an image's file: of a volume its slices, one below the other."""
        return (self.depth or 1) * self.size_px, self.size_px

    @property
    def sides(self) -> str:
        """The size of an image, in words: `128 x 128 px`, of a volume with its slices before."""
        slices = "" if self.depth is None else f"{self.depth} slices of "
        return f"{slices}{self.size_px} x {self.size_px} px"

    def as_json(self) -> dict[str, Any]:
        """What `dataset.json` holds; of flat images the same as before there were volumes."""
        unsaid = {name for name in ("depth", "volumes") if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=unsaid)

    @property
    def protects_patients(self) -> bool:
        """Whether the ledger treats the rows as patients."""
        return self.kind == "real" or self.as_real

    @property
    def unprotected_words(self) -> str:
        """Of a set whose rows the ledger does not treat as patients: why, in words."""
        if self.kind == "public":
            return f"{self.name} is public, so that nothing protects its patients,"
        return f"{self.name} holds no patients"

    @property
    def shows_patients(self) -> bool:
        """Whether the images are of people, be they protected or public."""
        return self.kind in ("real", "public")

    @model_validator(mode="after")
    def _a_public_set_was_imported_as_one(self) -> "DatasetInfo":
        if self.kind == "public" and self.name not in self.lineage.public:
            raise ValueError(
                "kind: a set is declared public when it is imported (kind=public), which its "
                "lineage then says; put back what stood there, or import the files again"
            )
        if self.kind in ("public", "synthetic") and self.as_real:
            raise ValueError(
                "as_real: makes phantoms stand for patients, and no other set; import patients' "
                "images with kind=real"
            )
        return self


def is_dataset(folder: Path) -> bool:
    """Whether a folder is that of a data set; False for a name that no file system takes."""
    return os.path.isfile(folder / "dataset.json")  # where Path.is_file raises


def read_info(root: Path) -> DatasetInfo:
    """What a data set is, without its manifest, whose check takes a while.

    Raises:
        InputError: when there is no data set, or its description is damaged.
    """
    if not is_dataset(root):
        # os.path.exists, since Path.exists raises for a name that no file system takes
        wrong = "" if os.path.exists(root) else "there is no such folder, so it is "
        raise InputError(
            f"{root}: {wrong}not a data-set folder (no dataset.json); patients' images are made "
            "one by `synthdp data import`, synthetic ones by `synthdp generate`, phantoms by "
            "`synthdp data phantoms`"
        )
    return _with_known_lineage(read_json_as(DatasetInfo, root / "dataset.json"), root)


def _sets_around(path: Path) -> Iterator[DatasetInfo]:
    """The sets in whose folders a file or folder stands, links followed, the innermost first."""
    path = path.resolve()
    return (read_info(folder) for folder in (path, *path.parents) if is_dataset(folder))


def set_around(path: Path) -> DatasetInfo | None:
    """The set in whose folder a file or folder stands, links followed; None too where a
    `dataset.json` around it is no set's.
    """
    with suppress(InputError):
        return next(_sets_around(path), None)
    return None


def protected_set_of(path: Path) -> DatasetInfo | None:
    """The set in whose folder a file or folder stands, links followed, if it protects its patients.

    Raises:
        InputError: when the description of a set there is damaged.
    """
    return next((info for info in _sets_around(path) if info.protects_patients), None)


def charged_set_of(path: Path) -> DatasetInfo | None:
    """The set in whose folder a file or folder stands, if it was made from patients: synthetic.

    What it says of them is covered by the promise of its lineage alone.

    Raises:
        InputError: when the description of a set there is damaged.
    """
    return next((info for info in _sets_around(path) if info.lineage.releases), None)


def _with_known_lineage(info: DatasetInfo, root: Path) -> DatasetInfo:
    """The description of a set, whose lineage its own ledger has; marked as declared without one.

    A set of patients has no lineage: its ledger has what was released of it. That one may be long,
    and its first line alone is read, which says whether it was begun for a set of patients.

    Raises:
        InputError: when the ledger has another one, is lost, or is that of the other kind of set.
    """
    ledger = root / "private" / LEDGER
    other = InputError(
        f"{root}/dataset.json: says of what its images were made from, or of whether they are "
        "patients', something else than the set's ledger; restore the file from a backup"
    )
    if info.protects_patients:
        if begun_without_patients(ledger):
            raise other
        return info
    if info.kind == "public" and info.ledger is None:
        raise InputError(
            f"{root}/dataset.json: says that the set is public, but no ledger of its own says that "
            "it was imported as one; import the files here, with kind=public"
        )
    if info.ledger is None and not ledger.is_file():
        mark = f"what the images of {info.name} were made from rests on its dataset.json"
        lineage = info.lineage.joined([Lineage(declared=(mark,))])
        return info.model_copy(update={"lineage": lineage})
    if Record(ledger, info.ledger).made_from != info.lineage:
        raise other
    return info
