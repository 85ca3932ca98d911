"""What is written for a setting, read by the type that the setting declares.

The rule, for files and for `key=value` alike: where a setting takes text (words, paths, patterns),
the value is the very text that stands there; all other values are YAML 1.2 (`yaml_core`). The word
`none`, spelled so, unsets a setting that may be unset. An empty value is an error for every
setting: it is what an unset variable of a shell leaves behind.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from synthdp.config.yaml_core import NULL, TEXT, Prepare, parse_yaml, plain_scalar
from synthdp.errors import InputError, quoted

#: Words that mean nothing in some language, and no value here.
_NOTHING = ("none", "null", "nil", "undefined", "~")
#: What word processors make of quotation marks and of the two dashes before an option.
_CURLY = "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
TYPOGRAPHIC_DASHES = tuple("\u2010\u2011\u2012\u2013\u2014\u2015\u2212")
_LISTS = (tuple, list, set, frozenset, Sequence)
_MAPPINGS = (dict, Mapping)


@dataclass(frozen=True)
class KeysOf:
    """Marks a mapping, in `Annotated`, as some of the settings of a class that is imported late."""

    settings: Callable[[], type[BaseModel]]
    stage: str


@dataclass(frozen=True)
class InWords:
    """Marks a setting's type, in `Annotated`, with the words by which help names what it takes.

    several: the words for several of it. whole: it is typed as one value, though a class of
    settings stands for it.
    """

    words: str
    several: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Takes:
    """What a setting takes as a single value.

    text: words or paths, and no number: what is written is the value. paths: of these, paths alone
    or among words. unset: it may be None. none_word: the word `none` has a meaning of its own.
    containers: it takes a list or a mapping too.
    """

    text: bool
    paths: bool
    unset: bool
    none_word: bool
    containers: bool


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, without what `Annotated` adds."""
    if get_origin(annotation) is Annotated:
        first, *marks = get_args(annotation)
        late = [mark for mark in marks if isinstance(mark, KeysOf)]
        return [late[0].settings()] if late else _alternatives(first)
    if get_origin(annotation) in (Union, UnionType):
        return [one for part in get_args(annotation) for one in _alternatives(part)]
    return [annotation]


def _is_settings(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _annotation(field: FieldInfo) -> Any:
    late = [mark for mark in field.metadata if isinstance(mark, KeysOf)]
    return Annotated[field.annotation, late[0]] if late else field.annotation


def _items(alternatives: Sequence[Any]) -> Any:
    """The annotation of what lists among the alternatives hold; Any where there is none."""
    items: list[Any] = []
    for one in alternatives:
        if get_origin(one) in _LISTS:
            items += [part for part in get_args(one) if part is not Ellipsis]
    return Union[tuple(items)] if items else Any  # noqa: UP007 (made of a list)


def takes_of(annotation: Any) -> Takes:
    """What a setting with this annotation takes as a single value."""
    alternatives = _alternatives(annotation)
    words = {word for one in alternatives if get_origin(one) is Literal for word in get_args(one)}
    single = [one for one in alternatives if isinstance(one, type) and one is not type(None)]
    single = [one for one in single if get_origin(one) is None]
    lists = [one for one in alternatives if get_origin(one) in _LISTS]
    mappings = [one for one in alternatives if get_origin(one) in _MAPPINGS or _is_settings(one)]
    anything = any(one is Any or isinstance(one, TypeVar) for one in alternatives)
    if lists and not single and not words and not anything:
        inner = takes_of(_items(alternatives))  # one value may stand for a list of one
        return Takes(
            text=inner.text and not mappings,
            paths=inner.paths,
            unset=type(None) in alternatives,
            none_word=inner.none_word,
            containers=True,
        )
    texts = [one for one in single if one is str or issubclass(one, Path)]
    text_words = {word for word in words if isinstance(word, str)}
    return Takes(
        text=bool(texts or text_words)
        and len(texts) == len(single)
        and text_words == words
        and not anything,
        paths=any(issubclass(one, Path) for one in texts),
        unset=type(None) in alternatives,
        none_word="none" in text_words,
        containers=bool(lists or mappings or anything),
    )


def _below(annotation: Any, key: str) -> Any:
    """The annotation of what stands under a key; Any where it is not known.

    A mapping with other keys than a section's may stand for one of these, which the section's class
    names by `stands_for`.
    """
    for one in _alternatives(annotation):
        if _is_settings(one):
            field = one.model_fields.get(key)
            if field is not None:
                return _annotation(field)
            if whole := getattr(one, "stands_for", ""):
                return _below(_annotation(one.model_fields[whole]), key)
        if get_origin(one) in _MAPPINGS:
            return get_args(one)[1]
    return Any


def _keys(annotation: Any) -> Any:
    """The annotation of the keys of a mapping: words, where nothing else is known."""
    for one in _alternatives(annotation):
        if get_origin(one) in _MAPPINGS:
            return get_args(one)[0]
    return Any


def _has_settings(annotation: Any) -> bool:
    """Whether the keys below are settings of their own, each with a default."""
    return any(map(_is_settings, _alternatives(annotation)))


def _takes_mapping(annotation: Any) -> bool:
    return any(
        get_origin(one) in _MAPPINGS or one in _MAPPINGS or _is_settings(one)
        for one in _alternatives(annotation)
    )


def with_paths(cls: Any, values: Any, change: Callable[[str, str], str], key: str = "") -> Any:
    """Plain values of settings in which `change(key, path)` stands for each path.

    Args:
        cls: of the settings, or the annotation of what the values are.
        values: as a file holds them.
        change: takes the key that a path stands under, of its section alone.
        key: of these values.
    """
    if isinstance(values, Mapping):
        return {
            name: with_paths(_below(cls, name), one, change, name) for name, one in values.items()
        }
    if isinstance(values, list):
        items = _items(_alternatives(cls))
        return [with_paths(items, one, change, key) for one in values]
    is_path = isinstance(values, str) and takes_of(cls).paths
    return change(key, values) if is_path else values


def is_section(cls: type[BaseModel], key: str) -> bool:
    """Whether a dotted key of settings names a section: settings of their own."""
    annotation: Any = cls
    for part in key.split("."):
        annotation = _below(annotation, part)
    return _has_settings(annotation)


def _nothing_problem(text: str, takes: Takes) -> str:
    """What is wrong with a word for nothing, in words."""
    if not takes.unset:
        return f"{quoted(text)} is no value here; name one, or leave the key out"
    named = f" (a file of that name is ./{text})" if takes.paths else ""
    return f"{quoted(text)} is no value here; write `none`, spelled so, to leave it unset{named}"


def _text_problem(text: str, takes: Takes, *, direct: bool) -> str | None:
    """What is wrong with text that stands for a setting, without quotes of YAML around it."""
    nothing = text.lower() in _NOTHING and not (text == "none" and takes.none_word)
    if nothing and (takes.paths or (direct and (text != "none" or takes.unset))):
        return _nothing_problem(text, takes)
    if len(text) > 1 and text[0] in _CURLY and text[-1] in _CURLY:
        return (
            f"{quoted(text)} stands in typographic quotes, which belong to no shell or file; type "
            "it with \" or '"
        )
    return None


class _Typing:
    """Marks the nodes of a YAML document by the types of a settings class, and notes problems.

    A run's config.yaml holds `null` for a setting that is not set, so that files may say it; what
    is typed on a command line may not (`null_unsets`).
    """

    def __init__(
        self, annotation: Any, problems: list[str], prefix: str = "", *, null_unsets: bool
    ) -> None:
        self._text = ""
        self._annotation = annotation
        self._problems = problems
        self._prefix = prefix
        self._null_unsets = null_unsets

    def __call__(self, text: str, node: yaml.Node) -> None:
        self._text = text
        self._mark(node, self._annotation, self._prefix, direct=True)

    def _mark(self, node: yaml.Node, annotation: Any, key: str, *, direct: bool) -> None:
        if isinstance(node, yaml.MappingNode):
            self._mark_mapping(node, annotation, key)
        elif isinstance(node, yaml.SequenceNode):
            items = _items(_alternatives(annotation))
            for index, item in enumerate(node.value):
                self._mark(item, items, f"{key}.{index}", direct=False)
        elif isinstance(node, yaml.ScalarNode) and node.style is None:
            self._mark_plain(node, takes_of(annotation), key, direct=direct)

    def _mark_mapping(self, node: yaml.MappingNode, annotation: Any, key: str) -> None:
        sections = _has_settings(annotation)
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                continue  # refused when the mapping is made
            if name.tag.endswith(":merge"):
                merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for one in merged:
                    self._mark(one, annotation, key, direct=False)
                continue
            if sections or takes_of(_keys(annotation)).text:
                name.tag = TEXT
            inner = f"{key}.{name.value}" if key else str(name.value)
            self._mark(value, _below(annotation, str(name.value)), inner, direct=sections)

    def _mark_plain(self, node: yaml.ScalarNode, takes: Takes, key: str, *, direct: bool) -> None:
        text = str(node.value)
        if text == "" and node.tag == NULL:
            self._problems.append(f"{key}: {_empty_problem(unset=takes.unset)}")
            return
        if text == "none" and takes.unset and not takes.none_word:
            node.tag = NULL
            node.value = "null"
            return
        if takes.unset and text == "null" and self._null_unsets:
            return
        if not takes.text:
            if takes.unset and text.lower() in _NOTHING:
                self._problems.append(f"{key}: {_nothing_problem(text, takes)}")
            return
        problem = _text_problem(text, takes, direct=direct) or self._cut_problem(node)
        if problem is not None:
            self._problems.append(f"{key}: {problem}")
        node.tag = TEXT

    def _cut_problem(self, node: yaml.ScalarNode) -> str | None:
        """What is wrong where YAML took the rest of a text for a comment, such as `site #2`."""
        line = self._text[node.end_mark.index :].partition("\n")[0]
        cut = re.match(r"[ \t]+(#[^\s#][^\n]*)", line)
        if cut is None:
            return None
        return (
            f"{quoted(node.value)} is followed by {quoted(cut[1].strip())}, which YAML takes for a "
            "comment; put the whole value in quotes if it belongs to it, or a blank after the # if "
            "it doesn't"
        )


def _empty_problem(*, unset: bool) -> str:
    """What is wrong with a value that is not there, in words."""
    mend = "write `none` to leave it unset, or leave the key out" if unset else "name one"
    return f"is empty, as an unset variable leaves it; {mend}"


def typing(cls: type[BaseModel], problems: list[str]) -> Prepare:
    """What makes a document's values those that `cls` declares, for `parse_yaml`.

    `problems` gets a line for each value that is refused.
    """
    return _Typing(cls, problems, null_unsets=True)


def read_value(cls: type[BaseModel] | None, key: str, text: str) -> Any:
    """The value that `text` stands for as the setting `key` (dotted) of `cls`.

    Without `cls`, all that is known of the setting is that it is one.

    Raises:
        InputError: when it is empty, or written in a way that can't be meant.
    """
    annotation: Any = Any if cls is None else cls
    for part in key.split("."):
        annotation = _below(annotation, part)
    takes = takes_of(annotation)
    problem = _shell_problem(text, takes)
    if problem is not None:
        raise InputError(f"{key}: {problem}")
    # Where no mapping is taken, a text may begin with a brace, as `{image_id}.png` does.
    opens = "[{" if not takes.text or _takes_mapping(annotation) else "["
    if takes.containers and text[0] in opens:
        problems: list[str] = []
        marked = _Typing(annotation, problems, key, null_unsets=False)
        value = parse_yaml(text, where=key, prepare=marked)
        if problems:
            raise InputError("\n".join(problems))
        return value
    if text == "none" and takes.unset and not takes.none_word:
        return None
    if takes.unset and text.lower() in _NOTHING and not (text == "none" and takes.none_word):
        raise InputError(f"{key}: {_nothing_problem(text, takes)}")
    if takes.text:
        problem = _text_problem(text, takes, direct=True)
        if problem is not None:
            raise InputError(f"{key}: {problem}")
        return text
    return plain_scalar(text, where=key)


def _shell_problem(text: str, takes: Takes) -> str | None:
    """What a shell, or the editor of its script, has done to a value."""
    if not text.strip():
        return _empty_problem(unset=takes.unset)
    if text.endswith("\r"):
        return (
            "ends in a carriage return: the script was saved with the line ends of Windows; save "
            "it with those of Unix (dos2unix)"
        )
    if text != text.strip():
        return f"{quoted(text)} begins or ends with a blank; write key=value without any"
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        return f"{quoted(text)} holds a control character"
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return (
            f"{quoted(text)} stands in quotes that the shell was to take away; leave one of the "
            "two pairs out"
        )
    return None


def syntax_problem(word: str) -> str | None:
    """What is wrong with a word of the command line that should be `key=value`."""
    key, equals, _ = word.partition("=")
    if word.startswith(TYPOGRAPHIC_DASHES):
        return f"{quoted(word)} begins with a typographic dash; type two hyphens"
    if not equals or not key or key != key.strip():
        return (
            f"{quoted(word)}: an override is written key=value, without blanks around the =, as in "
            "seed=3"
        )
    return None
