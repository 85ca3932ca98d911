"""One Python file out of several modules: a function, all that it needs of ours, and no more.

The text is the modules' own, so that the copy can't drift from them. TorchScript would be one file
as well, but is bound to versions of torch in both directions; source of plain tensor operations
runs on old and new ones, and can be read before it is trusted.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from synthdp.errors import RunError

OURS = ("gan", "synthdp")
THEIRS = ("torch", "numpy", "PIL")

Wanted = tuple[str, str]


@dataclass(frozen=True)
class _Module:
    """The text of one module, and what its top level binds: own names, and names from elsewhere."""

    name: str
    lines: list[str]
    own: dict[str, ast.stmt]
    imported: dict[str, tuple[ast.Import | ast.ImportFrom, ast.alias]]

    def text(self, node: ast.stmt) -> str:
        """A statement with its decorators, and the comment right above it."""
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(decorator.lineno for decorator in decorators)]) - 1
        while first > 0 and self.lines[first - 1].startswith("#"):
            first -= 1
        return "\n".join(self.lines[first : node.end_lineno])


def single_file(wanted: Sequence[Wanted], docstring: str) -> str:
    """The text of a module that holds what is wanted, each a module and a name in it.

    Raises:
        RunError: when something of ours that it needs can't be copied, or it needs a library other
            than torch, numpy, Pillow and Python's own.
    """
    modules: dict[str, _Module] = {}
    found: dict[str, set[str]] = {}
    imports: set[str] = set()
    for module, name in wanted:
        _follow((module, name), modules, found, imports)
    _refuse_same_names(found)
    definitions = [
        modules[name].text(node)
        for name in _in_order(modules)
        for node in dict.fromkeys(modules[name].own.values())
        if found[name] & set(_bound(node))
    ]
    head = f'"""{docstring}"""\n\nfrom __future__ import annotations\n'
    first = sorted(line for line in imports if _root(line) not in THEIRS)
    second = sorted(line for line in imports if _root(line) in THEIRS)
    parts = [head, "\n".join(first), "\n".join(second), "\n\n\n".join(definitions)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _follow(
    wanted: Wanted,
    modules: dict[str, _Module],
    found: dict[str, set[str]],
    imports: set[str],
) -> None:
    """Note a name, and everything that its definition uses in turn."""
    module_name, name = wanted
    if module_name not in modules:
        modules[module_name] = _read(module_name)
        found[module_name] = set()
    module = modules[module_name]
    if name in found[module_name]:
        return
    if name not in module.own:
        raise RunError(f"{module_name} has no definition of {name} that could be copied")
    found[module_name].add(name)
    for used in sorted(_used(module.own[name])):
        if used in module.own:
            _follow((module_name, used), modules, found, imports)
        elif used in module.imported:
            statement, alias = module.imported[used]
            source = statement.module if isinstance(statement, ast.ImportFrom) else alias.name
            if str(source).split(".")[0] not in OURS:
                imports.add(_import_line(statement, alias))
            elif isinstance(statement, ast.Import) or alias.asname:
                raise RunError(f"{module_name} imports {source} in a way that can't be copied")
            else:
                _follow((str(source), alias.name), modules, found, imports)


def _read(name: str) -> _Module:
    text = inspect.getsource(importlib.import_module(name))
    own: dict[str, ast.stmt] = {}
    imported: dict[str, tuple[ast.Import | ast.ImportFrom, ast.alias]] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported.update({alias.asname or alias.name: (node, alias) for alias in node.names})
        else:
            own.update(dict.fromkeys(_bound(node), node))
    return _Module(name, text.splitlines(), own, imported)


def _bound(node: ast.stmt) -> Iterator[str]:
    """The names that a statement of the top level binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name))


def _used(node: ast.stmt) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _import_line(statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    name = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
    if isinstance(statement, ast.Import):
        line = f"import {name}"
    else:
        line = f"from {statement.module} import {name}"
    if _root(line) not in (*THEIRS, *sys.stdlib_module_names):
        raise RunError(f"a package for medigan can't need {_root(line)}; only {', '.join(THEIRS)}")
    return line


def _root(import_line: str) -> str:
    return import_line.split()[1].partition(".")[0]


def _refuse_same_names(found: dict[str, set[str]]) -> None:
    seen: dict[str, str] = {}
    for module, names in found.items():
        for name in names:
            if name in seen:
                raise RunError(f"{module} and {seen[name]} both have a {name}; rename one")
            seen[name] = module


def _in_order(modules: dict[str, _Module]) -> list[str]:
    """The modules, each after those that it imports."""
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name in ordered or name not in modules:
            return
        for statement, _ in modules[name].imported.values():
            if isinstance(statement, ast.ImportFrom):
                visit(str(statement.module))
        ordered.append(name)

    for name in modules:
        visit(name)
    return ordered
