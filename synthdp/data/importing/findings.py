"""What is wrong with single images or rows, and which may be left out instead of refused."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

#: The row of a table, or the position of an image in the order of paths; a text such as
#: `12 of train.csv` where there are several tables.
Number = int | str
#: Why an image or row may be left out, where `leave_out` names the reason. Each is told from that
#: image and row alone, so that nobody's place depends on who else is there.
Reason = Literal[
    "missing_file",
    "no_patient",
    "unknown_class",
    "unreadable",
    "narrow_range",
    "mask",
    "no_region",
    "contradiction",
]
#: The reasons in words that follow a count.
REASON_WORDS: Mapping[Reason, str] = {
    "missing_file": "whose file is missing",
    "no_patient": "without a patient",
    "unknown_class": "whose class is not known",
    "unreadable": "that cannot be read",
    "narrow_range": "that use less than a sixteenth of their range",
    "mask": "whose names say that they are masks",
    "no_region": "that name no place of a lesion, or no mask",
    "contradiction": "of which two sources say different things",
}
#: As many rows with one text have a line each; more share one, which names so many spans of them.
MOST_ALONE, MOST_SPANS = 12, 40


@dataclass(frozen=True)
class Finding:
    """What is wrong with the image or row of a number; a `reason` where it may be left out."""

    number: Number
    text: str
    reason: Reason | None = None


def sift(
    findings: Iterable[Finding], leave_out: Iterable[Reason], counted_by: str
) -> tuple[list[str], dict[Reason, tuple[Number, ...]]]:
    """The findings that stand as problems, and the numbers that are left out, by reason.

    An image is left out when each of its findings has a reason that `leave_out` names; it is
    counted under the first of them. Otherwise all of its findings are problems.

    Args:
        findings: of any number of images.
        leave_out: the reasons that were allowed.
        counted_by: what a number counts, for the problems: "image", or "TABLE, row".
    """
    of_number: dict[int | str, list[Finding]] = {}
    for finding in findings:
        of_number.setdefault(finding.number, []).append(finding)
    allowed = set(leave_out)
    problems: list[Finding] = []
    left_out: dict[Reason, list[Number]] = {}
    for number, of_one in of_number.items():
        first = of_one[0].reason
        if first is not None and all(finding.reason in allowed for finding in of_one):
            left_out.setdefault(first, []).append(number)
        else:
            problems += of_one
    texts = _as_texts(problems, counted_by)
    return texts, {reason: tuple(in_order(numbers)) for reason, numbers in left_out.items()}


def _as_texts(findings: Sequence[Finding], counted_by: str) -> list[str]:
    """A line for each finding; one for all of a text that many share, where the first stands.

    A word that nobody knows is wrong in each row of its column, and would hide what else is wrong.
    """
    numbers: dict[str, list[Number]] = {}
    for finding in findings:
        numbers.setdefault(finding.text, []).append(finding.number)
    spans = {text: number_spans(of) for text, of in numbers.items() if len(of) > MOST_ALONE}
    shown = ((spans.get(one.text, one.number), one.text) for one in findings)
    return list(dict.fromkeys(f"{counted_by} {number}: {text}" for number, text in shown))


def number_spans(numbers: Iterable[Number]) -> str:
    """Numbers as they follow on one another, as `2 to 9, 11`; how many more behind `MOST_SPANS`."""
    spans: list[list[Number]] = []
    for number in in_order(set(numbers)):
        last = spans[-1][-1] if spans else None
        if isinstance(number, int) and isinstance(last, int) and number == last + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    shown = [
        f"{one[0]} to {one[-1]}" if len(one) > 1 else str(one[0]) for one in spans[:MOST_SPANS]
    ]
    more = sum(map(len, spans[MOST_SPANS:]))
    return ", ".join(shown) + (f" and {more} more" if more else "")


def in_order(numbers: Iterable[Number]) -> list[Number]:
    """Numbers as they follow on one another; texts by their letters."""
    return sorted(numbers, key=lambda number: (isinstance(number, str), str(number).rjust(12, "0")))
