"""`release.json`: what made a release, what was included by name, and a digest of each file."""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

import synthdp
from synthdp import __version__
from synthdp.config.settings import Settings, read_json_as
from synthdp.errors import InputError
from synthdp.networks.public.carried import (
    NETWORKS_FILE,
    NETWORKS_FOLDER,
    PublicNetwork,
    read_networks,
)
from synthdp.storage.files import sha256_file, write_json

CONTENTS_FILE = "release.json"
#: What may be in a release beyond what always is, asked for by name.
INCLUDABLE = ("scores", "counts", "models")
_ID_DIGITS = 16
_GIT_S = 10

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Contents(Settings):
    """What `release.json` holds.

    synthdp and commit: the version that made it, and the commit of its source where it ran from a
    checkout (`-changed` where files were edited since); stage: of the run that it is of, or `data
    set`; included: what was asked for by name; licence: of the model's own weights, empty where
    nobody said; licences: of the public networks that go along, by file; files: sha256 by path, of
    all but this file.
    """

    schema_version: Literal[1] = 1
    synthdp: str
    commit: str = Field(default="", pattern=r"^([0-9a-f]{40}(-changed)?)?$")
    stage: str
    included: tuple[str, ...] = ()
    licence: str = ""
    licences: Mapping[str, str] = {}
    files: Mapping[str, Sha256]


def write_contents(
    folder: Path,
    *,
    stage: str,
    included: tuple[str, ...] = (),
    licence: str = "",
) -> Contents:
    """Write `release.json` into a folder that holds all else of a release."""
    contents = Contents(
        synthdp=__version__,
        commit=running_commit(),
        stage=stage,
        included=included,
        licence=licence,
        licences={
            f"{model}/{NETWORKS_FOLDER}/{one.file}": one.licence
            for model, one in _networks_in(folder)
            if one.carried
        },
        files=_digests(folder),
    )
    write_json(folder / CONTENTS_FILE, contents.model_dump(mode="json"))
    return contents


def _networks_in(folder: Path) -> Iterator[tuple[str, PublicNetwork]]:
    """The public networks of every model in a release, each with the path of its model."""
    for about in sorted(folder.rglob(f"model/{NETWORKS_FOLDER}/{NETWORKS_FILE}")):
        model = about.parent.parent
        for one in read_networks(model).networks:
            yield model.relative_to(folder).as_posix(), one


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in files
        if path != folder / CONTENTS_FILE
    }


def release_id(folder: Path) -> str:
    """What a release is called on record: a digest of `release.json`, so of every file in it."""
    return sha256_file(folder / CONTENTS_FILE)[:_ID_DIGITS]


def read_contents(folder: Path) -> Contents:
    """What `release.json` of a release says; whether it holds true is `check_release`'s to tell.

    Raises:
        InputError: when the file is missing or damaged.
    """
    return read_json_as(Contents, folder / CONTENTS_FILE)


def check_release(folder: Path) -> Contents:
    """Compare every file of a release with `release.json`.

    What was fetched later into `model/networks/`, as the release says, may stand beside.

    Raises:
        InputError: when it is no release of this version, or a file is missing, changed or unknown:
            all of them, by name.
    """
    if not (folder / CONTENTS_FILE).is_file():
        raise InputError(
            f"{folder}: has no {CONTENTS_FILE}: it is no release, or one of an earlier version, "
            "which can't be checked; ask whoever sent it for a new one"
        )
    contents = read_contents(folder)
    there = _digests(folder)
    fetched = {
        f"{model}/{NETWORKS_FOLDER}/{one.file}": one.sha256
        for model, one in _networks_in(folder)
        if not one.carried
    }
    problems = [f"{name}: missing" for name in contents.files if name not in there]
    for name, digest in there.items():
        listed = contents.files.get(name, fetched.get(name))
        if listed is None:
            problems.append(f"{name}: not a file of this release")
        elif listed != digest:
            problems.append(f"{name}: changed since it was released")
    if problems:
        raise InputError(f"{folder}:\n" + "\n".join(f"  {one}" for one in problems))
    return contents


def running_commit() -> str:
    """The commit of the checkout that synthdp runs from; empty for an installed one, or no git."""
    root = Path(synthdp.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changed is None or len(commit) != 40:
        return ""
    return f"{commit}-changed" if changed else commit


def _git(root: Path, *words: str) -> str | None:
    """What git says of a checkout; None where it is not there, or fails."""
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_S, check=True)  # noqa: S603 (our own words)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
