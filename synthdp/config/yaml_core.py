"""YAML by the core schema of version 1.2: what stands there, in bounded time and memory.

PyYAML follows version 1.1, in which `no` is false, `6:30` is 390, `017` is 15 and `2024-01-01` is a
date. Here `true` and `false` alone are truth values, `0o17` is octal, and what is neither a number
nor `null` is text (https://yaml.org/spec/1.2.2/#103-core-schema). Merge keys (`<<`) are followed.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from synthdp.errors import InputError, quoted
from synthdp.storage.files import MAX_DEPTH, MAX_DIGITS, read_text

#: Bounds of a settings file: its size, and its values once every alias stands for what it names.
MAX_SETTINGS_BYTES = 2**17
MAX_SETTINGS_VALUES = 2**17

_TAG = "tag:yaml.org,2002:"
NULL, TEXT = f"{_TAG}null", f"{_TAG}str"
_NULL = re.compile(r"(?:null|Null|NULL|~|)$")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_OCTAL_ONCE = re.compile(r"[-+]?0[0-9]+$")


#: Gets a document and its nodes, before values are made of them.
Prepare: TypeAlias = Callable[[str, yaml.Node], None]


class _Loader(yaml.SafeLoader):
    """Builds values by the core schema; `prepare` may see the nodes before."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (as PyYAML's own, which this one leaves behind)

    def __init__(self, text: str, prepare: Prepare | None) -> None:
        super().__init__(text)
        self._text = text
        self._prepare = prepare

    def get_single_data(self) -> Any:
        """The document's value; aliases that stand for too much are refused before it is built."""
        node = self.get_single_node()
        if node is None:
            return None
        self._refuse_large(node)
        if self._prepare is not None:
            self._prepare(self._text, node)
        return self.construct_document(node)

    def _refuse_large(self, root: yaml.Node) -> None:
        """Refuse a node that holds itself, or holds too many values when aliases are followed."""
        counts: dict[int, int] = {}  # of values below a node, which an alias may name again

        def counted(node: yaml.Node, depth: int) -> int:
            if depth > MAX_DEPTH:
                problem = f"nested too deeply, more than {MAX_DEPTH} levels"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
            known = counts.get(id(node))
            if known == 0:
                problem = "an alias stands inside what it names"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
            if known is None:
                counts[id(node)] = 0
                known = counts[id(node)] = 1 + sum(
                    counted(child, depth + 1) for child in _children(node)
                )
            if known > MAX_SETTINGS_VALUES:
                problem = f"aliases make more than {MAX_SETTINGS_VALUES:,} values of this"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
            return known

        counted(root, 0)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem = "a key is a list or a mapping; write a word"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if key.value in seen:
                problem = f"the key {quoted(key.value)} stands twice; keep one"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        number = node.tag.endswith((":int", ":float"))
        if isinstance(value, str) and ("\0" in value or (number and len(value) > MAX_DIGITS)):
            problem = f"a number of more than {MAX_DIGITS} digits" if number else "a character NUL"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value

    def construct_core_int(self, node: yaml.ScalarNode) -> int:
        """A whole number; one that was octal in YAML 1.1 and is decimal now is refused."""
        text = str(self.construct_scalar(node))
        if _OCTAL_ONCE.match(text):
            digits = text.lstrip("+-0") or "0"
            problem = (
                f"{text} was octal in YAML 1.1 and is decimal in 1.2; write {digits}, or "
                f"0o{digits} if it is octal"
            )
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return int(text, 0)


def _children(node: yaml.Node) -> list[yaml.Node]:
    """The nodes right below one."""
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


for _name, _pattern, _first in (
    ("null", _NULL, ["n", "N", "~", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", re.compile(r"<<$"), ["<"]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", _pattern, _first)
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_core_int)


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that either version of YAML, or a person, would take for another kind."""


for _name, _pattern in (
    ("int", _INT),
    ("float", _FLOAT),
    ("null", re.compile(r"(?:(?i:null|nil|undefined|~)|None|NONE)$")),
):
    _Dumper.add_implicit_resolver(f"{_TAG}{_name}", _pattern, None)


def parse_yaml(text: str, *, where: str, prepare: Prepare | None = None) -> Any:
    """Parse YAML safely.

    Args:
        text: one document.
        where: names the source in the error.
        prepare: may change the nodes.

    Raises:
        InputError: when the text is not YAML.
    """
    return _built(lambda: _Loader(text, prepare).get_single_data(), where)


def plain_scalar(text: str, *, where: str) -> Any:
    """What the core schema makes of all of a text, whatever characters it has.

    Raises:
        InputError: when it is a number of too many digits, or one that was octal before.
    """
    loader = _Loader("", None)
    node = yaml.ScalarNode(loader.resolve(yaml.ScalarNode, text, (True, False)), text)
    if node.tag.endswith(":merge"):
        return text
    return _built(lambda: loader.construct_object(node), where)


def _built(build: Callable[[], Any], where: str) -> Any:
    """What `build` gives; every way in which YAML is refused is an InputError.

    Raises:
        InputError: when it is.
    """
    try:
        return build()
    except RecursionError as error:
        raise InputError(f"{where}: nested too deeply for a settings file") from error
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "not valid YAML"
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"{where}{line}: {problem}") from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        # what PyYAML's own readers of dates, numbers and bytes let through
        raise InputError(
            f"{where}: a value is not of the kind that it is written as, such as a date that no "
            "calendar has; put it in quotes if it is a word"
        ) from error


def read_yaml(path: Path, *, prepare: Prepare | None = None) -> Mapping[str, Any]:
    """Read a settings file: one YAML mapping; `prepare` as in `parse_yaml`.

    Raises:
        InputError: when the file is missing, too large, or no mapping.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such settings file")
    text = read_text(path, MAX_SETTINGS_BYTES, where=str(path))
    content = parse_yaml(text, where=str(path), prepare=prepare)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: a settings file holds `key: value` lines at its top level")
    return content


def yaml_quoted(text: str) -> str:
    """A text as YAML, whatever stands in it; where lines end in it, as JSON, which YAML takes."""
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else json.dumps(text)


def yaml_listed(words: Iterable[str]) -> str:
    """Words as a list of YAML."""
    return f"[{', '.join(map(yaml_quoted, words))}]"


def dump_yaml(values: Any, *, flow_leaves: bool = False) -> str:
    """Plain values as YAML that `parse_yaml`, and readers of version 1.1, read back alike.

    With `flow_leaves`, lists and mappings of plain values alone stand on one line.
    """
    text: str = yaml.dump(
        values,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100 if flow_leaves else None,
        default_flow_style=None if flow_leaves else False,
    )
    return text
