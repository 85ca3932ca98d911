"""Settings of the stages that take generators: draw images, export, join, and import one."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gan.settings.parts import FindingsTable, Share
from synthdp.config.settings import ADDED_LATER, Seed, Settings
from synthdp.errors import InputError

#: Generators that are joined into one, at most.
MAX_MIXED = 8


class GenerateSettings(Settings):
    """Which generator to draw from, how much, and in what form.

    Either `per_class` images of each class, or `total` of which `malignant_share` are malignant; of
    a generator of several findings `total`, and how often each is drawn, if not as in training.
    """

    run: Path
    """A finished generator: a run of train-gan, or `pretrained:NAME`. Example: runs/gan"""

    out: Path
    """The synthetic data set, which is made. Example: data/synthetic"""

    per_class: int | None = None
    """Images of each class. Example: 1500"""

    total: int | None = None
    """Images in all, in place of `per_class`. Example: 3000"""

    malignant_share: Share | None = None
    """Share of `total` that is malignant; one half when not set. Example: 0.4"""

    findings: Annotated[dict[str, Share] | None, ADDED_LATER] = None
    """Of a generator of several findings: how often each is drawn, apart from the others, in place
    of how they stand together in the generator. Example: {effusion: 0.5, cardiomegaly: 0.5}
    """

    findings_table: Annotated[FindingsTable | None, ADDED_LATER] = None
    """Of a generator of several findings: a published table, as whose rows they stand together.
    Example: {table: Data_Entry_2017_v2020.csv.gz, table_is_public: true, collection: nih-cxr14}
    """

    seed: Seed = 0
    """Which images are drawn."""

    bits: Literal[8, 16] = 8
    """Depth of the PNG files."""

    truncation: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Below 1 gives more typical and less varied images."""

    licence: str = Field(default="", max_length=64)
    """Licence of the set, for its card. Example: CC-BY-4.0"""

    batch: int = Field(default=64, ge=1, le=4096)
    """Images drawn at a time; changes memory and time alone."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it is computed; `auto` takes a GPU if there is one."""

    @property
    def count(self) -> int:
        """How many images are asked for."""
        return sum(self.class_counts)

    def refuse_other_classes(self, findings: tuple[str, ...]) -> None:
        """Refuse classes that are asked for otherwise than a generator of these findings takes.

        `findings` are none of a generator of one target.

        Raises:
            InputError: with what to set.
        """
        if findings and (self.per_class is not None or self.malignant_share is not None):
            raise InputError(
                f"per_class, malignant_share: the generator draws {len(findings)} findings "
                f"({', '.join(findings)}), which stand together in an image; set total, and "
                "findings for how often each is drawn, or leave that out for as in training"
            )
        for name in ("findings", "findings_table"):
            if getattr(self, name) is not None and not findings:
                raise InputError(
                    f"{name}: the generator knows one target; set malignant_share, its share of "
                    "total"
                )

    @property
    def class_counts(self) -> tuple[int, int]:
        """How many benign and how many malignant images are asked for."""
        if self.per_class is not None:
            return self.per_class, self.per_class
        assert self.total is not None  # one of them is given
        share = 0.5 if self.malignant_share is None else self.malignant_share
        malignant = round(self.total * share)
        return self.total - malignant, malignant

    @model_validator(mode="after")
    def _asks_for_images(self) -> Self:
        if (self.per_class is None) == (self.total is None):
            raise ValueError("set per_class, or total (with malignant_share), and not both")
        for name in ("findings", "findings_table"):
            asked = getattr(self, name) is not None
            if asked and (self.total is None or self.malignant_share is not None):
                raise ValueError(
                    f"{name} belongs to total alone; set total, and no share of one class"
                )
        if self.findings is not None and self.findings_table is not None:
            raise ValueError(
                "findings and findings_table both say how findings are drawn; give one"
            )
        if self.malignant_share is not None and self.total is None:
            raise ValueError("malignant_share belongs to total; per_class draws as many of each")
        for name in ("per_class", "total"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name}: {count} images make no data set; ask for 1 or more")
        return self


class ExportSettings(Settings):
    """Which generator becomes a package that medigan can run, and what the package is called."""

    run: Path
    """A finished generator, or `pretrained:NAME`. Example: runs/gan"""

    out: Path
    """The package's folder, which is made. Example: packages/ours"""

    package_name: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]{0,63}$")
    """What is imported; made of the data set's name when not set. Example: our_gan"""

    model_id: str | None = Field(default=None, pattern=r"^[0-9A-Z][A-Za-z0-9_-]{0,63}$")
    """What medigan calls the model. Example: 00042_OUR_GAN"""

    title: str = Field(default="", max_length=200)
    """One line about the model. Example: Breast masses of our clinic"""

    licence: str = Field(default="", max_length=64)
    """Licence of the weights. Example: CC-BY-4.0"""

    organ: str = Field(default="breast", max_length=64)
    """What medigan's users search by."""

    modality: str = Field(default="mammography", max_length=64)
    """What medigan's users search by."""

    quality: Path | None = None
    """A finished assessment of a set that the generator drew (`synthdp assess`): its figures stand
    in the metadata.
    Example: assessments/synthetic
    """

    yes_without_protection: bool = False
    """The generator may leave although its epsilon is infinite, as for a release."""


class MixGeneratorsSettings(Settings):
    """Which finished generators are joined."""

    runs: tuple[Path, ...] = Field(min_length=2, max_length=MAX_MIXED)
    """Two to eight runs of train-gan (arch: haar) or `pretrained:NAME`.
    Example: [runs/gan-0, runs/gan-1]
    """

    out: Path
    """The joined run, which is made. Example: runs/gan"""


class ImportGeneratorSettings(Settings):
    """A checkpoint `{"generator": state_dict}` of a conditional DCGAN."""

    file: Path
    """The checkpoint. Example: 1400.pt"""

    out: Path
    """The run's folder, which is made. Example: runs/seed"""

    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the file, 64 hexadecimal digits; another file is refused.
    Example: 0000000000000000000000000000000000000000000000000000000000000000
    """

    trained_on: str = Field(pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    """Name of the data set whose train patients it saw. Example: cbis-ddsm"""

    target: str = "malignant"
    """What class 1 means."""

    unit_range: bool = True
    """It was trained on images in [0, 1], as the paper's was, not in [-1, 1]."""
