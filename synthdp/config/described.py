"""Every key of a settings class, described: made from its type, its default and its meaning.

What is described is what is checked: there is no second list of keys. A key below another is
written with a dot, and one of each entry of a list with `[]`, as in `evaluate_on[].split`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from synthdp.config.meanings import meanings
from synthdp.config.type_words import choices, type_words
from synthdp.config.typed_values import InWords, KeysOf
from synthdp.errors import InputError, nearest, quoted

MUST = "must be given"


@dataclass(frozen=True)
class DescribedKey:
    """One key: what it takes, what it is by default, what it means, and how it may be typed.

    key: dotted, from the stage's settings. default: as it is typed, or `MUST`, with the section in
    which it must be given. example: a whole `key=value`. choices: the words that it takes by name.
    others: where the keys below it are described, where they are not described here.
    """

    key: str
    takes: str
    default: str
    meaning: str
    example: str
    choices: tuple[str, ...] = ()
    others: str = ""

    @property
    def must_be_given(self) -> bool:
        """Whether it has no default, whatever sections are left out."""
        return self.default == MUST

    @property
    def has_default(self) -> bool:
        """Whether it has one; else it must be given, or in its section."""
        return not self.default.startswith(MUST)


def described(cls: type[BaseModel]) -> list[DescribedKey]:
    """All keys of a settings class, those that must be given first; sections with their keys."""
    return list(_keys(cls, "", {}))


def keys_of(cls: type[BaseModel], asked: str) -> list[DescribedKey]:
    """One key, and the keys below it.

    Raises:
        InputError: when there is no such key, with the one that is nearest.
    """
    known = described(cls)
    chosen = [
        one for one in known if one.key == asked or one.key.startswith((f"{asked}.", f"{asked}[]."))
    ]
    if chosen:
        return chosen
    names = [one.key for one in known]
    last = {name.rpartition(".")[2]: name for name in reversed(names)}
    close = nearest(asked, names) or last.get(nearest(asked, last) or "")
    hint = f"; did you mean {close}?" if close else ""
    raise InputError(f"{quoted(asked)}: no such key{hint}")


def _keys(
    cls: type[BaseModel], prefix: str, seen: dict[type[BaseModel], str], within: str = ""
) -> Iterator[DescribedKey]:
    """The keys of a class; `within` names the section that may be left out with all of them."""
    said = meanings(cls)
    fields = sorted(cls.model_fields.items(), key=lambda item: not item[1].is_required())
    for name, field in fields:
        key = f"{prefix}{name}"
        meaning, example = said[name]
        section = _section(field)
        others = _described_elsewhere(field, section, seen)
        below: list[DescribedKey] = []
        if section is not None and not others:
            in_list = get_origin(_plain(field.annotation)) is tuple
            seen[section] = key
            inner = within if field.is_required() and not in_list else key
            below = list(_keys(section, f"{key}[]." if in_list else f"{key}.", seen, inner))
        example = example or _example(field)
        shown = f"{key}={example}" if example else next((one.example for one in below), "")
        yield DescribedKey(
            key=key,
            takes=type_words(field),
            default=_default(field, section, within),
            meaning=meaning,
            example=shown.replace("[]", "") if not prefix.endswith("[].") else f"{name}: {example}",
            choices=choices(field.annotation),
            others=others,
        )
        yield from below


def _plain(annotation: Any) -> Any:
    """A type without None beside it."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return parts[0] if type(None) in get_args(annotation) and len(parts) == 1 else annotation


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The settings class of a section, or of each entry of a list of sections."""
    if any(isinstance(mark, InWords) and mark.whole for mark in field.metadata):
        return None
    plain = _plain(field.annotation)
    if get_origin(plain) is tuple:
        plain = get_args(plain)[0]
    return plain if isinstance(plain, type) and issubclass(plain, BaseModel) else None


def _described_elsewhere(
    field: FieldInfo, section: type[BaseModel] | None, seen: Mapping[type[BaseModel], str]
) -> str:
    for mark in field.metadata:
        if isinstance(mark, KeysOf):
            return f"its keys: `synthdp settings {mark.stage}`"
    known = seen.get(section) if section is not None else None
    return f"its keys: as of {known}" if known else ""


def _default(field: FieldInfo, section: type[BaseModel] | None, within: str) -> str:
    if field.is_required():
        return f"{MUST} in {within}" if within else MUST
    value = field.get_default(call_default_factory=True)
    if section is not None and isinstance(value, BaseModel):
        return "each key has its own"
    return _typed(value)


def _example(field: FieldInfo) -> str:
    """A value to show where none is written down: another word than the default, or the default."""
    default = field.default
    if default is PydanticUndefined or isinstance(default, BaseModel):
        return ""
    words = choices(field.annotation)
    other = [word for word in words if word not in (_typed(default), "none")]
    if other:
        return other[0]
    return "" if default in (None, "", (), {}) else _typed(default)


def _typed(value: Any) -> str:
    """A value as it is typed."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_typed(one)}' for key, one in value.items())}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_typed, value))}]"
    return str(value) or "empty"
