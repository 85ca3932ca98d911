"""Build sdist and wheel, and try the wheel in an environment of its own: `make dist`.

The wheel is built from the sdist, so that neither needs the repository. It is then installed into a
fresh environment that has what the wheel declares to need and nothing else, and a user's first
commands are run there, in an empty folder, offline. What is declared comes from the environment
that runs this script, by links, which takes seconds; with --install pip fetches it instead.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
#: What the wheel must carry beside code.
CARRIED = (
    *("synthdp/configs/study/own.yaml", "synthdp/py.typed"),
    *("licenses/LICENSE", "licenses/NOTICE"),
    *("gan/package/pretrained/mcgan-cbis/model/", "gan/package/pretrained/cbis-selected6/model/"),
)
#: What it must not.
NOT_CARRIED = ("tests/", "scripts/", "docs/", ".ipynb", "ledger.jsonl")

#: A user's first commands, in one process, since each one imports torch.
WALK = """
import sys
from pathlib import Path

import synthdp
from synthdp.cli import main

assert Path(synthdp.__file__).is_relative_to(sys.prefix), synthdp.__file__
for name in synthdp.__all__:
    getattr(synthdp, name)


def run(*words):
    print("synthdp", *words, flush=True)
    code = main(list(words))
    assert code == 0, f"exit code {code}"


network = ["backbone.name=test_vit", "backbone.weights=none", "backbone.size_px=32"]
run("config", "list")
run("generate", "pretrained:mcgan-cbis", "--out", "synthetic", "--per-class", "4")
run("generate", "pretrained:cbis-selected6", "--out", "selected", "--per-class", "4")
run("data", "phantoms", "--out", "patients", "--as-real", "patients=24", "size_px=32")
run("data", "phantoms", "--out", "phantoms", "patients=24", "size_px=32", "seed=1")
run("finetune", "data=patients", "centre=phantoms", "out=run", *network, "head.steps=20",
    "privacy.epsilon=6", "privacy.population=30")
run("evaluate", "run", "patients", "--split", "val", "--out", "scores")
run("privacy", "run")
run("privacy", "--release", "run", "shared")
run("predict", "shared", "synthetic/images", "--out", "scores.csv")
assert len(Path("scores.csv").read_text().splitlines()) == 1 + 8
"""


def main() -> None:
    """Build, look into the wheel, and walk."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  python scripts/try_wheel.py --install",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--install", action="store_true", help="let pip fetch what it needs")
    install = parser.parse_args().install
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, ROOT, quiet=True)
    (wheel,) = DIST.glob("*.whl")
    refuse_wrong_content(wheel)
    with tempfile.TemporaryDirectory() as scratch:
        python = fresh_environment(Path(scratch) / "venv", wheel, install=install)
        empty = Path(scratch) / "empty"
        empty.mkdir()
        walk(python, empty)
    print(f"{wheel.name}: built, and tried in an environment of its own")


def refuse_wrong_content(wheel: Path) -> None:
    """Refuse a wheel that lacks what users need, or carries what is none of theirs."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    lacking = [part for part in CARRIED if not any(part in name for name in names)]
    beyond = [name for name in names if any(part in name for part in NOT_CARRIED)]
    if lacking or beyond:
        sys.exit(f"{wheel.name}: lacks {lacking}, and should not carry {beyond[:5]}")


def fresh_environment(folder: Path, wheel: Path, *, install: bool) -> Path:
    """An environment that holds the wheel and what it declares; gives its Python."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
    if install:
        run(*pip, "install", "-c", ROOT / "constraints.txt", wheel)
        return python
    run(*pip, "install", "--no-deps", "--no-index", wheel)
    (site,) = (folder / "lib").glob("python*/site-packages")
    for distribution in declared_by(wheel):
        link_into(site, distribution)
    run(*pip, "check")
    return python


def declared_by(wheel: Path) -> list[metadata.Distribution]:
    """The distributions here that the wheel needs, and that these need, and so on."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    heads = text.split("\n\n", 1)[0].splitlines()
    needs = [line.partition(": ")[2] for line in heads if line.startswith("Requires-Dist: ")]
    waiting = [(need, "") for need in needs]
    distributions: dict[str, metadata.Distribution] = {}
    seen = set[tuple[str, str]]()
    while waiting:
        need, extra = waiting.pop()
        requirement = Requirement(need)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for asked in ("", *requirement.extras):
            if (name, asked) in seen:
                continue
            seen.add((name, asked))
            distributions[name] = metadata.distribution(name)
            waiting += [(further, asked) for further in distributions[name].requires or []]
    return list(distributions.values())


def link_into(site: Path, distribution: metadata.Distribution) -> None:
    """Link what a distribution installed into another environment's packages."""
    tops = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
    for top in tops - {"__pycache__"}:
        link = site / top
        if not link.exists():
            link.symlink_to(Path(str(distribution.locate_file(top))).resolve())


def walk(python: Path, empty: Path) -> None:
    """Run a user's first commands in an empty folder, by the installed package alone."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        **{"HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1"},
    }
    run(python.parent / "synthdp", "--version", cwd=empty, env=environment)
    run(python, "-I", "-c", WALK, cwd=empty, env=environment)


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> None:
    """Run a command, and end with it when it fails; a quiet one shows its output only then."""
    done = subprocess.run(  # noqa: S603 (this project's own tools)
        command,
        cwd=cwd,
        env=env,
        check=False,
        text=True,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
    )
    if done.returncode:
        sys.exit(f"{done.stdout or ''}{command[0]} ... failed ({done.returncode})")


if __name__ == "__main__":
    main()
