"""An audit in words: audit.md from what audit.json holds."""

from collections.abc import Mapping, Sequence
from typing import Any

_PRIVATE = "This report rests on private data and is outside the promise: it stays in `private/`."


def _number(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.2f}"


def _share(value: float | str, of: float) -> str:
    return value if isinstance(value, str) else f"{100 * value / of:.0f} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return "| " + " | ".join(padded) + " |"

    return [line(head), line(["-" * width for width in widths]), *(line(row) for row in rows)]


def _verdict(audit: Mapping[str, Any]) -> list[str]:
    if not audit["broken"]:
        return ["**The promise held against every attack of this audit.**"]
    return ["**THE PROMISE IS BROKEN:**", "", *(f"- {words}" for words in audit["broken"])]


def report(audit: Mapping[str, Any]) -> str:
    """The text for people, in Markdown, from the content of `audit.json`."""
    promise, settings, replayed = audit["promise"], audit["settings"], audit["replay"]
    confidence = f"{100 * settings['confidence']:g} %"
    bounds = [
        [
            bound["attack"],
            bound["method"],
            _number(bound["mu"]),
            _number(bound["epsilon"]),
            _number(promise["epsilon"]),
            _share(bound["epsilon"], promise["epsilon"]),
        ]
        for bound in audit["bounds"]
    ]
    found = [
        [
            f"{100 * row['false_alarms']:g} % ({row['people']:.1f} people a head)",
            f"{100 * row['rate']:.2f} %",
            f"{100 * row['low']:.2f} to {100 * row['high']:.2f} %",
            f"{100 * row['promised']:.1f} %",
        ]
        for row in audit["membership"]
    ]
    lines = [
        "# Audit of a private head",
        "",
        *_verdict(audit),
        "",
        f"Promised by this training alone: epsilon = {promise['epsilon']:.3g} at delta = "
        f"{promise['delta']:g} (mu = {promise['mu']:.3f}).",
        "",
        "## Lower bounds on epsilon",
        "",
        f"One-sided, {confidence} confidence each. f-DP and Clopper-Pearson assume nothing of the "
        "scores; the Gaussian fit takes them as normal. A sound training is called broken in fewer "
        f"than {settings['false_alarms']:g} of audits.",
        "",
        *_table(["attack", "method", "mu >=", "epsilon >=", "promise", "share"], bounds),
        "",
        "## Members found by LiRA on the finished head",
        "",
        f"{settings['shadows']} shadow heads on halves of the patients; two-sided {confidence} "
        "interval from redrawing patients.",
        "",
        *_table(["false alarms", "members found", "interval", "at most, as promised"], found),
        "",
        "## Replay",
        "",
        f"{replayed['neighbours']} neighbouring sets, step by step: one patient moves a sum by at "
        f"most {float(replayed['largest_move']):.4f} clip norms; {replayed['draws']} draws of "
        "noise tested; two crashes and a clean stop resumed.",
        "",
        "## Time",
        "",
        ", ".join(f"{part} {seconds:.0f} s" for part, seconds in audit["seconds"].items()) + ".",
        "",
        _PRIVATE,
    ]
    return "\n".join(lines) + "\n"
