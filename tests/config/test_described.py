"""Every setting of every stage is described, and its example is one that the stage takes."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from synthdp.config.described import DescribedKey, described, keys_of
from synthdp.config.settings import Settings
from synthdp.config.typed_values import KeysOf, read_value
from synthdp.errors import InputError
from synthdp.stages import STAGES

#: What no one types: a whole statement.
_NOT_TYPED = ("statement",)


class Part(Settings):
    """A part."""

    width: float = Field(default=0.5, gt=0, le=1)
    """How wide it is."""


class Frame(Settings):
    """A frame."""

    colour: str
    """Its colour. Example: red"""


class Made(Settings):
    """Settings made up for these tests."""

    out: Path
    """The folder, which
    is made.
    Example: a b
    """

    kind: Literal["plain", "fancy"] | None = None
    """What kind it is."""

    counts: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2)
    """How many."""

    part: Part = Part()
    """A part of it."""

    frame: Frame | None = None
    """What is around it."""

    parts: tuple[Part, ...] = ()
    """Several. Example: [{width: 0.2}]"""

    untold: bool = False


def made() -> dict[str, DescribedKey]:
    return {one.key: one for one in described(Made)}


def test_a_key_is_described_by_type_default_and_the_text_beneath_it() -> None:
    keys = made()
    assert keys["out"] == DescribedKey(
        "out", "path", "must be given", "The folder, which is made.", "out=a b"
    )
    assert keys["kind"] == DescribedKey(
        *("kind", "one of plain, fancy, or none", "none", "What kind it is.", "kind=plain"),
        choices=("plain", "fancy", "none"),
    )
    counts = keys["counts"]
    assert counts.takes == "list of whole numbers at least 1"
    assert (counts.default, counts.example) == ("[1, 2]", "counts=[1, 2]")
    assert keys["part.width"].takes == "number above 0, at most 1"
    assert keys["part"].example == "part.width=0.5"  # a section shows a key of its own
    assert keys["parts"].others == "its keys: as of part"  # which are said once
    assert keys["frame.colour"].default == "must be given in frame"  # which may be left out
    assert not keys["frame.colour"].has_default
    assert keys["untold"].meaning == ""


def test_what_must_be_given_comes_first() -> None:
    assert next(iter(made())) == "out"


def test_a_key_or_a_section_is_looked_up() -> None:
    assert [one.key for one in keys_of(Made, "part")] == ["part", "part.width"]
    assert [one.key for one in keys_of(Made, "part.width")] == ["part.width"]
    with pytest.raises(InputError, match="no such key; did you mean kind"):
        keys_of(Made, "kid")
    with pytest.raises(InputError, match=r"no such key; did you mean part\.width"):
        keys_of(Made, "widht")


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_of_a_stage_has_a_meaning_and_an_example(stage: str) -> None:
    keys = described(STAGES[stage].settings_class())
    assert len(keys) >= 2
    assert [one.key for one in keys if not one.meaning] == []
    assert [one.key for one in keys if not one.example and one.key not in _NOT_TYPED] == []
    assert len({one.key for one in keys}) == len(keys)
    for one in keys:
        assert one.meaning.endswith("."), one
        assert "any value" not in one.takes, one


@pytest.mark.parametrize("stage", STAGES)
def test_every_example_is_taken(stage: str) -> None:
    """By the setting alone: what else a stage then asks for is another matter."""
    cls = STAGES[stage].settings_class()
    for one in described(cls):
        key, equals, text = one.example.partition("=")
        if "[]" in one.key or not equals:
            continue
        value = read_value(cls, key, text)
        try:
            TypeAdapter(_annotation(cls, key)).validate_python(value)
        except ValidationError as error:
            raise AssertionError(f"{stage}: {one.example}: {error}") from error


def _annotation(cls: Any, key: str) -> Any:
    first, _, rest = key.partition(".")
    field = cls.model_fields[first]
    late = [mark for mark in field.metadata if isinstance(mark, KeysOf)]
    if late:
        return dict[str, Any]
    if rest:
        return _annotation(_settings_of(field.annotation), rest)
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def _settings_of(annotation: Any) -> Any:
    parts = [annotation, *getattr(annotation, "__args__", ())]
    return next(part for part in parts if isinstance(part, type) and hasattr(part, "model_fields"))
