"""What an assessment found, in a few sentences that hold for its numbers."""

from collections.abc import Sequence

from gan.measured_sets import PIXELS
from synthdp.evaluation.assessment import Figure, Value

CHANCE = 0.5


def findings(figures: Sequence[Figure]) -> tuple[str, ...]:
    """Distance, labels, copies and membership, one sentence each; the first feature space speaks.

    Args:
        figures: all figures of the assessment.
    """
    sentences = [
        _distance(figures),
        _labels(figures),
        _copies(figures),
        _membership(figures),
    ]
    return tuple(sentence for sentence in sentences if sentence)


def _distance(figures: Sequence[Figure]) -> str:
    halves = [
        f for f in figures if f.section == "Distance" and f.comparison.startswith("as many as half")
    ]
    if not halves or halves[0].synthetic.value is None or halves[0].real is None:
        return ""
    figure, real = halves[0], halves[0].real
    beside = f" ({_shown(figure, figure.baseline)} for the baseline)" if figure.baseline else ""
    return (
        f"{figure.measure} is {_shown(figure, figure.synthetic)}{beside} at n = "
        f"{figure.synthetic.n[0]}, where two halves of the real train patients give "
        f"{_shown(figure, real)}."
    )


def _labels(figures: Sequence[Figure]) -> str:
    found = [f for f in figures if f.section == "Labels"]
    if not found or found[0].synthetic.value is None or found[0].real is None:
        return ""
    figure, real = found[0], found[0].real
    return (
        f"A classifier trained on it has AUROC {_shown(figure, figure.synthetic)} on real val "
        f"patients ({_shown(figure, real)} when trained on real; {figure.features} features)."
    )


def _copies(figures: Sequence[Figure]) -> str:
    found = next(f for f in figures if f.section == "Memorisation")
    count = int(found.synthetic.value or 0)
    if not count:
        return (
            f"None of {found.synthetic.n[0]} images is a near copy of a train patient; the closest "
            "pairs stand in private/closest_pairs.png, to be looked at before a release."
        )
    return (
        f"{count} of {found.synthetic.n[0]} images are near copies of train patients by distance: "
        "private/nearest.csv names them and private/closest_pairs.png shows the closest. Don't "
        "release this set unless a look at each of them says otherwise."
    )


def _membership(figures: Sequence[Figure]) -> str:
    attacks = [
        f for f in figures if f.section == "Membership" and f.measure.endswith("AUC")
        if f.synthetic.value is not None
    ]  # fmt: skip
    if not attacks:
        return "The real set has no val split, so nothing is known of membership."
    shown = next((f for f in attacks if f.features != PIXELS), attacks[0])
    told = [f for f in attacks if (f.synthetic.ci_low or 0) > CHANCE]
    first = (
        f"The membership attack has AUC {_shown(shown, shown.synthetic)} "
        f"({_interval(shown.synthetic)}) in {shown.features} features"
    )
    if not told:
        return f"{first}; none of {len(attacks)} attacks tells members from others."
    where = ", ".join(dict.fromkeys(f"{f.features} ({f.comparison.split(';')[0]})" for f in told))
    return f"{first}; {len(told)} of {len(attacks)} attacks tell members from others: {where}."


def _shown(figure: Figure, value: Value | None) -> str:
    return "none" if value is None or value.value is None else f"{value.value:.{figure.digits}f}"


def _interval(value: Value) -> str:
    if value.ci_low is None or value.ci_high is None:
        return "no interval"
    return f"{value.ci_low:.2f} to {value.ci_high:.2f}"
