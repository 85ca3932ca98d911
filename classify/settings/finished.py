"""Settings of the stages that take a finished run: evaluate, calibrate and predict."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from synthdp.config.settings import ADDED_LATER, Names, Seed, Settings
from synthdp.data.columns import Where
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.importing.settings.lesions import CropSettings
from synthdp.data.volumes.form import VolumeForm
from synthdp.evaluation.settings import AT_SENSITIVITY, Fairness
from synthdp.privacy.settings import EpsilonTarget, PrivacySettings
from synthdp.privacy.units import CohortPart, Fold


class EvaluateSettings(Settings):
    """The evaluate stage: a finished run on one split of any data set.

    With a `table` of labels and lesions, `dataset` is a folder of full images, which are imported
    for this evaluation alone, as `synthdp data dicom` does, all of them as `split`. `crop`,
    `dicom`, `bits` and `size_px` count before what `as_imported` says.
    """

    run: Path
    """The finished run. Example: runs/dp"""

    dataset: Path
    """The data set; with a `table`, a folder of DICOM files or other full images.
    Example: data/cbis-ddsm
    """

    table: Annotated[Path | None, ADDED_LATER] = None
    """A table of labels and lesions in full images. Example: lesions.csv"""

    as_imported: Annotated[Path | None, ADDED_LATER] = None
    """The settings file by which the set that the run was trained on was imported: what it says of
    columns, words and crops holds here.
    Example: clinic.yaml
    """

    crop: Annotated[CropSettings | None, ADDED_LATER] = None
    """With a `table`: how lesions are cut out. Example: {margin_px: 60}"""

    dicom: Annotated[DicomReading | None, ADDED_LATER] = None
    """With a `table`: which DICOM images are taken, and how their grey levels are made.
    Example: {window: full}
    """

    bits: Annotated[int | None, ADDED_LATER] = Field(default=None, ge=1, le=16)
    """With a `table`: bits of each sample that are used, where the files state more. Example: 12"""

    size_px: Annotated[int | None, ADDED_LATER] = Field(default=None, ge=8, le=8192)
    """With a `table`: side that lesions are brought to; that of the run's own set. Example: 128"""

    split: Literal["train", "val", "test", "external", "all"] = "val"
    """Which split is scored."""

    out: Path
    """The evaluation's folder, which is made. Example: evaluations/dp-val"""

    where: Where | None = None
    """Takes the images alone that have certain values in columns of the manifest.
    Example: {site: A}
    """

    fold: Annotated[Fold, ADDED_LATER] = None
    """Scores the patients of this fold alone, whom a run with the same `leave_out` never met.
    Example: 1/5
    """

    targets: Annotated[Names | None, ADDED_LATER] = Field(default=None, min_length=1)
    """Scores these of the run's targets alone, by name, on a set that lacks the others; all when
    not set.
    Example: [effusion, cardiomegaly]
    """

    other_form: Annotated[bool | None, ADDED_LATER] = None
    """Scores volumes that were brought to another form than those of the training (slices, side,
    spacing, orientation, window), which is refused when not set.
    Example: true
    """

    redraws: int = Field(default=2000, ge=1, le=100_000)
    """How often patients are drawn for the intervals."""

    seed: Seed = 0
    """Moves these redraws."""

    at_sensitivity: float = Field(default=AT_SENSITIVITY, gt=0, le=1)
    """Share of positives to be found at which a specificity is given."""

    auroc_epsilon: EpsilonTarget = None
    """Releases a noisy AUROC that may be published beside the exact figures: it costs the patients
    of the split that epsilon, on top of what models spent on them. Several targets share it.
    Example: 1
    """

    auroc_delta: float = Field(default=1e-4, gt=0, lt=1)
    """Delta of the noisy AUROC."""

    auroc_unit: Literal["patient", "image"] = "patient"
    """Whom the noisy AUROC protects."""

    population: int | None = Field(default=None, ge=1)
    """For the noisy AUROC: a public round upper bound on the number of patients in the split.
    Example: 200
    """

    by: Fairness = None
    """Columns of the manifest by whose groups the run is judged too, written to `fairness.json`;
    for numbers with cut points.
    Example: {age: [50, 70]}
    """

    @model_validator(mode="after")
    def _a_table_is_of_full_images(self) -> "EvaluateSettings":
        asked = (self.as_imported, self.crop, self.dicom, self.bits, self.size_px)
        if self.table is None and any(value is not None for value in asked):
            raise ValueError(
                "as_imported, crop, dicom, bits, size_px: for full images with a `table` alone"
            )
        if self.table is not None and self.auroc_epsilon is not None:
            raise ValueError(
                "auroc_epsilon: is charged to the ledger of a data set; import the images with "
                "`synthdp data dicom`, and evaluate on that set"
            )
        if self.table is not None and self.split == "all":
            raise ValueError("split: name the one split as which images with a `table` count")
        return self

    @model_validator(mode="after")
    def _a_release_has_a_population_and_a_small_delta(self) -> "EvaluateSettings":
        if self.auroc_epsilon is None:
            return self
        if self.population is None:
            raise ValueError(
                "population is missing: with auroc_epsilon, declare a public round upper bound on "
                "the number of patients in the split, such as 200; the true count is private"
            )
        if self.auroc_delta >= 1 / self.population:
            raise ValueError(
                f"auroc_delta {self.auroc_delta:g} is not below 1/population = "
                f"{1 / self.population:.2g}; choose a smaller delta"
            )
        return self


class CalibrateSettings(Settings):
    """The calibrate stage: what turns a finished run's logits into probabilities and decisions."""

    run: Path
    """The finished run. Example: runs/dp"""

    data: Path
    """The set that slope, offset and threshold are fitted to. Example: data/cbis-ddsm"""

    out: Path
    """The calibrated run, which is made. Example: runs/dp-calibrated"""

    split: Literal["train", "val", "test", "external", "all"] = "train"
    """The split that they are fitted to."""

    seed: Seed = 0
    """Moves nothing, since the fit has one optimum."""

    sensitivity: float = Field(default=0.9, gt=0, lt=1)
    """What the threshold is chosen for: the share of positives to be found."""

    privacy: PrivacySettings = PrivacySettings()
    """The promise to the patients of the split; with `epsilon: none` they are fitted exactly,
    without protection.
    """

    cohort: CohortPart = None
    """A part of the patients, such as the first of two, which a keyed hash of their ids decides;
    all, when not set.
    Example: 2/2
    """

    @model_validator(mode="after")
    def _an_epsilon_has_a_population(self) -> "CalibrateSettings":
        self.privacy.refuse_missing_population()
        return self


class PredictSettings(Settings):
    """The predict stage: a finished run on new images.

    Without `boxes` images are scored whole. With them lesions are cut as `crop` and `dicom` say,
    and averaged to `size_px`: name what `synthdp data dicom` was given for the set that the run was
    trained on, or in `as_imported` its settings file.
    """

    run: Path
    """The finished run, or a released one. Example: to-share/dp"""

    images: Path
    """A folder of image files, or a data set. For a classifier of volumes a folder of NIfTI files,
    of .npy or .npz files, or of folders with a DICOM series each. Example: new-patches
    """

    out: Path
    """The table to write. Example: scores.csv"""

    boxes: Path | None = None
    """A table of where lesions lie in the images: columns of a file, and of a box, an outline or a
    mask.
    Example: boxes.csv
    """

    as_imported: Path | None = None
    """The settings file by which the set that the run was trained on was imported; it says too how
    columns of `boxes` are called.
    Example: clinic.yaml
    """

    crop: CropSettings | None = None
    """How the lesions of `boxes` are cut out. Example: {margin_px: 60}"""

    dicom: DicomReading | None = None
    """Which DICOM images are taken, and how their grey levels are made. Example: {window: full}"""

    size_px: int | None = Field(default=None, ge=8, le=8192)
    """Side that images are brought to first: name the set's own, since a network sees what was once
    smaller as less sharp. A classifier of several targets, or of volumes, knows it.
    Example: 128
    """

    volumes: VolumeForm | None = None
    """How volumes are made of scans, where the classifier does not know it from its set's import,
    or where these files want something else, as `volumes.tilt: resample`: what is not said here is
    as in the training.
    Example: {depth: 32, window: [-1000, 400]}
    """

    bits: int | None = Field(default=None, ge=1, le=16)
    """Bits of each sample that are used, where the files state more (12 in 16). Example: 12"""

    follow_links_into: tuple[Path, ...] = ()
    """Folders outside `images` into which links are followed. Example: [/archive/images]"""

    saliency: Path | None = None
    """A folder for pictures of what moves the score. Example: saliency"""

    saliency_grid: int = Field(default=9, ge=3, le=32)
    """Regions a side at which it is looked for."""

    @model_validator(mode="after")
    def _of_boxes_alone(self) -> "PredictSettings":
        if self.boxes is None and self.as_imported is not None:
            raise ValueError("as_imported: for full images with a table of `boxes` alone")
        if self.boxes is None and self.crop is not None:
            raise ValueError("crop: for lesions that `boxes` names; whole images are not cut")
        return self
