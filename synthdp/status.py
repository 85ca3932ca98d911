"""`status.json`: what a run says of itself, from its first moment on."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from synthdp.config.settings import Settings, read_json_as
from synthdp.storage.files import write_json

STATUS_FILE = "status.json"
#: Seconds since 1970 that still are a date.
_LAST_DATE = 2.5e11

State = Literal["starting", "running", "interrupted", "failed", "finished"]


class RunStatus(Settings):
    """What `status.json` holds; a released one has no times, and keys of newer versions are passed
    over.

    `release` is the id under which the run is counted, `attempts` how often it was started,
    `seconds` how long it was at work in all, and `last` when that was written (Unix time); `ledger`
    says that the run has one from its creation on, so that one which is not there was lost.
    """

    model_config = ConfigDict(extra="ignore")

    schema_version: Literal[1] = 1
    stage: str = Field(default="", max_length=64)
    state: State
    release: str = Field(default="", max_length=64)
    attempts: int = Field(default=0, ge=0, le=10**9)
    seconds: float | None = Field(default=None, ge=0, le=_LAST_DATE)
    versions: Mapping[str, str] = {}
    ledger: bool | None = None
    last: float | None = Field(default=None, ge=0, le=_LAST_DATE)

    def as_json(self) -> dict[str, Any]:
        """The content of the file; what is not known is left out."""
        return self.model_dump(mode="json", exclude_none=True)


def unix_time() -> float:
    """Seconds since 1970 by this machine's clock; within what a status may hold, if it is wrong."""
    return min(max(0.0, time.time()), _LAST_DATE)


def read_status(run: Path) -> RunStatus | None:
    """The status of a run; None where the folder has none.

    Raises:
        InputError: when it is damaged, or of another version.
    """
    path = run / STATUS_FILE
    return read_json_as(RunStatus, path) if path.is_file() else None


def write_status(run: Path, status: RunStatus) -> None:
    """Write the status of a run, atomically."""
    write_json(run / STATUS_FILE, status.as_json())
