"""Bounds as people read them: numbers that are never printed below what they are."""

import math


def percent(share: float) -> str:
    """A probability as a percentage of two digits, as in `19 %`."""
    text = f"{100 * share:.2g}" if share < 0.995 else f"{100 * share:.0f}"
    return f"{text} %"


def epsilon_text(epsilon: float) -> str:
    """An epsilon for people: three digits, or `inf`."""
    return "inf" if math.isinf(epsilon) else f"{epsilon:.3g}"
