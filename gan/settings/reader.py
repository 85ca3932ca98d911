"""Settings of a blinded reading: of the page that is written, and of scoring the answers."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from synthdp.config.settings import Seed, Settings


class ReaderSettings(Settings):
    """A page on which people say of images whether they are real or synthetic, without being told.

    `synthdp assess SYNTHETIC --real DIR --reader OUT` writes it.
    """

    synthetic: Path
    """The synthetic set of which images are shown. Example: data/synthetic"""

    real: Path
    """The real set of which images are shown beside them. Example: data/phantoms"""

    out: Path
    """The kit's folder, which is made: `reader.html` for readers, and the key to it, which stays in
    `private/`. Example: readers/synthetic
    """

    per_kind: int = Field(default=40, ge=2, le=500)
    """Real images, and as many synthetic ones, half of them with the target."""

    target: str | None = None
    """Of several targets the one that readers rate, and of which half of the images have it.
    Example: effusion
    """

    split: Literal["train", "val", "test", "external", "all"] = "train"
    """Which real images may be shown."""

    size_px: int | None = Field(default=None, ge=8, le=1024)
    """Side at which both kinds are shown, to be named where sets differ. Example: 128"""

    seed: Seed = 0
    """Which images are drawn. Their codes and their order come from the operating system, so that
    nobody can make them again.
    """

    yes_show_patients: bool = False
    """Show images of patients, or ones made from patients without a promise, to whoever gets the
    page.
    """


class ReaderScoreSettings(Settings):
    """What readers' answers say: how well they tell synthetic from real, and how far they agree.

    `synthdp assess --score KIT ANSWERS.csv ... --out DIR` writes it.
    """

    kit: Path
    """The folder that `--reader` wrote, with its key. Example: readers/synthetic"""

    answers: tuple[Path, ...] = Field(min_length=1, max_length=100)
    """The files that readers saved, one a reader. Example: [reader-KMTRPV-A.csv,
    reader-KMTRPV-B.csv]
    """

    out: Path
    """The folder of the scores, which is made. Example: readers/scores"""

    allow_missing: bool = False
    """Score what is there where a reader left images without an answer."""

    redraws: int = Field(default=2000, ge=100, le=100_000)
    """How often patients are drawn for an interval."""

    seed: Seed = 0
    """Moves these redraws."""
