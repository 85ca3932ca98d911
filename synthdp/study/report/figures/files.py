"""A drawing as the bytes of a file: SVG, PDF or PNG, the same in every run."""

import io
import logging
from collections.abc import Mapping

from matplotlib.figure import Figure

from synthdp.study.report.figures.sizes import FigureFormat

#: Nothing of the machine, the day or the version stands in a file.
_METADATA: Mapping[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


def figure_bytes(figure: Figure, kind: FigureFormat, *, dpi: int = 300) -> bytes:
    """A drawing at its own size; `dpi` counts for PNG, and for pictures inside the others."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of each letter it embeds
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=dpi, metadata=_METADATA[kind])
    return stream.getvalue()
