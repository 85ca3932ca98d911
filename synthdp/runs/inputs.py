"""What a result was made from: digests of the inputs that its settings name, kept beside it.

A finished stage is the same only when its settings and all of its inputs are. Every setting that is
a path names an input, save for those in `OUTPUTS` and for files whose SHA-256 is a setting. Digests
of patients' sets are keyed and the file stands in `private/`, so that nothing of it leaves.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from synthdp.config.settings import Settings, read_json_as
from synthdp.data.identity import set_digests
from synthdp.errors import InputError, RunError
from synthdp.storage.files import readable_name, sha256_file, write_json
from synthdp.storage.unchanged import FileState, clock_ns

log = logging.getLogger(__name__)

INPUTS_FILE = Path("private") / "inputs.json"
#: Settings that name what a stage writes.
OUTPUTS = ("out", "saliency")
#: The file that says all of a folder which is neither a data set nor a run: an assessment's.
_MAIN_FILES = ("quality.json",)
_MODEL_SETTINGS = "settings.json"
#: Of a generator, of a classifier.
_WEIGHTS = ("generator.safetensors", "weights.safetensors")
_CHANGED = {
    "key": "a data set that was made anew stands there, with a key of its own",
    "facts": "its dataset.json says something else",
    "manifest": "its manifest has other rows, or the same in another order",
    "images": "its images are others",
    "model": "another model stands there",
    "file": "its content is another",
    "files": "files in it were added, removed, renamed or changed",
}
#: What to do about a result whose inputs have changed.
MEND = (
    "bring back what was there, name a new `out`, or remove this folder and make it again: what it "
    "spent on patients stays spent"
)

#: Gives the folder of a path that is a name, such as `pretrained:NAME`; any other as it is.
Resolve = Callable[[Path], Path]


class Input(Settings):
    """One input: where it stood, what it was, and digests of it by what each is of.

    A set of patients without a key, in a folder that can't be written to, has no digests.
    """

    path: Annotated[str, AfterValidator(readable_name)]
    kind: Literal["data set", "run", "file", "folder"]
    digests: Mapping[str, str]


class Inputs(Settings):
    """The content of `private/inputs.json`: inputs by the keys of their settings."""

    schema_version: Literal[1] = 1
    inputs: Mapping[str, Input]


def made_from(folder: Path) -> list[Path]:
    """The runs and data sets that a folder was made from, of those that still stand there.

    None for what was received: what it was made from stays behind with its private part.
    """
    if not (folder / INPUTS_FILE).is_file():
        return []
    inputs = read_json_as(Inputs, folder / INPUTS_FILE).inputs.values()
    named = [Path(one.path) for one in inputs if one.kind in ("run", "data set")]
    return [path for path in named if path.is_dir()]


def as_named(path: Path) -> Path:
    """A path as it is: what `Resolve` is for stages that take no names."""
    return path


def named_inputs(settings: Settings) -> dict[str, Path]:
    """The paths that a stage reads, by the dotted keys of its settings."""
    return dict(_paths(settings, ""))


def _paths(value: Any, key: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield key, value
    elif isinstance(value, Settings):
        by_sha256 = "sha256" in type(value).model_fields  # of what the paths beside it name
        for name, part in value:
            if name not in OUTPUTS and not (by_sha256 and isinstance(part, Path)):
                yield from _paths(part, f"{key}.{name}" if key else name)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _paths(part, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _paths(part, f"{key}.{number}")


def read_inputs(
    paths: Mapping[str, Path],
    *,
    resolve: Resolve = as_named,
    known: dict[Path, Input | None] | None = None,
) -> dict[str, Input]:
    """What stands at these paths now, by the same keys; what is no input any more is left out.

    Args:
        paths: by the keys of settings.
        resolve: gives the folder of a path that is a name.
        known: what was read a moment ago, by path; what is read is added.

    Raises:
        InputError: when a data set is damaged.
    """
    known = {} if known is None else known
    for path in paths.values():
        if path not in known:
            known[path] = _read(path, resolve(path))
    there = {key: known[path] for key, path in paths.items()}
    return {key: one for key, one in there.items() if one is not None}


def _read(named: Path, path: Path) -> Input | None:
    kind: Literal["data set", "run", "file"]
    if (path / "dataset.json").is_file():
        kind, digests = "data set", _set_digests(path)
    elif (path / "model" / _MODEL_SETTINGS).is_file():
        kind, digests = "run", {"model": _model_digest(path / "model")}
    else:
        files = [path, *(path / name for name in _MAIN_FILES)]
        file = next((one for one in files if one.is_file()), None)
        if file is None:
            return None
        kind, digests = "file", {"file": _file_digest(file)}
    # whole, since it may be looked for from another folder; a name stays one
    where = os.path.abspath(named) if named == path else str(named)
    return Input(path=where, kind=kind, digests=digests)


def _set_digests(root: Path) -> dict[str, str]:
    try:
        return set_digests(root)
    except RunError:  # what needs the key says so itself
        return {}


def _model_digest(model: Path) -> str:
    """A digest of a run's model: of its settings and its weights, whatever the one says of these.

    Public weights that stand beside them are named by their SHA-256 in the settings.
    """
    files = (model / name for name in (_MODEL_SETTINGS, *_WEIGHTS))
    return " ".join(_file_digest(path) for path in files if path.is_file())


def _file_digest(path: Path) -> str:
    state = FileState.of(path.stat())
    return _digest_in(path, state) if state.is_settled(clock_ns()) else sha256_file(path)


@lru_cache(maxsize=4096)
def _digest_in(path: Path, state: FileState) -> str:
    """The digest of a file while it is in this state: a study asks for the same ones many times."""
    return sha256_file(path)


def write_inputs(folder: Path, inputs: Mapping[str, Input]) -> None:
    """Note what the result in this folder was, or is being, made from."""
    (folder / INPUTS_FILE).parent.mkdir(mode=0o700, exist_ok=True)
    write_json(folder / INPUTS_FILE, as_json(inputs))


def as_json(inputs: Mapping[str, Input]) -> dict[str, Any]:
    """The content of the note."""
    return Inputs(inputs=inputs).model_dump(mode="json")


def noted_inputs(folder: Path) -> Mapping[str, Input] | None:
    """What the result in this folder was made from; None where an earlier version made it.

    Raises:
        InputError: when the note is damaged.
    """
    path = folder / INPUTS_FILE
    return read_json_as(Inputs, path).inputs if path.is_file() else None


def noted_paths(folder: Path) -> dict[str, Path]:
    """Where the inputs of the result in this folder stood, by the keys of their settings."""
    return {key: Path(one.path) for key, one in (noted_inputs(folder) or {}).items()}


def changed_inputs(noted: Mapping[str, Input], now: Mapping[str, Input]) -> list[str]:
    """What is another input than it was, a line for each key; what is not there now is not told."""
    lines = []
    for key, before in noted.items():
        after = now.get(key)
        if after is None or not _comparable(before, after):
            continue
        if (before.kind, before.digests) == (after.kind, after.digests):
            continue
        parts = {*before.digests, *after.digests}
        other = [part for part in _CHANGED if part in parts]
        other = [part for part in other if before.digests.get(part) != after.digests.get(part)]
        if before.kind != after.kind:
            why = f"it was a {before.kind}, and is a {after.kind} now"
        elif "key" in other:  # under another key all digests are others
            why = _CHANGED["key"]
        else:
            why = ", and ".join(_CHANGED[part] for part in other)
        lines.append(f"{key}: has changed since: {why}")
    return lines


def refuse_changed(
    folder: Path, now: Callable[[], Mapping[str, Input]], *, mend: str = MEND
) -> None:
    """Refuse to give out what was made from other inputs than stand there now.

    Of a result of an earlier version, and of inputs that are gone, it can't be told; a line of the
    log says so.

    Args:
        folder: of the result.
        now: gives what stands there now.
        mend: what to do about it.

    Raises:
        InputError: naming each input that has changed, and what of it.
    """
    noted = noted_inputs(folder)
    if noted is None:
        log.info(
            "%s: made by an earlier version, which noted no digests of its inputs, so whether they "
            "are still the same can't be told",
            folder,
        )
        return
    there = now()
    if lines := changed_inputs(noted, there):
        head = f"{folder}: was made from other inputs than stand there now:"
        raise InputError("\n  ".join([head, *lines, mend]))
    uncompared = [
        key
        for key, before in noted.items()
        if (after := there.get(key)) is None or not _comparable(before, after)
    ]
    if uncompared:
        log.info(
            "%s: %s: gone, or without a key, so whether it is still the same can't be told",
            folder,
            ", ".join(uncompared),
        )


def _comparable(before: Input, after: Input) -> bool:
    """Whether two inputs can be compared: both have digests, or they are of different kinds."""
    return before.kind != after.kind or bool(before.digests and after.digests)
