"""Figures for a paper: which files, how large, and in which letters."""

from typing import Literal, TypeAlias

from pydantic import Field

from synthdp.config.settings import Settings

FigureFormat: TypeAlias = Literal["svg", "pdf", "png"]
MM_PER_IN = 25.4


class FigureSettings(Settings):
    """Figures for papers: their size and letters; by default those of most journals."""

    column: Literal["single", "double"] = "double"
    """One column of the journal wide, or two."""

    single_mm: float = Field(default=89, ge=40, le=300)
    """Width of a figure of one column in millimetres."""

    double_mm: float = Field(default=183, ge=40, le=600)
    """Width of a figure of two columns in millimetres."""

    font_pt: float = Field(default=8, ge=5, le=14)
    """Size of all letters in points; journals ask for 7 to 9."""

    font: str | None = Field(default=None, min_length=1, max_length=64)
    """Which letters; a font of this machine, which goes into the file; when not set, the one that
    comes with matplotlib.
    Example: Liberation Sans
    """

    dpi: int = Field(default=300, ge=72, le=1200)
    """Dots an inch of PNG files, and of patches inside the others."""

    @property
    def width_in(self) -> float:
        """The width in inches."""
        return (self.single_mm if self.column == "single" else self.double_mm) / MM_PER_IN
