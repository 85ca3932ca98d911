"""A place where an installed synthdp alone is there: no checkout, no shared folder, no network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What of a checkout a package is built from.
_BUILT = ("synthdp", "gan", "classify", "configs", "pyproject.toml", "README.md", "LICENSE")


def install(folder: Path) -> Path:
    """Install this checkout into `folder`, by pip from a copy; its dependencies stay outside."""
    source = folder.parent / f"{folder.name}-source"
    source.mkdir()
    for name in _BUILT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name)
        else:
            shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True, capture_output=True)
    shutil.rmtree(source)
    return folder


def run(installed: Path, cwd: Path, *words: str) -> str:
    """Run Python in `cwd` with the installed synthdp, and give what it prints.

    `-I` keeps the working folder, PYTHONPATH and the user's own packages out; an editable install
    of the checkout is put out of the way.
    """
    home = cwd.parent / f"{cwd.name}-home"
    home.mkdir(exist_ok=True)
    start = (
        "import sys, runpy; "
        "sys.meta_path = [one for one in sys.meta_path if 'editable' not in repr(one).lower()]; "
        f"sys.path.insert(0, {str(installed)!r}); "
        f"sys.path = [one for one in sys.path if one != {str(ROOT)!r}]; "
        "sys.argv = sys.argv[1:]; "
        "import synthdp; "
        f"assert synthdp.__file__.startswith({str(installed)!r}), synthdp.__file__; "
    )
    program = (
        "from synthdp.cli import main; sys.exit(main(sys.argv))"
        if words[0] == "synthdp"
        else "runpy.run_path(sys.argv[0])"
    )
    given = words[1:] if words[0] == "synthdp" else words
    done = subprocess.run(
        [sys.executable, "-I", "-c", start + program, *given],
        cwd=cwd,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HF_HUB_OFFLINE": "1",
            "NO_ALBUMENTATIONS_UPDATE": "1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
