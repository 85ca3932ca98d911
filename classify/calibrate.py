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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from classify.calibration_plan import STAGE, CalibrationPlan, make_plan, statement_after
from classify.classifier import Classifier, OperatingPoint, features, logits, probabilities
from classify.config import CalibrateSettings
from classify.evaluate import known_targets
from classify.model_folder import load_classifier, save_classifier
from classify.operating_points import exact_points, noisy_points
from synthdp.cards import model_card
from synthdp.checkpoint import load_weights, save_weights
from synthdp.data.cohorts import cohort_rows
from synthdp.data.dataset import Row, keyed_digest, refuse_one_class
from synthdp.evaluation.noisy_counts import refuse_small_population, released_coefficients
from synthdp.files import sha256_file
from synthdp.privacy.ledger import Ledger, record_release
from synthdp.privacy.lineage import Lineage, Release, new_release_id
from synthdp.privacy.noise import forget_key, noise_source
from synthdp.privacy.statement import Statement
from synthdp.runs import Run, open_run

RELEASED = "counts.safetensors"


@dataclass(frozen=True, eq=False)
class Examined:
    """The images that a classifier is calibrated on, before they are scored.

    rows: N of them; targets: (N, T), nan unknown; units: the N names of whose each image is.
    """

    classifier: Classifier
    rows: tuple[Row, ...]
    targets: NDArray[np.float64]
    units: list[str]


def plan_calibrate(
    settings: CalibrateSettings, to_come: Mapping[Path, Lineage] | None = None
) -> Statement:
    """The promise of the run, before any image is read.

    Args:
        settings: of the run.
        to_come: lineages of runs that are only planned yet, where `run` may be one of them.

    Raises:
        InputError: when the ancestors have spent the target already, or a folder does not fit.
    """
    return make_plan(settings, new_release_id(), to_come).statement


def run_calibrate(settings: CalibrateSettings) -> Path:
    """Calibrate a finished run, or resume or return a calibration that stands at `settings.out`.

    Raises:
        InputError: when settings, run and data don't fit together, or images that are fitted
            exactly are of one class.
    """
    _examined(settings, make_plan(settings, new_release_id()))  # refused before a folder is made
    with open_run(settings.out, STAGE, settings) as run:
        if not run.finished:
            _calibrate(settings, run, make_plan(settings, run.release_id))
    return settings.out


def _examined(settings: CalibrateSettings, plan: CalibrationPlan) -> Examined:
    """What is calibrated, and on which images; raises as `run_calibrate`."""
    dataset, by_image = plan.dataset, settings.privacy.unit == "image"
    classifier = replace(load_classifier(settings.run), points=())
    rows = cohort_rows(dataset, dataset.split(settings.split), settings.cohort)
    targets = known_targets(dataset, rows, classifier.targets)
    units = [row.image if by_image else row.patient_id for row in rows]
    if plan.mechanism is None:
        refuse_one_class(f"{dataset.info.name}, {settings.split}", classifier.targets, targets)
    else:
        refuse_small_population(units, plan.mechanism)
    return Examined(classifier, rows, targets, units)


def _calibrate(settings: CalibrateSettings, run: Run, plan: CalibrationPlan) -> None:
    examined, spent = _examined(settings, plan), plan.release
    if plan.release is not None:
        record_release(plan.dataset.ledger_path, plan.release)
    if plan.mechanism is None:
        points = _exact(settings, plan, examined)
    else:
        coefficients, spent = _released(settings, run, plan, examined)
        points = noisy_points(
            coefficients, sensitivity=settings.sensitivity, fitted_on=plan.dataset.info.name
        )
    names = examined.classifier.targets
    save_classifier(run.model, replace(examined.classifier, points=points))
    forget_key(run.private)  # first: no finished run keeps its key
    statement = statement_after(settings, plan.ancestors, spent, plan.parent)
    run.finish(statement, _card(settings, plan, statement, dict(zip(names, points, strict=True))))


def _exact(
    settings: CalibrateSettings, plan: CalibrationPlan, examined: Examined
) -> tuple[OperatingPoint, ...]:
    raws = features(examined.classifier, plan.dataset, examined.rows)
    return exact_points(
        examined.classifier,
        logits(examined.classifier, raws),
        examined.targets,
        examined.units,
        sensitivity=settings.sensitivity,
        fitted_on=plan.dataset.info.name,
    )


def _released(
    settings: CalibrateSettings, run: Run, plan: CalibrationPlan, examined: Examined
) -> tuple[NDArray[np.float64], Release]:
    """The noisy counts, (T, 2, BINS), made once and kept in the run; and what they spent.

    Guarantee: that of the plan's mechanism, however often the run is killed: its one step is
    reserved on disk before noise is drawn, the noise is that of the run's key in each attempt, on
    the same images under the same classifier, and only what is kept is ever used.
    """
    assert plan.release is not None  # the caller has asked, of both
    assert plan.release.mechanism is not None
    ledger = Ledger(run.private / "ledger.jsonl")
    of_classifier = sha256_file(settings.run / "model" / "settings.json")
    fingerprint = f"{keyed_digest(plan.dataset, examined.rows)} {of_classifier}"
    ledger.claim(plan.release, fingerprint=fingerprint, block_steps=1)
    if ledger.steps_left:
        ledger.reserve(1)
    path = run.private / RELEASED
    if not path.is_file():
        raw = logits(
            examined.classifier, features(examined.classifier, plan.dataset, examined.rows)
        )
        found = released_coefficients(
            examined.targets,
            probabilities(examined.classifier, raw),
            examined.units,
            mechanism=plan.release.mechanism,
            source=noise_source(run.private, settings.privacy),
        )
        save_weights(path, {"coefficients": torch.from_numpy(found)})
    kept: NDArray[np.float64] = load_weights(path)["coefficients"].numpy()
    return kept, ledger.spent()


def _card(
    settings: CalibrateSettings,
    plan: CalibrationPlan,
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
