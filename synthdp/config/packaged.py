"""Settings files that come with the package: `study/own` stands wherever a settings file may.

They lie in `configs/` beside the code of a checkout, and in `synthdp/configs/` of an installed
package, into which the wheel puts them.
"""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from synthdp.errors import InputError, quoted

_HERE = Path(__file__).resolve().parents[1]
#: Where they may be, the installed ones first.
_FOLDERS = (_HERE / "configs", _HERE.parent / "configs")
_SUFFIX = ".yaml"
#: A longer sentence is told up to its first colon or comma.
_SHORT = 90


def configs_folder() -> Path:
    """The folder of the settings files that come with the package.

    Raises:
        InputError: when the installation lacks it.
    """
    for folder in _FOLDERS:
        if (folder / "study").is_dir():
            return folder
    raise InputError(
        "configs: this installation of synthdp lacks its settings files; install it again"
    )


def packaged_names() -> list[str]:
    """The names of all packaged settings files, such as `study/own`, in order."""
    folder = configs_folder()
    files = (path.relative_to(folder) for path in folder.glob(f"*/*{_SUFFIX}"))
    return sorted(file.with_suffix("").as_posix() for file in files)


def packaged_config(name: str) -> Path:
    """The file of a packaged name, such as `study/own`; it may end in .yaml or begin with configs/.

    Raises:
        InputError: when there is none of that name, with the one that is nearest.
    """
    known = packaged_names()
    plain = _plain(name)
    if plain in known:
        return configs_folder() / f"{plain}{_SUFFIX}"
    close = difflib.get_close_matches(plain, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise InputError(
        f"{quoted(name)}: no settings file of that name comes with synthdp{hint} "
        "(`synthdp config list` has all)"
    )


def config_file(path: Path) -> Path:
    """The settings file that a word of the command line means: a file, else a packaged name.

    Raises:
        InputError: when it is neither.
    """
    if path.exists() or path.is_absolute():
        return path
    plain = _plain(str(path))
    if plain in packaged_names():
        return packaged_config(plain)
    close = difflib.get_close_matches(plain, packaged_names(), n=1, cutoff=0.7)
    hint = f"; did you mean {close[0]}, which comes with synthdp?" if close else ""
    raise InputError(
        f"{path}: there is no such settings file, and none of that name comes with "
        f"synthdp{hint} (`synthdp config list` has all that do)"
    )


def _plain(name: str) -> str:
    return name.removeprefix("./").removeprefix("configs/").removesuffix(_SUFFIX)


def summaries() -> Iterator[tuple[str, str]]:
    """Each packaged name with the first sentence of the comment that its file begins with."""
    for name in packaged_names():
        lines = packaged_config(name).read_text(encoding="utf-8").splitlines()
        comment = []
        for line in lines:
            if not line.startswith("#"):
                break
            comment.append(line.lstrip("# ").rstrip())
        first = " ".join(comment).partition(". ")[0].rstrip(".:")
        yield name, first if len(first) <= _SHORT else re.split(r"[:,;] | \(", first)[0].rstrip()


#: A line that names a file of public weights, and the one with its sha256 below it.
_WEIGHTS = re.compile(r"(?m)^( *)weights: ([^\s#]+\.safetensors)\n *sha256: [0-9a-f]{64}\n")


def with_weights(text: str, weights: str) -> str:
    """A settings file's text with public weights from elsewhere: `hub`, `none`, or a folder.

    Those of timm's hub, and a random start, have no sha256; files in a folder keep theirs.

    Raises:
        InputError: when it is none of these.
    """
    from synthdp.config.yaml_core import yaml_quoted  # noqa: PLC0415 (what copies alone)

    if weights in ("hub", "none"):
        return _WEIGHTS.sub(rf"\1weights: {weights}\n", text)
    if not weights or not Path(weights).is_dir():
        raise InputError(
            f"--weights: {quoted(weights)}: say hub, none, or a folder in which public weights are"
        )
    return re.sub(
        r"(?m)^( *)weights: ([^\s#]+\.safetensors)$",
        lambda line: f"{line[1]}weights: {yaml_quoted(str(Path(weights) / Path(line[2]).name))}",
        text,
    )
