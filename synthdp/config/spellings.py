"""Whether settings name the same paths: relative, absolute and linked ones may be the same.

Names of run folders are hashes of paths as they are spelled (`synthdp.runs.folder.StageCall`), and
what is stored stays as it is: it is the comparison that looks where paths lead. A path that is
stored as a relative one is looked up from the folder in which its run was started, where that can
be told.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def started_in(out: Path, stored_out: object) -> Path:
    """The folder in which a run was started, from where it stands and how its `out` was spelled.

    The working directory where that can't be told: `out` was absolute, or it has been moved.
    """
    here = Path.cwd()
    if not isinstance(stored_out, str):
        return here
    spelled = Path(stored_out)
    parts, stands = spelled.parts, out.resolve()
    if not parts or spelled.is_absolute() or ".." in parts or stands.parts[-len(parts) :] != parts:
        return here
    return stands.parents[len(parts) - 1]


def same_path(asked: Path, stored: str, base: Path) -> bool:
    """Whether a path leads to where a stored one does, looked up from `base` or from here."""
    if Path(stored) == asked:
        return True
    target = asked.resolve()
    return target in ((base / stored).resolve(), Path(stored).resolve())


def respelled(asked: Any, plain: Any, stored: Any, base: Path) -> Any:
    """Settings as plain values, each path that leads where the stored one does in its spelling.

    Args:
        asked: settings, or a value in them.
        plain: the same as plain values.
        stored: plain values of earlier settings, of any form.
        base: the folder from which relative stored paths were meant (`started_in`).
    """
    if isinstance(asked, Path):
        return stored if isinstance(stored, str) and same_path(asked, stored, base) else plain
    if isinstance(asked, BaseModel):
        asked = dict(asked)
    if isinstance(asked, Mapping) and isinstance(plain, Mapping) and isinstance(stored, Mapping):
        same = {
            key: respelled(asked.get(key), value, stored.get(key), base)
            for key, value in plain.items()
        }
        return same | _same_content(plain, stored)
    lists = isinstance(asked, tuple) and isinstance(plain, list) and isinstance(stored, list)
    if lists and len(asked) == len(plain) == len(stored):
        return [respelled(*parts, base) for parts in zip(asked, plain, stored, strict=True)]
    return plain


def _same_content(plain: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The stored spelling of weights that are the same file by its sha256, wherever it stands."""
    sha256, weights = plain.get("sha256"), stored.get("weights")
    if sha256 is None or stored.get("sha256") != sha256 or plain.get("weights") in (None, "hub"):
        return {}
    return {"weights": weights} if isinstance(weights, str) and weights != "hub" else {}
