"""Failed runs on record in the study's folder, so that another shard can write them into results.

A file for each, since shards that write at once must not lose each other's.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from synthdp.errors import InputError
from synthdp.files import read_json, write_json
from synthdp.study.places import without_paths

FAILURES = "failures"


def record_failures(study: Path, runs: Iterable[str], failures: Mapping[str, str]) -> None:
    """Put on record which of these runs failed last time, and that the others did not.

    Args:
        study: the study's folder.
        runs: those that were tried, by folder.
        failures: errors by folder.
    """
    for run in runs:
        path = study / FAILURES / f"{run}.json"
        if run in failures:
            write_json(path, {"error": without_paths(failures[run])})
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or other failures stand in it
        (study / FAILURES).rmdir()


def recorded_failures(study: Path) -> dict[str, str]:
    """Errors of the runs that failed when they were last tried, by folder."""
    found: dict[str, str] = {}
    for path in sorted((study / FAILURES).glob("*.json")):
        with suppress(InputError):  # deleted or damaged: the run is then as if it were never tried
            record = read_json(path)
            if isinstance(record, dict) and isinstance(record.get("error"), str):
                found[path.stem] = record["error"]
    return found
