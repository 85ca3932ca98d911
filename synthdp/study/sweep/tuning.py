"""Tuning for free: which settings a study tries, and on which sets it may choose among them.

Choosing by scores of private images is itself a release (arXiv 2110.03620), so a study that tunes
meets phantoms and synthetic sets with a guarantee alone; all else is refused before anything runs.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.stated import read_statement
from synthdp.runs.folder import StageCall
from synthdp.study.settings import TunedValue

#: Settings of a stage that name a set whose images the stage reads.
_SETS_OF_A_STAGE = ("data", "synthetic", "centre")
REFUSAL = (
    "choosing by scores of private images is itself a release; tune on phantoms or on a synthetic "
    "set with a guarantee"
)

Tuned: TypeAlias = Mapping[str, TunedValue]
_TUNED = TypeAdapter(dict[str, TunedValue])


def combinations(tune: Mapping[str, Sequence[TunedValue]] | None) -> list[Tuned]:
    """Every choice of one value for each key; one empty choice where nothing is tuned."""
    tune = tune or {}
    return [dict(zip(tune, values, strict=True)) for values in product(*tune.values())]


def with_tuned(ingredients: Mapping[str, Any], tuned: Tuned) -> dict[str, Any]:
    """The ingredients of a recipe with the tuned values in the settings of its stages."""
    changed = dict(ingredients)
    for key, value in tuned.items():
        changed = put_value(changed, key.split("."), value, key)
    return changed


def put_value(
    settings: Mapping[str, Any], path: Sequence[str], value: Any, key: str
) -> dict[str, Any]:
    """The settings with `value` at `path`, making mappings on the way; `key` is for the error."""
    first, *rest = path
    if not rest:
        return {**settings, first: value}
    below = settings.get(first) or {}
    if not isinstance(below, Mapping):
        raise InputError(f"tune: {key}: {first} is a single value and has no keys of its own")
    return {**settings, first: put_value(below, rest, value, key)}


def tuned_text(tuned: Tuned, calls: Sequence[StageCall]) -> str:
    """What of `tuned` goes into these calls, as compact JSON; empty when nothing does."""
    stages = {call.stage for call in calls}
    used = {key: value for key, value in tuned.items() if key.split(".")[0] in stages}
    return json.dumps(used, separators=(",", ":")) if used else ""


def read_tuned(text: str) -> dict[str, TunedValue]:
    """The tuned values of a row of results; empty where nothing was tuned.

    Raises:
        ValueError: when the text is none that `tuned_text` writes.
    """
    return _TUNED.validate_json(text) if text else {}


def tuned_words(text: str) -> str:
    """The tuned values of a row for people, as in `finetune.head.steps = 400, ...`."""
    return ", ".join(f"{key} = {value}" for key, value in read_tuned(text).items())


def refuse_idle_keys(tune: Mapping[str, Any] | None, texts: Iterable[str]) -> None:
    """Refuse a key that no run of the study takes in.

    Raises:
        InputError: naming the first such key.
    """
    used = {key for text in set(texts) for key in read_tuned(text)}
    for key in tune or {}:
        if key not in used:
            raise InputError(
                f"tune: {key}: no strategy of this study has the stage {key.split('.')[0]}; add "
                "one that does, or leave the key out"
            )


def tuning_lineage(sets: Iterable[Path], calls: Sequence[StageCall]) -> Lineage:
    """What values chosen on these sets and runs descend from: every promise is a finite one.

    Args:
        sets: all that the study names, to train on or to score on.
        calls: all runs of the study; what their settings name beyond `sets` counts too.

    Raises:
        InputError: when a set holds patients, or descends from patients without protection.
    """
    own = {call.out for call in calls}  # these hold nothing beyond their sets
    of_stages = {call.setting(key) for key in _SETS_OF_A_STAGE for call in calls}
    named = {*sets, *(of_stages - own - {None})}
    starts = {call.setting("init") for call in calls if call.setting("init")} - own
    lineages = [_free_lineage(open_dataset(path).info) for path in sorted(named)]
    for start in sorted(starts):
        lineages.append(read_statement(start).lineage)
        _refuse_unprotected(f"the run {start.name}", lineages[-1])
    return Lineage().joined(lineages)


def _free_lineage(info: DatasetInfo) -> Lineage:
    """The lineage of a set whose scores cost no one anything; phantoms may stand in as real."""
    if info.kind == "real":
        raise InputError(f"tune: {info.name} holds real patients; {REFUSAL}")
    _refuse_unprotected(f"the {info.kind} set {info.name}", info.lineage)
    return info.lineage


def _refuse_unprotected(name: str, lineage: Lineage) -> None:
    if lineage.unprotected:
        release = lineage.unprotected[0]
        raise InputError(
            f"tune: {name} has epsilon = inf, because {release.stage} on {release.data} had no "
            f"protection; {REFUSAL}"
        )
