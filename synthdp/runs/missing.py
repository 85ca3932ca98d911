"""Inputs that settings name and that are not there: which setting it is, and what makes them."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from synthdp.config.settings import Settings
from synthdp.data.description import is_dataset
from synthdp.errors import InputError, for_shell
from synthdp.networks.public.weight_files import HUB, found_weights, missing_weights
from synthdp.networks.settings import BackboneSettings
from synthdp.runs.inputs import OUTPUTS, named_inputs
from synthdp.status import STATUS_FILE

_PATIENTS = (
    "patients' images are brought in by `synthdp data import --src IMAGES --out {path} --name NAME`"
)
_GENERATED = (
    "`synthdp generate RUN --out {path} --per-class 1500` makes one, with a generator of your own "
    "(`synthdp train-gan`) or one that comes with synthdp (pretrained:mcgan-cbis)"
)
_PRIVATE = (
    "train a generator with a promise (`synthdp train-gan gan/own-private data=DATA "
    "out=runs/private-generator`), then `synthdp generate runs/private-generator --out {path} "
    "--per-class 300`"
)
_PHANTOMS = "`synthdp data phantoms --out {path}` draws one"
_POOL = "`synthdp data phantoms data/pool-phantoms --out {path}` draws one"
_PRETRAINED = "`synthdp pretrain CONFIG data=SYNTHETIC out={path}` makes it"
_GENERATOR = "`synthdp train-gan CONFIG data=DATA out={path}` makes it, or name pretrained:NAME"
_CLASSIFIER = "`synthdp finetune CONFIG data=DATA out={path}` makes it"
_EITHER = (
    "`synthdp finetune CONFIG data=DATA out={path}` or `synthdp train-gan CONFIG data=DATA "
    "out={path}` makes it, or name pretrained:NAME"
)

#: What brings a data set that is not there, by the last part of the setting that names it.
_SETS = {
    "data": _PATIENTS,
    "dataset": _PATIENTS,
    "real": _PATIENTS,
    "synthetic": _GENERATED,
    "baseline": _GENERATED,
    "private_synthetic": _PRIVATE,
    "phantoms": _PHANTOMS,
    "centre": _PHANTOMS,
    "public": _PHANTOMS,
    "pool": _POOL,
}
#: Where it is another one than the setting's name says, by stage and setting.
_SETS_OF_STAGES = {
    ("pretrain", "data"): f"{_GENERATED}; {_PHANTOMS}",
    ("study", "public"): "`synthdp data import ... kind=public --out {path}` imports one",
}
#: What makes a run that is not there, by stage and setting.
_RUNS = {
    ("train-gan", "init"): _GENERATOR,
    ("mix-generators", "runs"): _GENERATOR,
    ("generate", "run"): _GENERATOR,
    ("export", "run"): _GENERATOR,
    ("export-model", "run"): _EITHER,
    ("finetune", "init"): _PRETRAINED,
    ("calibrate", "run"): _CLASSIFIER,
    ("evaluate", "run"): _CLASSIFIER,
    ("predict", "run"): _CLASSIFIER,
}


def refuse_missing_inputs(
    stage: str, settings: Settings, *, to_come: Collection[Path] = (), weights: bool = True
) -> None:
    """Refuse a stage when a data set, a run or a file of weights that it starts from is not there.

    Where `out` is there already it says itself what it lacks: a finished stage needs none of them.

    Args:
        stage: its name.
        settings: of the stage.
        to_come: folders of runs that other stages make before.
        weights: whether files of public weights are looked for too.

    Raises:
        InputError: with every one at once, its setting, and the command that makes it.
    """
    out = getattr(settings, "out", None)
    if isinstance(out, Path) and _holds_something(out):
        return
    problems = [*_missing_folders(stage, settings, to_come)]
    problems += [*_missing_weights(settings, "")] if weights else []
    if problems:
        raise InputError("\n".join(problems))


def _holds_something(out: Path) -> bool:
    """Whether a stage has been at work there: hidden files are its locks alone."""
    if not out.is_dir():
        return out.exists()
    return any(not path.name.startswith(".") for path in out.iterdir())


def _missing_folders(stage: str, settings: Settings, to_come: Collection[Path]) -> Iterator[str]:
    """A line for each folder that is not there, with all settings that name it."""
    keys_of: dict[str, list[str]] = {}
    for key, path in named_inputs(settings).items():
        if path in to_come or str(path).startswith("pretrained:"):
            continue
        name = [part for part in key.split(".") if not part.isdigit()][-1]
        made_by = _RUNS.get((stage, name))
        if made_by is not None and not path.exists():
            problem = f"there is no run at {path}; {made_by.format(path=for_shell(path))}"
            keys_of.setdefault(problem, []).append(key)
        if made_by is not None and is_dataset(path) and not (path / STATUS_FILE).is_file():
            problem = f"{path} is a data set and no run; {made_by.format(path='RUN')}"
            keys_of.setdefault(problem, []).append(key)
        made_by = _SETS_OF_STAGES.get((stage, name), _SETS.get(name))
        if made_by is not None and not (path / "dataset.json").is_file():
            there = "is no data set (it has no dataset.json)" if path.exists() else "is not there"
            problem = f"{path} {there}; {made_by.format(path=for_shell(path))}"
            keys_of.setdefault(problem, []).append(key)
    for problem, keys in keys_of.items():
        yield f"{', '.join(keys)}: {problem}"


def _missing_weights(value: Any, key: str) -> Iterator[str]:
    """A line for each file of public weights that is checked by its sha256 and not at hand."""
    if isinstance(value, BackboneSettings):
        named = value.weights not in (None, HUB) and value.sha256 is not None
        if named and found_weights(value) is None:
            yield missing_weights(value, where=key or "backbone")
    elif isinstance(value, Settings | Mapping):
        for name, part in value.items() if isinstance(value, Mapping) else value:
            if name not in OUTPUTS:
                yield from _missing_weights(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _missing_weights(part, f"{key}.{number}")
