"""What the export-model stage is asked for."""

from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
)

from synthdp.config.settings import Settings


class ExportModelSettings(Settings):
    """The export-model stage: a classifier or a generator as one file that runs without synthdp."""

    run: Path
    """A finished run of a classifier or a generator, or `pretrained:NAME`. Example: runs/dp"""

    out: Path
    """The folder of the file, which is made. Example: exported/dp"""

    format: Literal["onnx", "torch-export"] = "onnx"
    """`onnx` needs the extra of that name; `torch-export` is read by torch alone."""

    size_px: int | None = Field(default=None, ge=8, le=4096)
    """Side of the images that a classifier's file takes; when not set that of its largest network,
    or of its training's images, where it knows that (of several targets, or of volumes). With the
    side of the images that it was trained on, scores are those of `synthdp predict`.
    Example: 128
    """

    yes_without_protection: bool = False
    """The model may leave although its epsilon is infinite, as for a release."""
