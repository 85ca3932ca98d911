"""`import synthdp`: the names that are public, how they load, and what stands in their way."""

import ast
import doctest
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import synthdp

ROOT = Path(synthdp.__file__).parent
LOADED_AT_ONCE = {"torch", "numpy", "pydantic", "sklearn", "gan", "classify", "synthdp.errors"}


def run_python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Python in another folder, which it puts first on its path as `python -c` does."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def for_type_checkers() -> dict[str, str]:
    """What the `TYPE_CHECKING` block of synthdp/__init__.py says: name -> module:attribute."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        name.asname or name.name: f"{node.module}:{name.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }


def test_table_all_and_type_checkers_say_the_same() -> None:
    assert for_type_checkers() == synthdp._PUBLIC
    assert sorted(synthdp._PUBLIC) == sorted(synthdp.__all__)
    assert set(dir(synthdp)) == {*synthdp.__all__, "__version__"}  # what an editor offers


def test_a_stage_takes_the_name_of_a_settings_file_that_comes_with_synthdp(tmp_path: Path) -> None:
    made = synthdp.run_stage(
        "data phantoms", "data/demo-phantoms", out=tmp_path / "set", patients=9, size_px=16
    )
    assert synthdp.open_dataset(made).info.size_px == 16
    with pytest.raises(synthdp.InputError, match="did you mean data/demo-phantoms"):
        synthdp.run_stage("data phantoms", "data/demo-phantom", out=tmp_path / "other")


@pytest.mark.parametrize("name", sorted(synthdp._PUBLIC))
def test_a_public_name_loads_and_says_what_it_is_for(name: str) -> None:
    value = getattr(synthdp, name)
    assert value is getattr(synthdp, name)
    assert (value.__doc__ or "").strip()


@pytest.mark.parametrize("name", ["synthdp", *sorted(set(synthdp._PUBLIC.values()))])
def test_examples_of_the_public_names_run(name: str) -> None:
    where, _, wanted = name.partition(":")
    module = importlib.import_module(where)
    tests = [
        test
        for test in doctest.DocTestFinder(exclude_empty=False).find(module)
        if test.name.removeprefix(f"{module.__name__}.").split(".")[0] == wanted
        or (not wanted and test.name == module.__name__)
    ]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_the_import_itself_loads_nothing() -> None:
    code = "import json, sys, synthdp; print(json.dumps(sorted(sys.modules)))"
    told = run_python(code, cwd=ROOT.parent)
    assert not LOADED_AT_ONCE & set(json.loads(told.stdout))


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'open_data'.*open_dataset"):
        _ = synthdp.open_data


USE = """
import sys
sys.path.insert(1, sys.argv[1])
import synthdp
from synthdp.own_packages import own_module
try:
    print(own_module("gan").PART_OF)
except synthdp.InputError as error:
    print(error)
"""


def test_a_file_that_stands_before_gan_is_named(tmp_path: Path) -> None:
    (tmp_path / "gan.py").write_text("mine = 1\n")
    told = run_python(USE, str(ROOT.parent), cwd=tmp_path)
    assert str(tmp_path / "gan.py") in told.stdout
    assert "rename it" in told.stdout


def test_a_folder_without_an_init_that_stands_before_gan_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "gan").mkdir()  # a namespace package gives way to a real one further down
    told = run_python(USE, str(ROOT.parent), cwd=tmp_path)
    assert (told.stdout, told.stderr) == ("synthdp\n", "")


def test_another_distribution_of_the_name_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    (site / "gan").mkdir(parents=True)
    (site / "gan" / "__init__.py").write_text("")
    info = site / "othergan-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: othergan\nVersion: 1.0\n")
    (info / "RECORD").write_text("gan/__init__.py,,\n")
    (info / "top_level.txt").write_text("gan\n")
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n{USE}"
    told = run_python(code, str(ROOT.parent), cwd=tmp_path)
    assert "othergan" in told.stdout
    assert "pip uninstall othergan" in told.stdout


def test_the_command_line_says_so_too(tmp_path: Path) -> None:
    (tmp_path / "classify.py").write_text("")
    code = f"import sys; sys.path.insert(1, {str(ROOT.parent)!r})\n"
    code += "from synthdp.cli import main; sys.exit(main(sys.argv[1:]))"
    told = run_python(code, "finetune", "out=x", cwd=tmp_path)
    assert told.returncode == 2
    assert str(tmp_path / "classify.py") in told.stderr


def test_ours_is_found_once_the_other_is_gone(tmp_path: Path) -> None:
    (tmp_path / "gan.py").write_text("")
    code = USE + "import os; os.remove('gan.py'); import importlib; importlib.invalidate_caches()\n"
    code += "print(own_module('gan').PART_OF)"
    told = run_python(code, str(ROOT.parent), cwd=tmp_path)
    assert told.stdout.endswith("\nsynthdp\n"), told.stderr


def test_a_public_name_of_a_foreign_package_says_so_too(tmp_path: Path) -> None:
    (tmp_path / "gan.py").write_text("")
    code = USE.replace('print(own_module("gan").PART_OF)', "synthdp.Generator")
    assert str(tmp_path / "gan.py") in run_python(code, str(ROOT.parent), cwd=tmp_path).stdout
