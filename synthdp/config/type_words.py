"""What a setting takes, in plain words: made from its type, with its range."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from synthdp.config.typed_values import InWords, KeysOf

_LISTS, _MAPPINGS = (tuple, list, Sequence), (dict, Mapping)
#: A type, one of it, several.
_NOUNS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "words true or false"),
    int: ("whole number", "whole numbers"),
    float: ("number", "numbers"),
    str: ("text", "texts"),
    Path: ("path", "paths"),
    Any: ("any value", "values"),
}


def type_words(field: FieldInfo) -> str:
    """What a field takes, as in `whole number from 1 to 64, or none`."""
    words = _words(
        Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    )
    return f"{words}, or none" if _takes_none(field.annotation) else words


def choices(annotation: Any) -> tuple[str, ...]:
    """The words that a setting of this type takes by name, in the order of its declaration."""
    if get_origin(annotation) is Literal:
        return tuple(map(_word, get_args(annotation)))
    if annotation is bool:
        return ("true", "false")
    if annotation is type(None):
        return ("none",)
    if get_origin(annotation) is Annotated:
        return choices(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(word for part in get_args(annotation) for word in choices(part))
    return ()


def _takes_none(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _takes_none(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return any(_takes_none(part) for part in get_args(annotation))
    return annotation is type(None)


def _words(annotation: Any, *, several: bool = False) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        words = _annotated_words(annotation, several=several)
    elif origin in (Union, UnionType):
        words = _union_words(annotation, several=several)
    elif origin is Literal:
        named = "words out of " if several else "one of "
        literal = [_word(word) for word in get_args(annotation)]
        words = (named if len(literal) > 1 else "") + ", ".join(literal)
    elif origin in _LISTS:
        words = _list_words(get_args(annotation))
    elif origin in _MAPPINGS:
        key, value = (_words(part, several=True) for part in get_args(annotation))
        words = f"mapping of {key} to {value}"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        words = "sections" if several else "section"
    else:
        words = _NOUNS.get(annotation, _NOUNS[Any])[several]
    return words


def _union_words(annotation: Any, *, several: bool) -> str:
    parts = [part for part in get_args(annotation) if part is not type(None)]
    literals = [part for part in parts if get_origin(part) is Literal]
    if len(literals) == len(parts):
        return _words(Literal[tuple(word for part in parts for word in get_args(part))])
    phrases = list(dict.fromkeys(_words(part, several=several) for part in parts))
    ranges = (" from ", " at least ", " above ", "list of ")
    long = any(word in f" {phrase}" for phrase in phrases for word in ranges)
    return (", or " if long else " or ").join(phrases)


def _word(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _list_words(items: Sequence[Any]) -> str:
    if Ellipsis not in items:
        return f"list of {len(items)} {_words(items[0], several=True)}"
    return f"list of {_words(items[0], several=True)}"


def _annotated_words(annotation: Any, *, several: bool) -> str:
    inner, *marks = get_args(annotation)
    for mark in marks:
        if isinstance(mark, InWords):
            return mark.several if several and mark.several else mark.words
        if isinstance(mark, KeysOf):
            return "section"
    limits = [
        one for mark in marks for one in (mark.metadata if isinstance(mark, FieldInfo) else [mark])
    ]
    return _words(inner, several=several) + _range_words(limits)


def _range_words(limits: Sequence[Any]) -> str:
    """A range as it follows a noun; empty where there is none."""
    ends = {
        name: value
        for limit in limits
        for name in ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length")
        if (value := getattr(limit, name, None)) is not None
    }
    text = _ends_in_words(ends)
    if "multiple_of" in ends:
        text += f", a multiple of {_number(ends['multiple_of'])}"
    shortest, longest = ends.get("min_length", 0), ends.get("max_length")
    if longest is not None:
        text += f" (at most {longest})" if shortest <= 1 else f" ({shortest} to {longest})"
    return text


def _ends_in_words(limits: Mapping[str, Any]) -> str:
    """A range as in ` from 0 to below 1` or ` above 0, at most 100`; empty without ends."""
    least, above, most, below = (
        _number(limits[name]) if name in limits else "" for name in ("ge", "gt", "le", "lt")
    )
    if least and (most or below):
        return f" from {least} to {most}" if most else f" from {least} to below {below}"
    low = f" at least {least}" if least else f" above {above}" if above else ""
    high = f" at most {most}" if most else f" below {below}" if below else ""
    return f"{low},{high}" if low and high else low + high


def _number(value: float) -> str:
    text = str(value) if isinstance(value, int) else f"{value:g}"
    return text.replace("e-0", "e-").replace("e+0", "e")
