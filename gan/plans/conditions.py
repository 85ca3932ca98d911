"""What a generator is conditioned on beside the class, or which findings, and how often each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gan.package.conditions import Conditions, read_conditions, read_findings
from gan.private.pool import selected_pool
from gan.settings.train import TrainGanSettings
from synthdp.data.dataset import Row
from synthdp.errors import InputError

if TYPE_CHECKING:
    from gan.plans.published import PublishedTable
    from gan.settings.parts import FindingsTable


def planned_conditions(
    settings: TrainGanSettings,
    rows: Sequence[Row],
    targets: Mapping[str, int],
    table: "PublishedTable | None" = None,
) -> Conditions:
    """What is known of each row beside the class, or of several findings; and how it is drawn.

    Of a selection it is what is known of the pool's candidates: no cell of a patient decides it.

    Raises:
        InputError: as `read_conditions`, `read_findings` and `open_pool`.
    """
    prior = settings.condition_prior
    if len(targets) > 1:
        shares = settings.findings
        if table is None:
            return read_findings(rows, targets, settings.conditions, prior, shares)
        even = dict.fromkeys(targets, 0.5)  # in place of which the table's come
        return table.drawn_by(read_findings(rows, targets, settings.conditions, prior, even))
    (name, column), *_ = targets.items()
    if settings.findings is not None or table is not None:
        asked = "findings" if table is None else "findings_table"
        raise InputError(
            f"{asked}: the generator knows one target, {name}, of which `generate` draws as many "
            f"images with it as without; leave {asked} out, or name several targets"
        )
    if settings.method == "selection":
        return selected_pool(settings, name).conditions
    return read_conditions(rows, settings.conditions, prior, column)


def published_table(
    asked: "FindingsTable | None", findings: Sequence[str]
) -> "PublishedTable | None":
    """The published table that findings are drawn by, where one is asked for.

    Raises:
        InputError: as `read_published`.
    """
    if asked is None:
        return None
    from gan.plans.published import read_published  # noqa: PLC0415 (few ask for a table)

    return read_published(asked, findings)


def refuse_missing_shares(settings: TrainGanSettings, targets: Mapping[str, int]) -> None:
    """Refuse a private training on several findings that doesn't say how often they are drawn.

    Raises:
        InputError: with what to set.
    """
    if len(targets) > 1 and settings.findings is None and settings.findings_table is None:
        raise InputError(
            f"findings: method: embedding draws {len(targets)} findings ({', '.join(targets)}), "
            "and reads in no patient how often; give a public share for each, as in "
            f"findings: {{{next(iter(targets))}: 0.1, ...}}, a published findings_table, or name "
            "one in `targets`"
        )


def refuse_certain(conditions: Conditions) -> None:
    """Refuse findings that are drawn always or never: nothing is to be learned of them.

    Raises:
        InputError: naming them.
    """
    shares = zip(conditions.findings, conditions.finding_shares, strict=True)
    if certain := [name for name, share in shares if share in (0, 1)]:
        raise InputError(
            f"findings: {', '.join(certain)}: method: embedding learns how images with a finding "
            "differ from those without, and draws both; give a share between 0 and 1, or leave it "
            "out of `targets`"
        )
