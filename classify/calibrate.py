"""The calibrate stage: a finished run's classifier with probabilities and a decision.

A head that was trained with noise ranks patients well, and its scores are no probabilities: they
crowd around one half. Platt's slope and offset make them so, and a threshold is chosen for a
sensitivity. The slope is above 0, so that the ranking stays as it was.

On phantoms and synthetic sets this is free, and exact. On patients it is one noisy release of
counts by class and score, paid for out of `privacy.epsilon`, the end-to-end target: what the run's
ancestors spent on the same data set is taken off first, whatever the split, since only cohorts are
known to be disjoint. A run that is to be calibrated at 6 must therefore have been trained at less:
at delta 1e-4, training to 5 leaves mu 0.74 (a noise multiplier of 1.3), to 5.5 mu 0.53.

Calibrating on the patients that the model was trained on is optimistic: they score better than new
ones, so that the sensitivity on new patients is lower than the one chosen. With `split=val` it is
honest, and the patients of `val` then are in the promise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from classify.evaluate import known_targets
from classify.features.input_form import refuse_unlike_images
from classify.model.classifier import (
    Classifier,
    OperatingPoint,
    features,
    logits,
    probabilities,
    sees_volumes,
)
from classify.model.folder import load_classifier, save_classifier
from classify.plans import calibration_plan
from classify.settings.finished import CalibrateSettings
from synthdp.data.dataset import Row, refuse_one_class, units_of
from synthdp.data.identity import keyed_digest
from synthdp.data.people.cohorts import cohort_rows
from synthdp.data.people.units import bounded_rows
from synthdp.evaluation.metrics import FloatArray, has_both_classes
from synthdp.evaluation.noisy_counts import likely_counts, released_coefficients
from synthdp.evaluation.operating_point import (
    platt_of_counts,
    platt_scaling,
    threshold_of_counts,
    threshold_of_scores,
)
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.steps import run_once
from synthdp.privacy.lineage import Release
from synthdp.privacy.noisy_sum.noise import open_noise_source
from synthdp.privacy.promise.plan import PrivacyPlan
from synthdp.privacy.promise.statement import Statement
from synthdp.runs.cards import model_card
from synthdp.runs.folder import Run, open_run
from synthdp.storage.files import sha256_file

STAGE = "calibrate"
RELEASED = "counts.safetensors"


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """A classifier without points, and the images that it is calibrated on, before they are scored.

    rows: N of them; targets: (N, T), nan unknown; units: the N names of whose each image is.
    """

    classifier: Classifier
    rows: tuple[Row, ...]
    targets: NDArray[np.float64]
    units: list[str]


def run_calibrate(settings: CalibrateSettings) -> Path:
    """Calibrate a finished run, or resume or return a calibration that stands at `settings.out`.

    Raises:
        InputError: when settings, run and data don't fit together, or images that are fitted
            exactly are of one class of every target.
    """
    plan = calibration_plan(settings)
    plan.refuse_overspent(settings.out)
    calibrated_on = _calibration_set(settings, plan)  # refuses before a folder is made
    with open_run(settings.out, STAGE, settings) as run:
        if not run.finished:
            _calibrate(settings, run, plan.with_release_id(run.release_id), calibrated_on)
    return settings.out


def _calibration_set(settings: CalibrateSettings, plan: PrivacyPlan) -> CalibrationSet:
    """What is calibrated, and on which images; raises as `run_calibrate`."""
    dataset = plan.dataset
    classifier = replace(load_classifier(settings.run), points=())
    refuse_unlike_images(classifier.input_form, dataset.info, of_volumes=sees_volumes(classifier))
    # With a promise nothing is refused for what these images are: that would tell of a patient.
    promised = plan.mechanism is not None
    of_cohort = cohort_rows(
        dataset,
        dataset.split(settings.split, may_be_empty=promised),
        settings.cohort,
        may_be_empty=promised,
    )
    rows = bounded_rows(of_cohort, settings.privacy.images_per_patient)
    targets = known_targets(dataset, rows, classifier.targets)
    units = units_of(rows, settings.privacy.unit)
    if not promised:
        refuse_one_class(f"{dataset.info.name}, {settings.split}", classifier.targets, targets)
    return CalibrationSet(classifier, rows, targets, units)


def _calibrate(
    settings: CalibrateSettings, run: Run, plan: PrivacyPlan, calibrated_on: CalibrationSet
) -> None:
    classifier, spent = calibrated_on.classifier, plan.release
    sensitivity, fitted_on = settings.sensitivity, plan.dataset.info.name
    if plan.mechanism is None:
        plan.record(Ledger(run.ledger_path))
        raw_logits = logits(classifier, features(classifier, plan.dataset, calibrated_on.rows))
        points = exact_points(
            classifier,
            raw_logits,
            calibrated_on.targets,
            calibrated_on.units,
            sensitivity=sensitivity,
            fitted_on=fitted_on,
        )
    else:
        coefficients, spent = _released(settings, run, plan, calibrated_on)
        points = noisy_points(coefficients, sensitivity=sensitivity, fitted_on=fitted_on)
    save_classifier(run.model, replace(classifier, points=points))
    statement = plan.statement_after(spent)
    by_target = dict(zip(classifier.targets, points, strict=True))
    run.finish(statement, _card(settings, plan, statement, by_target))


def _released(
    settings: CalibrateSettings, run: Run, plan: PrivacyPlan, calibrated_on: CalibrationSet
) -> tuple[NDArray[np.float64], Release]:
    """The noisy counts, (T, 2, BINS), made once and kept in the run; and what they spent.

    Guarantee: that of the plan's mechanism, however often the run is killed (`run_once`).
    """
    ledger, classifier = Ledger(run.ledger_path), calibrated_on.classifier
    of_classifier = sha256_file(settings.run / "model" / "settings.json")
    fingerprint = f"{keyed_digest(plan.dataset, calibrated_on.rows)} {of_classifier}"
    plan = plan.claim(ledger, fingerprint=fingerprint, block_steps=1)
    mechanism = plan.mechanism
    assert mechanism is not None  # the caller has asked
    raws = features(classifier, plan.dataset, calibrated_on.rows, finite=False)
    scored = probabilities(classifier, logits(classifier, raws))

    def release() -> dict[str, Tensor]:
        released = released_coefficients(
            calibrated_on.targets,
            scored,
            calibrated_on.units,
            mechanism=mechanism,
            noise_source=open_noise_source(settings.privacy),
        )
        return {"coefficients": torch.from_numpy(released)}

    kept = run_once(ledger, run.private / RELEASED, release)["coefficients"]
    return kept.numpy(), ledger.close()


def _card(
    settings: CalibrateSettings,
    plan: PrivacyPlan,
    statement: Statement,
    points: Mapping[str, OperatingPoint],
) -> str:
    info = plan.dataset.info
    how = "exact" if plan.mechanism is None else "to noisy counts by class and score"
    facts = {
        "data set": f"{info.name} ({info.kind}), {settings.split} split",
        "fit": how,
        "sensitivity asked for": f"{settings.sensitivity:g}",
        **{
            name: f"sigmoid({point.slope:.3g} logit {point.offset:+.3g}), positive from "
            f"{point.threshold:.3g} on"
            for name, point in points.items()
        },
    }
    summary = (
        "A trained classifier whose scores are calibrated probabilities, with a threshold for "
        "each target. Its ranking is that of the run it was made from. On patients that the "
        "classifier was trained on, a calibration is optimistic: expect a lower sensitivity on new "
        "ones. The patients it was calibrated on are in the promise, whatever their split."
    )
    return model_card(
        title=f"Classifier calibrated on {info.name}",
        summary=summary,
        statement=statement,
        settings=facts,
    )


# Operating points, fitted exactly or to noisy counts by class and score. In both, each patient has
# weight one, spread evenly over the images with a known label: an operating point is for patients,
# and no patient decides it by having many images.


def exact_points(
    classifier: Classifier,
    raw_logits: Tensor,
    targets: FloatArray,
    units: Sequence[str],
    *,
    sensitivity: float,
    fitted_on: str,
) -> tuple[OperatingPoint, ...]:
    """Operating points fitted to the scores themselves.

    Args:
        classifier: without points.
        raw_logits: (N, T) float32.
        targets: (N, T) of 1, 0 or nan (left out); a target of one class has the plain point.
        units: (N,), the patient of each image.
        sensitivity: of the thresholds, in (0, 1), or a little more, where no threshold meets it.
        fitted_on: the name of the set.
    """
    _, owners = np.unique(np.asarray(units), return_inverse=True)
    points: list[OperatingPoint] = []
    for index in range(len(classifier.targets)):
        column = targets[:, index]
        if not has_both_classes(column):
            points.append(_plain_point(sensitivity, fitted_on))
            continue
        known = ~np.isnan(column)
        weights = 1 / np.bincount(owners[known], minlength=len(owners))[owners[known]]
        positives = weights * (column[known] == 1)
        values = raw_logits[torch.from_numpy(known), index]
        slope, offset = platt_scaling(values.double().numpy(), weights - positives, positives)
        point = OperatingPoint(
            slope=slope,
            offset=offset,
            threshold=0.5,
            sensitivity=sensitivity,
            fitted_on=fitted_on,
        )
        calibrated = probabilities(replace(classifier, points=(point,)), values[:, None])[:, 0]
        threshold = threshold_of_scores(calibrated.astype(np.float64), positives, sensitivity)
        points.append(point.model_copy(update={"threshold": threshold}))
    return tuple(points)


def _plain_point(sensitivity: float, fitted_on: str) -> OperatingPoint:
    """What leaves a score as it is, where nothing can be fitted."""
    return OperatingPoint(
        slope=1.0, offset=0.0, threshold=0.5, sensitivity=sensitivity, fitted_on=fitted_on
    )


def noisy_points(
    coefficients: NDArray[np.float64], *, sensitivity: float, fitted_on: str
) -> tuple[OperatingPoint, ...]:
    """Operating points fitted to counts that were released with noise; finite whatever they are.

    Where so little of a class is left that nothing can be fitted, a point is the plain one: slope
    1, offset 0, threshold 0.5.

    Args:
        coefficients: (T, 2, BINS) of `released_coefficients`.
        sensitivity: of the thresholds, in (0, 1).
        fitted_on: the name of the set.
    """
    points = []
    for counts in likely_counts(coefficients):
        slope, offset = platt_of_counts(counts)
        value = slope * threshold_of_counts(counts[1], sensitivity) + offset
        assert math.isfinite(value)  # all three are bounded
        points.append(
            OperatingPoint(
                slope=slope,
                offset=offset,
                threshold=float(expit(value)),
                sensitivity=sensitivity,
                fitted_on=fitted_on,
            )
        )
    return tuple(points)
