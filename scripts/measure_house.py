"""The house in figures: how large its files are, how they lean on each other, what names mean.

Measured are synthdp, gan and classify, with `ast`, in the working tree or at a commit; scripts are
counted apart, tests not at all. A room is a folder. `__init__.py` counts in files and lines, but
not in lengths, file names and files with one importer, nor as an importer.

- Own imports: own files that each file imports, at its top or in functions; two statements for the
  same one count once. Lines that are imports: those of all `import` and `from` statements.
- One importer: exactly one source file imports it, and `synthdp/stages.py` does not name it.
- Names with two meanings: public functions and classes at the top of two modules or more.
- Settings: single values that a class below `Settings` holds, nested classes counted through, and
  functions that take the class as an annotated argument.
- What a study reaches: files that `run_study` reaches by imports, its own included; arrows between
  them; arrows to a file that another arrow reached; different names imported over the arrows.
- Circles: groups of files that import each other at the top of their modules, type checkers' own
  imports apart.
- Vague words: identifiers (variables, arguments, attributes, definitions, imports, file names) that
  are the word, and in brackets those of which it is a part.
"""

import argparse
import ast
import io
import math
import re
import statistics
import subprocess
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES, SCRIPTS = ("synthdp", "gan", "classify"), "scripts"
TOPS = ("gan", "classify", "synthdp/study")
STAGES, BASE, ENTRY, MANY_VALUES = "synthdp.stages", "Settings", "run_study", 20
VAGUE = (
    *("place", "places", "found", "told", "standing", "answer", "claims", "findings"),
    *("contradictions", "hollow", "crew", "amount", "finished", "drawing", "joint"),
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Symbol = tuple[str, str]  # a module, and a name in it
Rows = dict[str, str]  # label -> figure


class Arrow(NamedTuple):
    """An import of an own module, or of a name in it; `late` within a function, or for type
    checkers alone."""

    importer: str
    imported: str
    name: str
    local: str
    late: bool


class SourceFile:
    """One Python file, parsed."""

    def __init__(self, path: Path, root: Path) -> None:
        text = path.read_text(encoding="utf-8")
        self.stem, self.is_init = path.stem, path.name == "__init__.py"
        self.room = path.parent.relative_to(root).as_posix()
        self.module = ".".join([*self.room.split("/"), *([] if self.is_init else [self.stem])])
        self.n_lines = len(text.splitlines())
        self.tree = ast.parse(text, str(path))
        self.nodes = list(ast.walk(self.tree))
        self.imports = [n for n in self.nodes if isinstance(n, ast.Import | ast.ImportFrom)]
        self.functions = [node for node in self.nodes if isinstance(node, FUNCTIONS)]
        defined = [node for node in self.tree.body if isinstance(node, (*FUNCTIONS, ast.ClassDef))]
        self.top = {node.name: node for node in defined}

    def alias(self, name: str) -> ast.expr | None:
        """What a name at the top is set to."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if ast.unparse(target) == name:
                    return node.value
        return None

    def identifiers(self) -> Iterator[str]:
        """Every name that the file writes, its own first."""
        yield self.stem
        for node in self.nodes:
            written = [getattr(node, key, None) for key in ("id", "arg", "attr", "name")]
            yield from (name for name in written if isinstance(name, str))

    def late_blocks(self) -> list[ast.AST]:
        """What is not run at the import: functions, and what stands below TYPE_CHECKING."""
        typed = [
            node
            for node in self.nodes
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ]
        return [*self.functions, *typed]

    def arrows(self, known: Collection[str]) -> Iterator[Arrow]:
        """Its imports of `known` modules, relative ones too."""
        package = self.room.replace("/", ".")
        late = {id(node) for block in self.late_blocks() for node in ast.walk(block)}
        for statement in self.imports:
            for alias in statement.names:
                base, name = alias.name, ""
                if isinstance(statement, ast.ImportFrom):
                    dots = "." * statement.level
                    base, name = resolve_name(dots + (statement.module or ""), package), base
                if f"{base}.{name}" in known:
                    base, name = f"{base}.{name}", ""
                if base in known:
                    local = alias.asname or alias.name
                    yield Arrow(self.module, base, name, local, id(statement) in late)


class House:
    """All source files, and what they import of each other."""

    def __init__(self, root: Path) -> None:
        paths = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
        self.files = [SourceFile(path, root) for path in paths]
        self.scripts = [SourceFile(path, root) for path in (root / SCRIPTS).glob("*.py")]
        self.modules = {file.module: file for file in self.files}
        self.concepts = [file for file in self.files if not file.is_init]
        self.arrows = [arrow for file in self.files for arrow in file.arrows(self.modules)]
        self._locals = {(arrow.importer, arrow.local): arrow for arrow in self.arrows if arrow.name}

    def pairs(self, *, late: bool = True) -> set[Symbol]:
        """(importing, imported) modules; without `late`, at the top of modules alone."""
        return {(a.importer, a.imported) for a in self.arrows if late or not a.late}

    def origin(self, module: str, name: str) -> Symbol:
        """The module that defines what `module` calls `name`, and its name there."""
        arrow = self._locals.get((module, name))
        return self.origin(arrow.imported, arrow.name) if arrow else (module, name)

    def bases(self, symbol: Symbol) -> list[Symbol]:
        """The classes from which a class inherits."""
        node = self.modules[symbol[0]].top.get(symbol[1])
        names = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
        return [self.origin(symbol[0], name) for name in names]

    def is_settings(self, symbol: Symbol) -> bool:
        """Whether the class stands below `Settings`."""
        return any(base[1] == BASE or self.is_settings(base) for base in self.bases(symbol))

    def settings_in(self, module: str, annotation: ast.AST) -> set[Symbol]:
        """The settings classes in an annotation, through names that stand for annotations."""
        classes = set()
        for node in ast.walk(annotation):
            if isinstance(node, ast.Name):
                symbol = self.origin(module, node.id)
                if self.is_settings(symbol):
                    classes.add(symbol)
                elif alias := self.modules[symbol[0]].alias(symbol[1]):
                    classes |= self.settings_in(symbol[0], alias)
        return classes

    def keys(self, symbol: Symbol) -> dict[str, int]:
        """How many single values stand under each key of a settings class."""
        sizes = {key: size for base in self.bases(symbol) for key, size in self.keys(base).items()}
        node = self.modules[symbol[0]].top.get(symbol[1])
        for field in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(field, ast.AnnAssign):
                nested = self.settings_in(symbol[0], field.annotation)
                size = sum(sum(self.keys(one).values()) for one in nested)
                sizes[ast.unparse(field.target)] = size or 1
        return sizes

    def settings_taken(self, file: SourceFile, signature: ast.arguments) -> set[Symbol]:
        """The settings classes that a function's signature takes as annotated arguments."""
        arguments = (node for node in ast.walk(signature) if isinstance(node, ast.arg))
        annotations = (argument.annotation for argument in arguments if argument.annotation)
        return {s for node in annotations for s in self.settings_in(file.module, node)}


def reached(start: str, pairs: Iterable[Symbol]) -> set[str]:
    """The modules to which arrows lead from `start`; itself only in a circle."""
    after = defaultdict(set)
    for importer, imported in pairs:
        after[importer].add(imported)
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = after[waiting.pop()] - seen
        seen |= fresh
        waiting += fresh
    return seen


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """For each first word of the pairs its second words, sorted, each once."""
    groups = defaultdict(set)
    for first, second in pairs:
        groups[first].add(second)
    return {first: sorted(groups[first]) for first in sorted(groups)}


def repeated(pairs: Iterable[tuple[str, str]]) -> Rows:
    """The first words that have two second words or more, and those."""
    return {name: ", ".join(group) for name, group in grouped(pairs).items() if len(group) > 1}


def single_importers(house: House) -> Rows:
    """Files with exactly one importer, and that one."""
    table = house.modules[STAGES].nodes if STAGES in house.modules else []
    stages = {node.value for node in table if isinstance(node, ast.Constant)}
    counted = {file.module for file in house.concepts}
    arrows = ((imported, importer) for importer, imported in house.pairs() if importer in counted)
    users = grouped(arrows).items()
    return {m: u[0] for m, u in users if len(u) == 1 and m in counted and m not in stages}


def settings_classes(house: House) -> Rows:
    """Every settings class, the largest first: its values, and the functions that take it."""
    functions = [(file, function.args) for file in house.files for function in file.functions]
    takers = Counter(s for function in functions for s in house.settings_taken(*function))
    symbols = [(file.module, name) for file in house.files for name in file.top]
    sizes = {s: sum(house.keys(s).values()) for s in symbols if house.is_settings(s)}
    ordered = sorted(sizes, key=lambda symbol: -sizes[symbol])
    return {s[1]: f"{sizes[s]} values, {takers[s]} functions" for s in ordered}


def circles(house: House) -> Rows:
    """Groups of files that import each other, by their first."""
    after = {module: reached(module, house.pairs(late=False)) for module in house.modules}
    groups = [[m for m in sorted(after[n]) if n in after[m]] for n in after if n in after[n]]
    return {group[0]: ", ".join(group) for group in groups}


def list_rows(house: House) -> dict[str, Rows]:
    """What is listed by name."""
    return {
        "files with one importer": single_importers(house),
        "names with two meanings": repeated(
            (name, file.module) for file in house.files for name in file.top if name[0] != "_"
        ),
        "file names in two rooms": repeated((file.stem, file.room) for file in house.concepts),
        "settings classes": settings_classes(house),
        "circles": circles(house),
    }


def spread(values: Iterable[int]) -> str:
    """Median and 90th percentile, by nearest rank."""
    ordered = sorted(values)
    return f"{statistics.median(ordered):g} / {ordered[math.ceil(0.9 * len(ordered)) - 1]}"


def n_lines(nodes: Iterable[ast.stmt]) -> list[int]:
    """Lines from the first to the last of each statement."""
    return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in nodes]


def rooms(files: Iterable[SourceFile]) -> Rows:
    """Files and lines of each room."""
    sizes = defaultdict(list)
    for file in files:
        sizes[file.room].append(file.n_lines)
    return {f"{room}/": f"{len(sizes[room])} / {sum(sizes[room])}" for room in sorted(sizes)}


def sizes_and_imports(house: House) -> Rows:
    """Files, lines, lengths and imports."""
    total = sum(file.n_lines for file in house.files)
    import_lines = sum(sum(n_lines(file.imports)) for file in house.files)
    tops = Counter(file.room for file in house.concepts)
    return {
        "files / lines": f"{len(house.files)} / {total}",
        "files without __init__.py": f"{len(house.concepts)}",
        "scripts, apart: files / lines": "".join(rooms(house.scripts).values()),
        **{f"files at the top of {top}/": f"{tops[top]}" for top in TOPS},
        "lines a file: median / 90th": spread(file.n_lines for file in house.concepts),
        "lines a function: median / 90th": spread(
            lines for file in house.files for lines in n_lines(file.functions)
        ),
        "own imports a hundred lines": f"{100 * len(house.pairs()) / total:.2f}",
        "lines that are imports": f"{100 * import_lines / total:.1f} %",
    }


def study(house: House) -> Rows:
    """How far a study reaches by imports."""
    starts = {file.module for file in house.files if ENTRY in file.top}
    files = starts.union(*(reached(start, house.pairs()) for start in starts))
    pairs = [pair for pair in house.pairs() if pair[0] in files]
    names = {(a.imported, a.name) for a in house.arrows if a.importer in files}
    return {
        "files reached": f"{len(files)}",
        "arrows between them": f"{len(pairs)}",
        "arrows to a file that another reached": f"{len(pairs) - len(files) + len(starts)}",
        "names imported": f"{len(names)}",
    }


def vague_words(house: House) -> Rows:
    """How often each vague word is an identifier, and in brackets a part of one."""
    names = [name for file in house.files for name in file.identifiers()]
    whole = Counter(name.lower() for name in names)
    part = Counter(w.lower() for name in names for w in set(re.findall("[A-Z]?[a-z]+", name)))
    return {word: f"{whole[word]} ({part[word]})" for word in VAGUE}


def figures(house: House) -> dict[str, Rows]:
    """The table: title, label, figure."""
    lists = list_rows(house)
    singles = [house.modules[name].room for name in lists["files with one importer"]]
    in_tops = {
        f"one importer, in {', '.join(TOPS)}": f"{sum(room.startswith(TOPS) for room in singles)}"
    }
    large = {n: v for n, v in lists["settings classes"].items() if int(v.split()[0]) >= MANY_VALUES}
    return {
        "Sizes and imports": sizes_and_imports(house),
        "Files / lines by room": rooms(house.files),
        "Structure": {**{title: f"{len(rows)}" for title, rows in lists.items()}, **in_tops},
        f"Classes below {BASE} of {MANY_VALUES} values or more": large,
        f"What {ENTRY} reaches": study(house),
        "Vague words": vague_words(house),
    }


def read_house(commit: str | None) -> House:
    """The house at a commit, or in the working tree."""
    if commit is None:
        return House(ROOT)
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", commit]
    packed = subprocess.run(  # noqa: S603 (git, and a commit that the user names)
        command, check=False, stdout=subprocess.PIPE
    )
    if packed.returncode:
        raise SystemExit(2)  # git has said why
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        return House(Path(folder))


def print_table(columns: dict[str, dict[str, Rows]]) -> None:
    """Print the figures of each column beside each other."""
    print(" " * 48 + "".join(f"{name:>26}" for name in columns))
    for title in dict.fromkeys(title for column in columns.values() for title in column):
        parts = [column[title] for column in columns.values()]
        labels = (
            list(parts[-1]) if len({*map(frozenset, parts)}) == 1 else sorted(set().union(*parts))
        )
        print(f"\n{title}")
        for label in labels:
            print(f"  {label:46}" + "".join(f"{part.get(label, '-'):>26}" for part in parts))


def main() -> None:
    """Print the table, and the lists where they are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:  python scripts/measure_house.py --before 45486c0 --at HEAD --list",
    )
    parser.add_argument("--at", metavar="COMMIT", help="the working tree, if left out")
    parser.add_argument("--before", metavar="COMMIT", help="a column to the left of it")
    parser.add_argument("--list", action="store_true", help="name what is counted, without before")
    arguments = parser.parse_args()
    house = read_house(arguments.at)
    columns = {arguments.at or "working tree": figures(house)}
    if arguments.before:
        columns = {arguments.before: figures(read_house(arguments.before)), **columns}
    print_table(columns)
    for title, rows in list_rows(house).items() if arguments.list else ():
        print(f"\n{title}: {len(rows)}")
        for label, text in rows.items():
            print(f"  {label:40} {text}")


if __name__ == "__main__":
    main()
