"""What a tuning study chose, and `defaults.yaml`, which feeds it back to studies of patients."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from synthdp.config.yaml_core import dump_yaml
from synthdp.errors import RunError
from synthdp.privacy.accounting.bounds import epsilon_text, exactly
from synthdp.privacy.promise.statement import Statement
from synthdp.storage.files import write_atomic
from synthdp.study.compare.results import ResultRow
from synthdp.study.settings import TunedValue
from synthdp.study.sweep.tuning import put_value, read_tuned, tuned_words

DEFAULTS_FILE = "defaults.yaml"
#: Means closer than this are ties: the table itself has no more decimals.
_DECIMALS = 6
#: Settings that take a mapping from epsilon to value themselves, so that one is always written.
BY_EPSILON = ("finetune.head.lr_times_steps",)


AtEpsilon: TypeAlias = tuple[str, float | None]  # a strategy, and the epsilon asked for


def mean_aurocs(rows: Sequence[ResultRow]) -> dict[AtEpsilon, dict[str, float]]:
    """For each strategy and epsilon the mean AUROC of each tuned setting, over seeds and sets.

    A setting with a run that failed, or without an AUROC, is left out.
    """
    groups: dict[AtEpsilon, dict[str, list[float | None]]] = {}
    for row in rows:
        group = groups.setdefault((row.strategy, row.epsilon), {})
        group.setdefault(row.tuned, []).append(row.auroc)
    return {
        tried: {
            tuned: round(
                statistics.fmean(value for value in aurocs if value is not None), _DECIMALS
            )
            for tuned, aurocs in group.items()
            if None not in aurocs
        }
        for tried, group in groups.items()
    }


def choose(rows: Sequence[ResultRow]) -> dict[AtEpsilon, str]:
    """For each strategy and epsilon the tuned setting of the best mean AUROC; ties: the smaller."""
    return {
        tried: min(aurocs, key=lambda tuned: (-aurocs[tuned], _by_numbers(read_tuned(tuned))))
        for tried, aurocs in mean_aurocs(rows).items()
        if aurocs
    }


def _by_numbers(tuned: Mapping[str, TunedValue]) -> list[tuple[bool, float, str]]:
    """A key that sorts settings by their numbers, one after the other; words come last."""
    return [
        (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")
        for value in tuned.values()
    ]


def write_defaults(path: Path, rows: Sequence[ResultRow], promise: Statement) -> None:
    """Write the chosen settings as YAML that a study's settings take in.

    Args:
        path: the file to write, atomically.
        rows: all results of a study that tunes.
        promise: the statement of the sets that the settings were chosen on.

    Raises:
        RunError: when a run failed or has no AUROC: a choice among the others would favour them.
    """
    lost = {row.run for row in rows if row.auroc is None}
    if lost:
        raise RunError(
            f"{len(lost)} run(s) have no AUROC, so nothing was chosen; score on a split that holds "
            "both classes"
        )
    chosen = choose(rows)
    by_strategy = {
        strategy: _settings(
            {
                epsilon: read_tuned(tuned)
                for (name, epsilon), tuned in chosen.items()
                if name == strategy
            }
        )
        for strategy in dict.fromkeys(strategy for strategy, _ in chosen)
    }
    by_strategy = {strategy: settings for strategy, settings in by_strategy.items() if settings}
    single = len({row.strategy for row in rows}) == 1
    document: Any = next(iter(by_strategy.values())) if single else by_strategy
    comment = "".join(f"# {line}\n" for line in _history(rows, chosen, promise))
    body = dump_yaml(document, flow_leaves=True)
    write_atomic(path, comment + body)


def _settings(by_epsilon: Mapping[float | None, Mapping[str, TunedValue]]) -> dict[str, Any]:
    """The settings of one strategy: by epsilon for `BY_EPSILON`, and where values differ."""
    settings: dict[str, Any] = {}
    for key in dict.fromkeys(key for tuned in by_epsilon.values() for key in tuned):
        values = {_epsilon_key(epsilon): tuned[key] for epsilon, tuned in by_epsilon.items()}
        one = len({json.dumps(value) for value in values.values()}) == 1
        plain = one and key not in BY_EPSILON
        value: Any = next(iter(values.values())) if plain else values
        settings = put_value(settings, key.split("."), value, key)
    return settings


def _epsilon_key(epsilon: float | None) -> int | float | str:
    """An epsilon as settings have it: `none`, or a number without needless decimals."""
    if epsilon is None:
        return "none"
    return int(epsilon) if epsilon == int(epsilon) else epsilon


def _history(
    rows: Sequence[ResultRow], chosen: Mapping[AtEpsilon, str], promise: Statement
) -> list[str]:
    """How the choice came about, line by line; no line holds a break, which would end a comment."""
    sets = " and ".join(dict.fromkeys(f"{row.data_set}, {row.split}" for row in rows))
    lines = [
        "Chosen by `synthdp study` as the best mean AUROC over seeds and sets (ties: the smaller).",
        f"scored on: {sets}; seeds: {len({row.seed for row in rows})}",
        *_promise_words(promise),
    ]
    for (strategy, epsilon), aurocs in mean_aurocs(rows).items():
        lines.append(f"{strategy}, epsilon {_epsilon_key(epsilon)}: AUROC of")
        for tuned, auroc in aurocs.items():
            mark = "  <- chosen" if tuned == chosen[strategy, epsilon] and tuned else ""
            lines.append(f"    {tuned_words(tuned) or 'nothing tuned'}: {auroc:.4f}{mark}")
        lines += _end_words(list(aurocs), chosen[strategy, epsilon])
    return [" ".join(line.splitlines()) for line in lines]


def _end_words(tried: Sequence[str], chosen: str) -> list[str]:
    """A line for each number that was chosen at an end of three or more."""
    lines = []
    for key, value in read_tuned(chosen).items():
        numbers = {
            one for text in tried if not isinstance(one := read_tuned(text)[key], bool | str)
        }
        if len(numbers) > 2 and value in (min(numbers), max(numbers)):
            lines.append(f"    {key} = {value} is the end of what was tried; try values beyond it")
    return lines


def _promise_words(promise: Statement) -> list[str]:
    if not promise.lineage.releases:
        words = "promise: epsilon = 0; no patient's image went into the sets it was chosen on"
        if names := promise.lineage.public:
            sets = " and ".join(names)
            words = f"promise: epsilon = 0, but for patients of the public {sets}, not protected"
        declared = promise.lineage.declared
        return [f"{words}, as declared by whoever imported them" if declared else words]
    releases = ", ".join(
        dict.fromkeys(f"{release.stage} on {release.data}" for release in promise.lineage.releases)
    )
    return [
        f"promise: epsilon {epsilon_text(promise.epsilon)} at delta "
        f"{exactly(promise.delta)} for each {promise.unit} of {releases}",
        "What is tuned by this file descends from these releases and shares their promise.",
    ]
