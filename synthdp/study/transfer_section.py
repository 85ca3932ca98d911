"""What a study's report says of sites; `transfer.html.j2` shows it."""

import math
from collections.abc import Mapping, Sequence

from synthdp.study.transfer import TransferRow


def transfer_lines(
    rows: Sequence[TransferRow],
) -> list[tuple[TransferRow, Mapping[str, TransferRow]]]:
    """The table as a report shows it: for each recipe, epsilon, training set and place its figures.

    Of several sites of training the drop is that from the first.
    """
    lines: dict[tuple[object, ...], dict[str, TransferRow]] = {}
    for row in rows:
        key = (row.target, row.strategy, row.tuned, row.trained_on, row.epsilon)
        lines.setdefault((*key, row.data_set, row.split), {}).setdefault(row.measure, row)
    first = [(found["auroc"], found) for found in lines.values()]
    strategies = list(dict.fromkeys(row.strategy for row, _ in first))
    return sorted(first, key=lambda line: _place_in_report(line[0], strategies))


def _place_in_report(row: TransferRow, strategies: Sequence[str]) -> tuple[object, ...]:
    epsilon = row.epsilon if isinstance(row.epsilon, float) else math.inf
    at = (row.target, strategies.index(row.strategy), row.trained_on, epsilon, row.tuned)
    return (*at, row.domain != "internal", row.data_set, row.split)
