"""The pages of a blinded reading, each one HTML file that fetches nothing: for readers, and scores.

That for readers is made of codes and pixels alone, so that it can't hold what is real.
"""

import base64
from collections.abc import Sequence
from importlib.resources import files

from markupsafe import Markup

from gan.quality.reading.scores import ALL, ReaderScores
from synthdp import __version__
from synthdp.pages.html import MARKS, content_policy, page_environment

#: The five answers, from surely without to surely with: of masses in the words of BI-RADS.
_BI_RADS = (
    "Negative",
    "Benign",
    "Probably benign",
    "Suspicious",
    "Highly suggestive of malignancy",
)
_MASS = "malignant"


def reader_page(
    kit: str, target: str, shown: Sequence[tuple[str, bytes]], holds: Sequence[str]
) -> str:
    """The page as HTML text.

    Args:
        kit: the random name that page, answers and key share.
        target: what readers rate.
        shown: (code, PNG) of each image, in the order of the page.
        holds: sentences that say whose images these are.
    """
    script = (files("gan.quality.reading") / "templates" / "reader.js").read_text(encoding="utf-8")
    is_mass = target == _MASS
    ratings = _BI_RADS if is_mass else _ratings_of(target)
    images = [(code, base64.b64encode(png).decode()) for code, png in shown]
    return (
        page_environment("gan.quality.reading")
        .get_template("reader.html.j2")
        .render(
            policy=content_policy(script),
            kit={"kit": kit, "images": images},
            question="how malignant it looks" if is_mass else f"whether it shows {target}",
            legend="Your assessment (as BI-RADS)" if is_mass else f"Does it show {target}?",
            scale="your assessment, in the words of BI-RADS"
            if is_mass
            else f"how sure of {target}",
            ratings=ratings,
            holds=holds,
            script=Markup(script),  # noqa: S704 (a file of this package)
        )
    )


def _ratings_of(target: str) -> tuple[str, ...]:
    return (
        f"Surely no {target}",
        f"Probably no {target}",
        "I can't say",
        f"Probably {target}",
        f"Surely {target}",
    )


_MEASURES = {
    "accuracy": "Accuracy",
    "sensitivity": "Synthetic called synthetic",
    "specificity": "Real called real",
    "d_prime": "d'",
    "origin_auroc": "AUROC, by how sure",
    "accuracy_with_target": "Accuracy where {target} is 1",
    "accuracy_without_target": "Accuracy where {target} is 0",
    "rating_auroc_real": "Rating against {target}: AUROC on real",
    "rating_auroc_synthetic": "The same on synthetic",
    "rating_auroc_difference": "Synthetic less real",
}


def scores_page(scores: ReaderScores) -> str:
    """What readers' answers say, as HTML text."""
    names = [*scores.readers, *([ALL] if len(scores.readers) > 1 else [])]
    by_place = {(one.measure, one.reader): one for one in scores.figures}
    rows = {
        words.format(target=scores.target): [by_place[measure, name] for name in names]  # type: ignore[index]
        for measure, words in _MEASURES.items()
    }
    return (
        page_environment("gan.quality.reading")
        .get_template("scores.html.j2")
        .render(
            scores=scores,
            names=names,
            rows=rows,
            marks=MARKS,
            policy=content_policy(),
            synthdp_version=__version__,
        )
    )
