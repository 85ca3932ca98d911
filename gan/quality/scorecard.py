"""Which figure of an assessment answers which question that reviewers ask of synthetic images.

Two published lists, in words of our own: the seven criteria of the scorecard for synthetic medical
data by authors of the FDA (Zamzmi et al. 2025, Communications Engineering 4:130; names as in their
public code), and what CheXGenBench measures (arXiv 2505.10496, and its public code).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from synthdp.evaluation.assessment import Assessment, Figure

SCORECARD = "Scorecard for synthetic medical data (s44172-025-00450-1)"
CHEXGENBENCH = "CheXGenBench (arXiv 2505.10496)"


@dataclass(frozen=True)
class Criterion:
    """One criterion: what it asks, what answers it here, and where that stands.

    measures: beginnings of the names of figures that answer it, the most telling first.
    """

    source: str
    name: str
    asks: str
    answer: str
    where: str
    measures: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnsweredCriterion:
    """A criterion, and the figures of one assessment that answer it."""

    criterion: Criterion
    figures: tuple[Figure, ...]


CRITERIA = (
    Criterion(
        SCORECARD,
        "Congruence",
        "Are the images distributed as patients' are?",
        "Frechet, kernel and radiomics distance, precision, alpha-precision, detector, spectrum",
        "Distance, Coverage, Detector, Spectrum",
        (
            "FD-",
            "KD-",
            "FRD",
            "Precision",
            "Alpha-precision",
            "Real-versus-synthetic",
            "Log10 power",
        ),
    ),
    Criterion(
        SCORECARD,
        "Coverage",
        "Is all of the patients' variety there, and something new?",
        "recall, coverage, beta-recall; authenticity for what is new",
        "Coverage, Memorisation",
        ("Recall", "Coverage", "Beta-recall", "Authenticity"),
    ),
    Criterion(
        SCORECARD,
        "Constraint",
        "Do the images keep to what anatomy and physics allow?",
        "blinded readers, who see what no formula here does; textures unlike any real one, and "
        "spectra that no film has; whether the class is visible",
        "synthdp assess --reader; Coverage, Spectrum, Labels",
        ("Odd textures", "Log10 power", "Label fidelity"),
    ),
    Criterion(
        SCORECARD,
        "Completeness",
        "Is everything there that the task needs: labels, attributes?",
        "what labels and conditions carry; the manifest's columns; who is missing",
        "Labels, Groups; manifest.csv of the set",
        ("Label fidelity", "Condition fidelity", "Sub-group coverage"),
    ),
    Criterion(
        SCORECARD,
        "Comprehension",
        "Is it known how the set was made, and where it fails?",
        "the set's card: generator, settings, seed, lineage; what this page warns of",
        "README.md and dataset.json of the set",
        (),
    ),
    Criterion(
        SCORECARD,
        "Compliance",
        "Are privacy, security and licences kept?",
        "the promise, rebuilt from ledgers; near copies, membership and attribute attacks; "
        "the licence",
        "synthdp privacy; Memorisation, Membership, Disclosure",
        ("Near copies of a patient (images)", "Membership attack, AUC", "Attribute disclosure"),
    ),
    Criterion(
        SCORECARD,
        "Consistency",
        "Is quality the same for all groups, and the next time?",
        "coverage and utility by sub-group; the same seed draws the same images",
        "Groups; synthdp generate",
        ("Sub-group coverage", "Utility by sub-group"),
    ),
    Criterion(
        CHEXGENBENCH,
        "Frechet distance, on Inception and on a network of the field",
        "How far are features' distributions?",
        "the same, named after its network; with the setting inception also on Inception",
        "Distance",
        ("FID", "FD-"),
    ),
    Criterion(
        CHEXGENBENCH,
        "Kernel distance, likewise",
        "The same, without bias of small numbers?",
        "the same, with its interval",
        "Distance",
        ("KID", "KD-"),
    ),
    Criterion(
        CHEXGENBENCH,
        "Inception score",
        "How sure and varied are classes of photographs?",
        "not computed: these classes mean nothing in a patch; label fidelity instead",
        "Labels",
        ("Label fidelity",),
    ),
    Criterion(
        CHEXGENBENCH,
        "FRD",
        "How far are textures and grey levels?",
        "FRD over the same feature list",
        "Distance",
        ("FRD",),
    ),
    Criterion(
        CHEXGENBENCH,
        "Precision, recall, density, coverage, k = 5",
        "How real, how varied?",
        "the same four, with what real images give",
        "Coverage",
        ("Precision", "Recall", "Density", "Coverage"),
    ),
    Criterion(
        CHEXGENBENCH,
        "Alignment of text and image",
        "Does an image show what was asked for?",
        "no texts here: label and condition fidelity",
        "Labels",
        ("Label fidelity", "Condition fidelity"),
    ),
    Criterion(
        CHEXGENBENCH,
        "The same by finding",
        "Which findings are drawn badly?",
        "a figure for each finding; coverage of each sub-group",
        "Labels, Groups",
        ("Label fidelity", "Sub-group coverage"),
    ),
    Criterion(
        CHEXGENBENCH,
        "Re-identification by a trained network",
        "Does an image show a training patient?",
        "near copies, by patient and over mirrored copies, in public features; no network "
        "is trained for it",
        "Memorisation",
        ("Near copies of a patient (images)", "Authenticity"),
    ),
    Criterion(
        CHEXGENBENCH,
        "Distance in pixels and in features",
        "How close does an image come to its patient?",
        "correlation and distance to the nearest patient",
        "Memorisation",
        ("Correlation with the nearest", "Distance to the nearest patient, closest"),
    ),
    Criterion(
        CHEXGENBENCH,
        "Classification downstream",
        "What does a classifier learn from it?",
        "train on it, test on real patients",
        "Labels",
        ("Train on it",),
    ),
    Criterion(
        CHEXGENBENCH,
        "Reports downstream",
        "What does a model of reports learn from it?",
        "not computed: there are no texts",
        "",
        (),
    ),
)


def answered_criteria(assessment: Assessment) -> list[AnsweredCriterion]:
    """Each criterion with the figures of this assessment that answer it, one for a measure."""
    return [
        AnsweredCriterion(
            criterion,
            tuple(
                figure
                for beginning in criterion.measures
                if (figure := _most_telling(assessment.figures, beginning)) is not None
            ),
        )
        for criterion in CRITERIA
    ]


def _most_telling(figures: Sequence[Figure], beginning: str) -> Figure | None:
    """Of figures whose measure begins so, a main one with a real one beside it, if there is one."""
    fitting = [figure for figure in figures if figure.measure.startswith(beginning)]
    ranked = sorted(fitting, key=lambda figure: (not figure.main, figure.real is None))
    return ranked[0] if ranked else None


def scorecard_markdown() -> str:
    """The table for the documentation, which a test holds to this module."""
    lines = ["| asked by | criterion | what answers it here | where |", "| --- | --- | --- | --- |"]
    for one in CRITERIA:
        source = "FDA" if one.source == SCORECARD else "CheXGenBench"
        lines.append(f"| {source} | {one.name} | {one.answer} | {one.where} |")
    return "\n".join(lines) + "\n"
