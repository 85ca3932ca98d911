"""The stages of the command line as functions, for Python: same settings, same folders, same words.

They are public as `synthdp.run_stage`, `synthdp.import_patches`, `synthdp.make_phantoms` and
`synthdp.statement_of`, with `synthdp.epsilon_of`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthdp.config.packaged import config_file
from synthdp.config.settings import read_settings, validate_settings
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.errors import InputError
from synthdp.privacy.promise.plan import statement_of as _statement_of
from synthdp.privacy.promise.statement import Statement
from synthdp.stages import STAGES, packaged_statements


def run_stage(stage: str, config: Path | str | None = None, /, **settings: Any) -> Path:
    """Run a stage, resume it, or return at once when it is done: `synthdp STAGE CONFIG key=value`.

    Args:
        stage: its name on the command line, such as `finetune` or `data patches`.
        config: a settings file, if any, or the name of one that comes with synthdp, such as
            `classify/best`.
        settings: by name; those of a section as a dict, `privacy={"epsilon": 6}`, whose other keys
            stay as the file has them.

    Returns:
        The folder (or file) that the stage wrote.

    Raises:
        InputError: when there is no such stage, or with every wrong setting at once.
        RunError: when the run failed; what was finished before stands.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     made = run_stage("data phantoms", out=f"{folder}/set", patients=9, size_px=16)
    ...     print(made.name)
    set
    """
    if stage not in STAGES:
        raise InputError(f"there is no stage {stage!r}; there are {', '.join(STAGES)}")
    cls = STAGES[stage].settings_class()
    values = {} if config is None else dict(read_settings(cls, config_file(Path(config))))
    where = "settings" if config is None else str(config)
    return STAGES[stage].start(validate_settings(cls, _merged(values, settings), where=where))


def import_patches(src: Path | str, out: Path | str, /, **settings: Any) -> Dataset:
    """Import patches in class folders to the data set `out`: `synthdp data patches`.

    Args:
        src: a folder with a folder a class, such as `benign` and `malignant`.
        out: the set's folder, which appears when it is complete.
        settings: of the stage, such as `patient_pattern=r"patient(\\d+)"`, `val_fraction=0.2`,
            `size_px`, or `name`, which is that of the folder `out` otherwise.

    Returns:
        The set, opened.

    Raises:
        InputError: with every problem at once.

    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     for label in ("benign", "malignant"):
    ...         for patient in range(5):
    ...             path = Path(folder) / "patches" / label / f"patient{patient}{label[0]}_1.png"
    ...             path.parent.mkdir(parents=True, exist_ok=True)
    ...             noise = np.random.default_rng(patient + len(label)).integers(0, 256, (16, 16))
    ...             Image.fromarray(noise.astype(np.uint8)).save(path)
    ...     data = import_patches(f"{folder}/patches", f"{folder}/set", size_px=16,
    ...                           patient_pattern=r"(patient\\d+\\w)_")
    ...     print(len(data.rows))
    10
    """
    named = {"name": Path(out).name, **settings}
    return open_dataset(run_stage("data patches", src=src, out=out, **named))


def make_phantoms(out: Path | str, /, **settings: Any) -> Dataset:
    """Draw a phantom data set, which costs no privacy: `synthdp data phantoms`.

    Args:
        out: the set's folder, which appears when it is complete.
        settings: of the stage, such as `patients`, `size_px`, `seed`, and `as_real=True`, which
            makes the ledger treat them as patients.

    Returns:
        The set, opened.

    Raises:
        InputError: with every wrong setting at once, or when `out` holds something else.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     data = make_phantoms(f"{folder}/phantoms", patients=9, size_px=16)
    ...     print(data.info.kind, data.info.targets)
    phantom ('malignant',)
    """
    return open_dataset(run_stage("data phantoms", out=out, **settings))


def statement_of(*paths: Path | str) -> Statement:
    """What a run, data set, study or `pretrained:` generator promises, or several together.

    It is made again from their ledgers: no `privacy.json` is believed (`synthdp privacy PATH...`).

    Raises:
        InputError: when a path is none of these, promises more than its record allows, or a record
            is damaged.

    >>> statement_of("pretrained:mcgan-cbis-dp6").epsilon <= 6
    True
    """
    if not paths:
        raise InputError("name one folder at least: of a run, a data set or a study")
    named = [Path(path) for path in paths]
    return _statement_of(named, packaged_statements(named))


def epsilon_of(*paths: Path | str) -> float:
    """The end-to-end epsilon of a result, or of publishing several together; inf without a promise.

    It is that of `statement_of(*paths)`, whose delta it holds at and which says to whom; arguments
    and errors are the same.

    >>> epsilon_of("pretrained:mcgan-cbis")
    inf
    """
    return statement_of(*paths).epsilon


def release(
    original: Path | str,
    out: Path | str,
    /,
    *,
    include: Sequence[str] = (),
    rows: Sequence[str] = (),
    evidence: Sequence[Path | str] = (),
    licence: str = "",
    without_protection: bool = False,
    compact: bool = False,
) -> Statement:
    """Copy what may leave of a run, a study or a synthetic set: `synthdp privacy --release`.

    Args:
        original: finished.
        out: a new folder, which appears when it is whole.
        include: `scores`, `counts` or `models`, which stay at home unless they are named.
        rows: of a study, as `--rows` takes them.
        evidence: evaluations of a run, whose results its card shows.
        licence: of the model's own weights.
        without_protection: let out what promises nothing (epsilon inf).
        compact: of a generator that keeps phantoms, say which ones in the place of their images.

    Returns:
        The statement under which it leaves.

    Raises:
        InputError: when it is unfinished, promises nothing while `without_protection` is not set,
            or `out` is taken.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     data = make_phantoms(f"{folder}/phantoms", patients=9, size_px=16)
    ...     print(release(data.root, f"{folder}/to-share").epsilon)
    0.0
    """
    from synthdp.releases.release import Asked, release_folder  # noqa: PLC0415 (it takes torch)

    asked = Asked(
        include=include,
        rows=rows,
        evidence=[Path(one) for one in evidence],
        licence=licence,
        without_protection=without_protection,
        compact=compact,
    )
    return release_folder(Path(original), Path(out), asked).statement


def _merged(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A file's values with those of `settings` in their place, key by key within sections."""
    merged = dict(values)
    for key, value in settings.items():
        there = merged.get(key)
        both = isinstance(there, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(there, value) if both else value  # type: ignore[arg-type]
    return merged
