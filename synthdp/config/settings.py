"""Frozen typed settings: YAML files and `key=value` overrides, every error at once."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from synthdp.config.packaged import config_file
from synthdp.config.typed_values import InWords, is_section, read_value, syntax_problem, typing
from synthdp.config.yaml_core import dump_yaml, read_yaml
from synthdp.errors import MAX_QUOTED_CHARS, InputError, quoted
from synthdp.storage.files import read_json

#: What an error lists and quotes at most.
MAX_LISTED = 50
MAX_MESSAGE_CHARS = 500
#: The longest name of a file or folder, and the longest path, that file systems take.
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095
#: Marks a setting, in `Annotated`, that came after the first studies: while it is None, the names
#: of run folders (`synthdp.runs.folder.StageCall`) are what they were without it.
ADDED_LATER = "added later"


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields.get(info.field_name or "")
        annotation = Any if field is None else field.annotation
        if _holds_truth(value) and not _takes_bool(annotation):
            raise ValueError("true and false are no value for this key")
        if isinstance(value, str):
            if annotation is bool and value not in ("true", "false", "True", "False"):
                raise ValueError("write true or false")
            if not value and _takes_path(annotation):  # which `Path` makes the working directory
                raise ValueError("is empty; name a path, and the working directory as .")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _paths_can_be_looked_up(cls, value: Any) -> Any:
        for path in value if isinstance(value, tuple) else (value,):
            problem = _path_problem(path) if isinstance(path, Path) else None
            if problem is not None:
                raise ValueError(problem)
        return value


#: An address, whose slashes `Path` has made one; a drive of Windows has one letter.
_ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")
_VARIABLE = re.compile(r"^\$(?:[A-Za-z_]\w*|\{[^}]*\})")


def _path_problem(path: Path) -> str | None:
    """What is wrong with a path wherever it leads, in words."""
    if "\0" in str(path):
        return "a path with a character NUL, which no file system takes"
    if _is_too_long(path):
        return "a path that is too long for a file system"
    first = path.parts[0] if path.parts else ""
    if first.startswith("~"):
        return (
            "nothing expands the ~ here; write the path in full, or let the shell do it ($HOME/...)"
        )
    if any(_VARIABLE.match(part) for part in path.parts):
        return "nothing expands variables here; write the path in full, or let the shell do it"
    if (address := _ADDRESS.match(str(path))) is not None:
        return f"{address[1]}: makes an address, and not a path of this machine; " + (
            "leave file:// out" if address[1] == "file" else "copy what is there to a folder"
        )
    return None


def _is_too_long(path: Path) -> bool:
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    return longest > MAX_NAME_BYTES or len(os.fsencode(path)) > MAX_PATH_BYTES


def _holds_truth(value: Any) -> bool:
    """Whether a value is a truth value, numpy's too, or a list with one in it."""
    if isinstance(value, list | tuple):
        return any(_holds_truth(one) for one in value)
    return isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"


def _takes_bool(annotation: Any) -> bool:
    if annotation in (bool, Any) or isinstance(annotation, TypeVar):
        return True
    return any(part is True or _takes_bool(part) for part in get_args(annotation))


def _takes_path(annotation: Any) -> bool:
    return annotation is Path or any(_takes_path(part) for part in get_args(annotation))


SettingsType = TypeVar("SettingsType", bound=Settings)


def _none_word(value: Any) -> Any:
    return None if value == "none" else value


#: Takes the word `none` for no value, in `Annotated`.
NONE_WORD = BeforeValidator(_none_word)

#: The largest seed: a stage adds small numbers to it, and torch takes 64 bits.
MOST_SEED = 2**63 - 1


def _is_a_seed(value: int) -> int:
    if not 0 <= value <= MOST_SEED:
        raise ValueError(f"a seed is a whole number from 0 to {MOST_SEED}")
    return value


#: What moves initialisation, splits of public sets and augmentation, and no noise.
Seed = Annotated[
    int,
    AfterValidator(_is_a_seed),
    InWords("whole number from 0 to 2^63 - 1", "whole numbers from 0 to 2^63 - 1"),
]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


#: Several names, of which one alone may stand without a list.
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


def apply_overrides(
    values: Mapping[str, Any], overrides: Sequence[str], cls: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Return `values` with each `a.b=value` of `overrides` put in its place, read by its type.

    Args:
        values: of a settings file.
        overrides: what the command line says; no two of them may be about one setting.
        cls: declares the types of settings (`synthdp.config.typed_values`); None where they are
        unknown.

    Raises:
        InputError: with every override at once that is no `key=value`, is empty, is about a setting
            that another one is about, would drop settings of the file unseen, or goes through
            something that has no keys.
    """
    merged: dict[str, Any] = _copied(values)
    problems = [problem for word in overrides if (problem := syntax_problem(word)) is not None]
    pairs = [word.partition("=")[::2] for word in overrides if syntax_problem(word) is None]
    problems += _said_twice([key for key, _ in pairs])
    for key, text in () if problems else pairs:
        try:
            value = read_value(cls, key, text)
            _put(merged, key, value, drops=cls is None or not is_section(cls, key))
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    return merged


def _said_twice(keys: Sequence[str]) -> list[str]:
    """A line for each key that stands twice, or inside another one."""
    counts = Counter(keys)
    lines = [f"{key}: given {count} times; keep one" for key, count in counts.items() if count > 1]
    for key in counts:
        above = [whole for whole in counts if key.startswith(f"{whole}.")]
        lines += [f"{key}: {whole} is given as a whole too; keep one" for whole in above]
    return lines


def _put(values: dict[str, Any], key: str, value: Any, *, drops: bool) -> None:
    """Put a value at a dotted key; unless it `drops` what is there, every key there stays one."""
    *parents, last = key.split(".")
    level = values
    for parent in parents:
        level = level.setdefault(parent, {})
        if not isinstance(level, dict):
            raise InputError(f"{key}: {parent} is a single value and has no keys of its own")
    before = level.get(last)
    if not drops and isinstance(before, Mapping) and isinstance(value, Mapping):
        lost = [f"{key}.{name}" for name in before if name not in value]
        if lost:
            raise InputError(
                f"{key}: would drop {', '.join(lost)} of the settings file; override single keys, "
                f"as in {key}.{next(iter(value), 'key')}=..., or name all of them"
            )
    level[last] = value


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def read_settings(cls: type[BaseModel], path: Path) -> Mapping[str, Any]:
    """Read a file that holds settings of type `cls`, as plain values that are not checked yet.

    Raises:
        InputError: when it is missing, too large or no mapping, or with every value at once that is
            not written as its setting asks (`synthdp.config.typed_values`).
    """
    problems: list[str] = []
    values = read_yaml(path, prepare=typing(cls, problems))
    if problems:
        raise InputError("\n".join([f"{path}:", *(f"  {problem}" for problem in problems)]))
    return values


def load_settings(
    cls: type[SettingsType],
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    beneath: Path | None = None,
) -> SettingsType:
    """Read settings of type `cls` from `path` and `overrides`.

    Args:
        cls: of the settings.
        path: of a settings file, the name of one that comes with synthdp, or None.
        overrides: what the command line says.
        beneath: a settings file whose keys count where neither `path` nor `overrides` has them.

    Raises:
        InputError: with every error at once, each on its line.
    """
    values: dict[str, Any] = {}
    for file in (beneath, path):
        values |= read_settings(cls, config_file(file)) if file is not None else {}
    merged = apply_overrides(values, overrides, cls)
    return validate_settings(cls, merged, where=str(path) if path else "settings")


def validate_settings(
    cls: type[SettingsType], values: Mapping[str, Any], *, where: str
) -> SettingsType:
    """Build `cls` from plain values.

    Raises:
        InputError: with every error at once, each on its line.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        lines = [_explained(cls, dict(detail)) for detail in details[:MAX_LISTED]]
        if len(details) > MAX_LISTED:
            lines.append(f"... and {len(details) - MAX_LISTED} more")
        raise InputError("\n".join([f"{where}:", *(f"  {line}" for line in lines)])) from None


def read_json_as(cls: type[SettingsType], path: Path, *, where: str = "") -> SettingsType:
    """Read a JSON file that holds a `cls`.

    Args:
        cls: what it is to hold.
        path: the file.
        where: what the error calls it; the names of its folder and file when empty.

    Raises:
        InputError: when it is missing, not JSON within the bounds of `read_json`, or no `cls`:
            with every error at once, each on its line.
    """
    where = where or f"{path.parent.name}/{path.name}"
    return validate_settings(cls, read_json(path), where=where)


def _explained(cls: type[BaseModel], detail: Mapping[str, Any]) -> str:
    location = ".".join(
        str(part) if str(part).isidentifier() or isinstance(part, int) else quoted(part)
        for part in detail["loc"]
    )
    if detail["type"] == "extra_forbidden":
        *parents, last = detail["loc"]
        level = _level_at(cls, parents)
        known = sorted(level.model_fields) if level is not None else []
        close = _keys_below(level, str(last)) or difflib.get_close_matches(
            str(last)[:MAX_QUOTED_CHARS], known, n=1
        )
        hint = f", did you mean {' or '.join(close)}?" if close else f" (known: {', '.join(known)})"
        return f"{location}: unknown key{hint}"
    if detail["type"] == "missing":
        return f"{location}: missing; set it in the file or on the command line"
    message = str(detail["msg"]).removeprefix("Value error, ")[:MAX_MESSAGE_CHARS]
    shown = detail.get("input")
    simple = isinstance(shown, str | int | float | bool)
    where = f"{location}: " if location else ""  # what is wrong of several keys names them itself
    return f"{where}{message}" + (f" (got {quoted(shown)})" if simple else "")


def _level_at(cls: type[BaseModel], parents: Sequence[int | str]) -> type[BaseModel] | None:
    """The settings below `parents`; None where these are no settings."""
    level: type[BaseModel] | None = cls
    for parent in parents:
        field = level.model_fields.get(str(parent)) if level is not None else None
        if field is not None:
            level = _settings_in(field.annotation)
    return level


def _keys_below(level: type[BaseModel] | None, name: str) -> list[str]:
    """The keys of sections of these settings that have this very name, as `volumes.tilt`."""
    sections = {} if level is None else level.model_fields
    inner = {key: _settings_in(field.annotation, within=_ONE) for key, field in sections.items()}
    return [f"{key}.{name}" for key, one in inner.items() if one and name in one.model_fields]


_ONE = (Union, UnionType, Annotated)
_ONE_OR_MANY = (*_ONE, tuple, list, dict)


def _settings_in(
    annotation: Any, *, within: Sequence[Any] = _ONE_OR_MANY
) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in within:
        parts = (_settings_in(part, within=within) for part in get_args(annotation))
        return next((part for part in parts if part is not None), None)
    return None


def dump_settings(settings: Settings) -> str:
    """The settings as YAML that `load_settings` reads back."""
    return dump_yaml(settings.model_dump(mode="json"))
