"""What not every report has: comparisons, groups and sites, or why they can't be shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthdp.errors import InputError
from synthdp.evaluation.groups import Fairness
from synthdp.study.aggregate import aggregate
from synthdp.study.compare import ResultRow
from synthdp.study.comparison_plan import ComparePlan
from synthdp.study.comparison_section import comparison_content
from synthdp.study.fairness import fairness_of, fairness_views
from synthdp.study.findings import find, write_findings
from synthdp.study.places import without_paths
from synthdp.study.published import published_rows, read_published
from synthdp.study.transfer import transfer_of
from synthdp.study.transfer_section import transfer_lines

#: Words and anchors of the sections, by what they show, in the order of the page.
_ANCHORS = {
    "published": ("Published", "published"),
    "compared": ("Comparisons", "compared-1"),
    "fairness": ("Fairness", "fairness"),
    "transfer": ("Sites", "transfer"),
}


def further_sections(
    study: Path,
    rows: Sequence[ResultRow],
    *,
    compare: ComparePlan,
    fairness: Fairness,
    transfer: bool,
    published: Path | None,
) -> dict[str, Any]:
    """What the page shows of them; their tables are written into the study on the way.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        compare: what is compared.
        fairness: groups other than the study's own; None for these.
        transfer: whether a table of sites is asked for where the study itself asks for none.
        published: the description of figures that others published, if any.

    Raises:
        InputError: when what was asked for here can't be worked out. What the study itself asked
            for is then told on the page.
    """
    return {
        **_published(study, rows, published),
        **_comparisons(study, rows, compare),
        **_fairness(study, rows, fairness),
        **_transfer(study, rows, asked=transfer),
    }


def section_anchors(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Words and anchors of those among `further_sections` that the page has."""
    return [
        place for name, place in _ANCHORS.items() if content[name] or content.get(f"{name}_problem")
    ]


def _published(study: Path, rows: Sequence[ResultRow], path: Path | None) -> dict[str, Any]:
    content: dict[str, Any] = {"published": [], "published_problem": ""}
    if path is None or not rows:
        return content
    try:
        about = read_published(path if path.exists() else study / path)
        content["published"] = published_rows(about, aggregate(rows))
    except InputError as error:
        return {**content, "published_problem": without_paths(str(error)).splitlines()[0]}
    return {
        **content,
        "published_about": about,
        "published_on": f"{rows[0].data_set}, {rows[0].split}",
    }


def _comparisons(study: Path, rows: Sequence[ResultRow], plan: ComparePlan) -> dict[str, Any]:
    found = find(study, rows, plan)
    if found.comparisons:
        write_findings(study, found)
    return comparison_content(found)


def _fairness(study: Path, rows: Sequence[ResultRow], asked: Fairness) -> dict[str, Any]:
    try:
        found = fairness_of(study, rows, asked)
    except InputError as error:
        if asked is not None:
            raise
        return {"fairness": [], "fairness_problem": without_paths(str(error)).splitlines()[0]}
    return {"fairness": fairness_views(found), "fairness_problem": ""}


def _transfer(study: Path, rows: Sequence[ResultRow], *, asked: bool) -> dict[str, Any]:
    try:
        found = transfer_of(study, rows, asked=asked, anew=asked)
    except InputError as error:
        if asked:
            raise
        return {"transfer": [], "transfer_problem": without_paths(str(error)).splitlines()[0]}
    return {"transfer": transfer_lines(found), "transfer_problem": ""}
