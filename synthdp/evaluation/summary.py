"""How well a model does on some images: every metric with its interval by patient.

`synthdp evaluate` writes it as `metrics.json`; users of the library have it as an object.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthdp.errors import InputError
from synthdp.evaluation.metrics import (
    MACRO,
    METRICS,
    THRESHOLD,
    Draws,
    FloatArray,
    has_both_classes,
)
from synthdp.evaluation.settings import AT_SENSITIVITY, REDRAWS
from synthdp.evaluation.uncertainty.intervals import (
    LEVEL,
    Interval,
    intervals_and_draws,
    patient_weights,
    percentile_interval,
    with_known_target,
)

ONE_CLASS = "has no value: one class alone"


@dataclass(frozen=True)
class TargetFigures:
    """The metrics of one target, by the names of `METRICS`, and what they are of."""

    metrics: Mapping[str, Interval]
    n_images: int
    n_patients: int
    n_positive: int

    def to_json(self) -> dict[str, Any]:
        """What `metrics.json` holds of one target."""
        return {
            **{name: interval.to_json() for name, interval in self.metrics.items()},
            "n_images": self.n_images,
            "n_patients": self.n_patients,
            "n_positive": self.n_positive,
            "redraws_left_out": self.metrics["auroc"].left_out,
        }


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` gives: figures with their intervals by patient.

    metrics: by the names of `METRICS`; of several targets the macro figures, plain means over
    `macro_over`, the targets of which both classes are there. targets: the figures of each target
    by its name, of one target too. n_images, n_patients: with a known target. threshold: where a
    score is called positive, by target where each has its own. level: the share of redraws inside
    an interval.
    """

    metrics: Mapping[str, Interval]
    targets: Mapping[str, TargetFigures]
    n_images: int
    n_patients: int
    threshold: float | Mapping[str, float] = THRESHOLD
    at_sensitivity: float = AT_SENSITIVITY
    redraws: int = REDRAWS
    level: float = field(default=LEVEL)
    macro_over: tuple[str, ...] = ()

    @property
    def auroc(self) -> Interval:
        """The area under the ROC curve, with its interval."""
        return self.metrics["auroc"]

    def __str__(self) -> str:
        lines = [f"{self.n_images} images of {self.n_patients} patients"]
        if len(self.targets) > 1:
            lines.append(f"means over {', '.join(self.macro_over) or 'no target'}:")
        lines += [f"{name} {words}" for name, one in self.metrics.items() if (words := _words(one))]
        if len(self.targets) > 1:
            aurocs = {name: figures.metrics["auroc"] for name, figures in self.targets.items()}
            lines += [f"auroc of {name} {_words(one) or ONE_CLASS}" for name, one in aurocs.items()]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """What `metrics.json` holds.

        For one target its metrics, each `{"value", "ci_low", "ci_high"}`, beside the counts. For
        several, `targets` holds that for each, and `macro` their plain means over the targets that
        it names in `over`, those of which both classes are there.
        """
        threshold = self.threshold
        how = {
            "threshold": dict(threshold) if isinstance(threshold, Mapping) else threshold,
            "at_sensitivity": self.at_sensitivity,
            "redraws": self.redraws,
            "level": self.level,
        }
        parts = {name: one.to_json() for name, one in self.targets.items()}
        if len(parts) == 1:
            return {**next(iter(parts.values())), **how}
        return {
            MACRO: {
                **{name: interval.to_json() for name, interval in self.metrics.items()},
                "over": list(self.macro_over),
                "redraws_left_out": self.metrics["auroc"].left_out,
            },
            "targets": parts,
            "n_images": self.n_images,
            "n_patients": self.n_patients,
            **how,
        }


def evaluate(
    y: FloatArray,
    scores: FloatArray,
    groups: Sequence[object],
    *,
    names: Sequence[str] | None = None,
    threshold: float | Sequence[float] = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
    redraws: int = REDRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Evaluation:
    """Every metric of a model on some images, each with its percentile interval over patients.

    What comes out is an exact function of these images: of patients it is outside every promise.

    Args:
        y: (N,) or (N, T) of 1, 0 or nan (unknown, left out).
        scores: of the same shape, finite; probabilities of 1 for Brier score and calibration.
        groups: N, the patient of each image; images of one patient are drawn together. Where each
            image is of another patient, `range(N)`.
        names: of the T targets; `malignant` for one, and numbers for several, where not given.
        threshold: where a score is called positive; one for each target, or one for all.
        at_sensitivity: the share of positives that `specificity_at_sensitivity` has to find.
        redraws: how many times the patients are drawn, the same draws for all targets.
        seed: of the draws.
        level: the share of redraws inside an interval.

    Raises:
        InputError: when a score is no number, no target is known, or one of several is called as
            their mean is.
        ValueError: when lengths differ.
    """
    labels, values, columns = with_known_target(y, scores, groups)
    n_targets, n_patients = labels.shape[1], int(columns.max()) + 1
    if names is None:
        names = ("malignant",) if n_targets == 1 else tuple(map(str, range(n_targets)))
    if n_targets != len(names):
        raise ValueError(f"{n_targets} targets, {len(names)} names")
    if n_targets > 1 and MACRO in names:
        raise InputError(
            f"a target is called {MACRO}, as the mean over several targets is; call it otherwise"
        )
    each = [float(threshold)] * n_targets if np.ndim(threshold) == 0 else [*threshold]  # type: ignore[arg-type, misc]
    weights = patient_weights(n_patients, redraws, np.random.default_rng(seed))
    judged = [
        intervals_and_draws(
            target,
            score,
            columns,
            weights,
            threshold=called_from,
            at_sensitivity=at_sensitivity,
            level=level,
        )
        for target, score, called_from in zip(labels.T, values.T, each, strict=True)
    ]
    targets = {
        name: _counted(intervals, target, columns)
        for name, (intervals, _), target in zip(names, judged, labels.T, strict=True)
    }
    with_both = [has_both_classes(target) for target in labels.T]
    over = [pair for pair, both in zip(judged, with_both, strict=True) if both]
    named = tuple(name for name, both in zip(names, with_both, strict=True) if both)
    return Evaluation(
        metrics=judged[0][0] if n_targets == 1 else _macro(over, level),
        targets=targets,
        n_images=len(labels),
        n_patients=n_patients,
        threshold=each[0] if len(set(each)) == 1 else dict(zip(names, each, strict=True)),
        at_sensitivity=at_sensitivity,
        redraws=redraws,
        level=level,
        macro_over=named if n_targets > 1 else (),
    )


def _words(one: Interval) -> str:
    """A figure with its interval; empty where it has no value."""
    if math.isnan(one.value):
        return ""
    return f"{one.value:.3f} [{one.ci_low:.3f}, {one.ci_high:.3f}]"


def _counted(
    intervals: Mapping[str, Interval], labels: FloatArray, columns: NDArray[np.intp]
) -> TargetFigures:
    chosen = ~np.isnan(labels)
    return TargetFigures(
        metrics=intervals,
        n_images=int(chosen.sum()),
        n_patients=int(np.unique(columns[chosen]).size),
        n_positive=int((labels == 1).sum()),
    )


def _macro(
    judged: Sequence[tuple[Mapping[str, Interval], Draws]], level: float
) -> dict[str, Interval]:
    """Plain means over targets, with intervals: all targets share the redraws.

    A redraw in which one of the targets lacks a class has no mean, and is left out: a mean over
    fewer targets would be another figure.
    """
    means = {}
    for name in METRICS:
        chosen = [pair for pair in judged if not math.isnan(pair[0][name].value)]
        if not chosen:
            means[name] = Interval(math.nan, math.nan, math.nan)
            continue
        value = float(np.mean([intervals[name].value for intervals, _ in chosen]))
        draws = np.mean([draws[name] for _, draws in chosen], axis=0)
        means[name] = percentile_interval(value, draws, level)
    return means
