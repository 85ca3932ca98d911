"""What the assessment of a synthetic set says: figures with their n, features and split.

`synthdp assess` writes it as `quality.json`; a study shows it as a section of its report.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from synthdp.config.settings import Settings, read_json_as
from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError

QUALITY_FILE = "quality.json"
#: Patients' images beside the synthetic ones that come closest to them: never leaves the house.
CLOSEST_PAIRS_FILE = "private/closest_pairs.png"

Section = Literal[
    "Distance",
    "Coverage",
    "Detector",
    "Labels",
    "Groups",
    "Spectrum",
    "Memorisation",
    "Membership",
    "Disclosure",
]
Better = Literal["low", "high", "real", "chance"]


class Value(Settings):
    """One number: of how many images (judged, judged against), of which, and its interval.

    `why` says why there is no number.
    """

    value: float | None
    n: tuple[int, int]
    split: str
    ci_low: float | None = None
    ci_high: float | None = None
    why: str = ""


class Figure(Settings):
    """One measure in one feature space: of the synthetic set, of a baseline, and of real patients.

    `better` says which way is good; `real` means: as near to the real figure as can be. The three
    numbers are of the same n unless their `n` says otherwise. `main` figures stand in a report.
    """

    section: Section
    measure: str
    features: str
    comparison: str
    better: Better
    digits: int = Field(default=3, ge=0, le=6)
    main: bool = False
    synthetic: Value
    baseline: Value | None = None
    real: Value | None = None


class AssessedSet(Settings):
    """A set that was looked at: the images in all and those used, and what repeats among them."""

    name: str
    kind: str
    size_px: int
    images: int
    used: int
    duplicates: int
    label_conflicts: int


class FeatureFacts(Settings):
    """What a feature space is; `weights` is the file's SHA-256, `hub`, or `random start`."""

    label: str
    network: str
    size_px: int
    precision: str
    weights: str


class Assessment(Settings):
    """A whole assessment; `info` is that of the synthetic set, so that no other is mistaken for it.

    `promise` says that its figures stand outside every promise; `findings` are its result in words;
    `date` is the day (UTC) on which it was made, empty in assessments of older versions.
    """

    schema_version: Literal[1] = 1
    promise: str
    findings: tuple[str, ...]
    info: DatasetInfo
    synthetic: AssessedSet
    baseline: AssessedSet | None = None
    real: AssessedSet
    held_out: AssessedSet | None = None
    features: tuple[FeatureFacts, ...]
    figures: tuple[Figure, ...]
    date: str = ""

    @property
    def main_figures(self) -> list[Figure]:
        """Those that a report shows."""
        return [figure for figure in self.figures if figure.main]


def read_assessment(folder: Path) -> Assessment:
    """Read a finished assessment.

    Raises:
        InputError: when the folder holds none, or its file is damaged.
    """
    if not (folder / QUALITY_FILE).is_file():
        raise InputError(
            f"assessment: {folder.name!r} holds no {QUALITY_FILE}; make it with `synthdp assess`"
        )
    return read_json_as(Assessment, folder / QUALITY_FILE)
