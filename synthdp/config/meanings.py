"""What each key of a settings class means: the text that stands beneath it in the source.

A key is described once, where it is declared:

    seed: Seed = 0
    \"\"\"Which images are drawn. Example: 3\"\"\"

What follows the word `Example:` is a value as it is typed on the command line. The source is read
when somebody asks, and not when a class is made, which would slow down every start.
"""

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache

from pydantic import BaseModel

_EXAMPLE = "Example: "


def meanings(cls: type[BaseModel]) -> Mapping[str, tuple[str, str]]:
    """Key -> its meaning and its example, either empty where the source does not say it.

    What a class says of a key that it inherits counts before what its parents say.
    """
    texts: dict[str, tuple[str, str]] = {}
    for one in reversed(cls.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            texts |= _of_module(one.__module__).get(one.__qualname__, {})
    return {key: texts.get(key, ("", "")) for key in cls.model_fields}


@cache
def _of_module(module: str) -> Mapping[str, Mapping[str, tuple[str, str]]]:
    """Class -> key -> what stands beneath it, of one module; nothing where its source is absent."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}
    return {node.name: _of_class(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _of_class(node: ast.ClassDef) -> Mapping[str, tuple[str, str]]:
    described = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                described[field.target.id] = _parted(" ".join(text.value.split()))
    return described


def _parted(text: str) -> tuple[str, str]:
    meaning, _, example = text.partition(_EXAMPLE)
    return meaning.strip(), example.strip()
