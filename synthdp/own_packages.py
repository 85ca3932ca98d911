"""The packages `gan` and `classify` of this distribution, told from others of the same names.

Both names are short, and others have them too: a `gan.py` beside a notebook, or another
distribution. Whoever loads a module of the two by its name asks here.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from synthdp.errors import InputError

#: What each `__init__.py` of these packages says of itself.
MARK = "PART_OF"
_OURS = ("gan", "classify")


def own_module(name: str) -> ModuleType:
    """The module `name` of synthdp, imported.

    Args:
        name: dotted, such as `gan.train`; one of `synthdp` itself is imported as it is.

    Raises:
        InputError: when a foreign package or file stands where `gan` or `classify` of synthdp
            should: says where it was found, and the mend.
    """
    root = name.partition(".")[0]
    if root in _OURS:
        _refuse_foreign(root)
    return importlib.import_module(name)


def _refuse_foreign(root: str) -> None:
    """Refuse a module `root` that is none of this distribution's."""
    loaded_before = root in sys.modules
    try:
        module = importlib.import_module(root)
    except ModuleNotFoundError as error:
        if error.name != root:
            raise
        raise InputError(
            f"the package `{root}` of synthdp is missing; install synthdp again: pip install "
            "--force-reinstall --no-deps synthdp"
        ) from error
    if getattr(module, MARK, None) == "synthdp":
        return
    if not loaded_before:
        sys.modules.pop(root, None)  # once it is out of the way, the same process finds ours
    where, mend = _where(module), _mend(root, module)
    raise InputError(
        f"`{root}` was found at {where}, and that is not synthdp's package of this name; {mend}"
    )


def _where(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    folders = list(getattr(module, "__path__", []))
    return str(file or (folders[0] if folders else "an unknown place"))


def _mend(root: str, module: ModuleType) -> str:
    """What to do about a foreign module, by where it comes from."""
    import importlib.metadata  # noqa: PLC0415 (takes .1 s, for an error alone)

    others = set(importlib.metadata.packages_distributions().get(root, ())) - {"synthdp"}
    path = Path(_where(module)).resolve()
    installed = any(part in ("site-packages", "dist-packages") for part in path.parts)
    if installed and others:
        names = " ".join(sorted(others))
        return (
            f"it comes from the distribution {names}: use an environment of its own for synthdp, "
            f"or: pip uninstall {names} && pip install --force-reinstall --no-deps synthdp"
        )
    return (
        "Python found it first: rename it, or start Python in another folder (and keep that "
        "folder off PYTHONPATH), then start Python again"
    )
