"""Logistic regression with a promise to each patient, as an estimator of scikit-learn.

It is the head of `synthdp finetune` on features of your own: the same clipped sums on the lattice,
the same noise and ledger (`classify.head.train.train_private_head`).
"""

import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)
from torch import Tensor

from classify.head.examples import HeadExamples
from classify.head.train import head_recipe, train_head, train_private_head
from classify.library.ledger_folder import open_ledger_folder, plan_for_arrays
from classify.library.patient_names import is_missing, patient_names
from classify.settings.head import HeadSettings
from synthdp.config.settings import validate_settings
from synthdp.errors import InputError
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.exact import ExactRows, row_norms
from synthdp.privacy.noisy_sum.noise import open_noise_source
from synthdp.privacy.settings import PrivacySettings

#: Below it a row counts as zero: its direction is rounding.
_LEAST_NORM = 1e-30
_ROWS_ALONE = "that each row of X was made of its own image alone, without a fit on the others"
_OF_GROUPS = "which rows are one patient's, as groups says"
_OF_ROWS = "that each row is one patient, since no groups were given"
_ROWS_COUNTED = "each row counted as a patient, since no groups were given"
#: What fits something on the patients' scores around an estimator, and what that is.
_FITS_ON_SCORES = {
    "BaseSearchCV": "it chooses settings by scores of the patients",
    "TunedThresholdClassifierCV": "it chooses a threshold by scores of the patients",
    "CalibratedClassifierCV": "it fits probabilities to scores of the patients",
    "StackingClassifier": "it fits a second classifier to scores of the patients",
    "RFECV": "it chooses features by scores of the patients",
    "SequentialFeatureSelector": "it chooses features by scores of the patients",
}


class PrivateLogisticRegression(ClassifierMixin, BaseEstimator):
    """Logistic regression whose weights keep a promise to each patient.

    A patient's gradient is the mean over that patient's rows, clipped as one vector; each of
    `steps` steps adds Gaussian noise to their sum. The weights are the average over the last steps.

    Nothing is read of `X` but through these sums. So no scaler, PCA or selection may be fitted on
    the same rows before it: each would be a release of its own. In a pipeline it is refused; of
    what else came before, the statement can only say that you declared there was none. Rows are
    scaled here by public numbers: `centre` is subtracted, and each row is brought to norm 1, or,
    with `data_norm`, divided by it and shortened to 1 where it is longer. What is released, the
    statement says, holds for the whole fit; each further fit is a release of its own, and `ledger`
    counts them together.

    Args:
        epsilon: for each patient; `math.inf` for the same recipe without clipping and noise.
        delta: below 1 / population.
        population: a public round number, surely at least the number of patients; it is divided by
            in the place of the true number, which enters nothing that is public.
        classes: the labels, in order. They are public: those that `y` happens to hold are not read.
        ledger: a folder that counts what is released of these patients: new, or of an earlier fit,
            or of their data set. None keeps it in memory, and the statement says so.
        centre: (D,) or one number, subtracted from each row: of public data.
        data_norm: what rows are divided by, public; None brings each row to norm 1.
        steps: more cost no privacy, since each gets its share of noise.
        clip_norm: bound on each patient's gradient.
        lr_times_steps: learning rate x steps; None takes the rule that synthdp fixed on public data
            for the epsilon.
        average_from: the share of the steps from which on iterates are averaged.
        bias_input: the constant that the bias sees beside a row of norm 1.
        random_state: accepted for tools that set it, and moves nothing: weights start at zero, and
            the noise is secret.

    Attributes:
        statement_: the promise, as `synthdp.Statement`; `print` shows its words.
        epsilon_: of the statement: of this fit, or `inf`.
        coef_: (1, D), or (K, D) for K > 2 classes, each against all others; of scaled rows.
        intercept_: (1,) or (K,).
        classes_: (K,).
        n_features_in_: D.

    Guarantee: of `fit`, that of `train_private_head`, as far as each row is a function of its own
    patient. What `fit` refuses it refuses before a step; an unreadable label tells whoever holds
    the data of it, and nobody else.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> patients = np.repeat(np.arange(150), 2)                 # two images of each
    >>> y = patients % 2
    >>> X = rng.normal(size=(300, 8)) + np.outer(2 * y - 1, np.ones(8))
    >>> model = PrivateLogisticRegression(epsilon=6, delta=1e-4, population=200)
    >>> bool(model.fit(X, y, groups=patients).score(X, y) > 0.9)
    True
    >>> model.epsilon_ <= 6
    True
    """

    def __init__(
        self,
        epsilon: float,
        delta: float,
        population: int,
        *,
        classes: Sequence[Any] = (0, 1),
        ledger: Path | str | None = None,
        centre: ArrayLike | None = None,
        data_norm: float | None = None,
        steps: int = 400,
        clip_norm: float = 1.0,
        lr_times_steps: float | None = None,
        average_from: float = 0.5,
        bias_input: float = 0.5,
        random_state: object = None,
    ) -> None:
        self.epsilon = epsilon
        self.delta = delta
        self.population = population
        self.classes = classes
        self.ledger = ledger
        self.centre = centre
        self.data_norm = data_norm
        self.steps = steps
        self.clip_norm = clip_norm
        self.lr_times_steps = lr_times_steps
        self.average_from = average_from
        self.bias_input = bias_input
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None
    ) -> "PrivateLogisticRegression":
        """Fit, and state what that promises.

        Args:
            X: (N, D) numbers; a row that is not finite makes its patient count as nothing.
            y: (N,) labels, each of `classes`; nan or None for unknown.
            groups: (N,) the patient of each row, such as an id; None where each row is one patient,
                which the statement says.

        Returns:
            The estimator itself.

        Raises:
            InputError: when settings, shapes or labels don't fit, or the ledger's budget does not
                allow the release.
            KeyboardInterrupt: after a stop; what was reserved stays spent.
        """
        _refuse_fitted_before()
        head = self._head()
        rows, targets, units, n_units = self._checked(X, y, groups)
        inputs = torch.from_numpy(self._scaled(rows))
        constant = inputs.new_full((len(inputs), 1), self.bias_input)
        examples = HeadExamples(torch.cat([inputs, constant], dim=1), targets, units)
        start = inputs.new_zeros(targets.shape[1], inputs.shape[1] + 1)
        folder = open_ledger_folder(self.ledger)
        plan = plan_for_arrays(
            folder,
            stage="PrivateLogisticRegression",
            subject="classifier",
            epsilon=self.epsilon,
            delta=self.delta,
            population=self.population,
            steps=head.steps,
            clip_norm=head.clip_norm,
            declared=(_OF_ROWS if groups is None else _OF_GROUPS, _ROWS_ALONE),
            note=_ROWS_COUNTED if groups is None else "",
        )
        recipe = head_recipe(head, plan.stage_epsilon, plan.n_units)
        counts = {
            "images_without_label": int(torch.isnan(targets).all(dim=1).sum()),
            "units_beyond_population": max(0, n_units - self.population),
        }
        plan, ledger, run = folder.claimed(plan, block_steps=head.block_steps, counts=counts)
        if plan.mechanism is None:
            sampling = Mechanism(noise_multiplier=0, steps=head.steps, normaliser=self.population)
            weights, spent = train_head(start, examples, recipe, sampling=sampling), plan.release
        else:
            weights = train_private_head(
                start,
                examples,
                recipe,
                ledger=ledger,
                noise_source=open_noise_source(PrivacySettings()),
                checkpoints=run / "checkpoints",
            )
            spent = ledger.close()
            shutil.rmtree(run / "checkpoints")
        self.coef_ = weights[:, :-1].double().numpy()
        self.intercept_ = self.bias_input * weights[:, -1].double().numpy()
        self.statement_ = plan.statement_after(spent)
        self.epsilon_ = self.statement_.epsilon
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits: (N,) of the second class of two, or (N, K) of each of more.

        Raises:
            InputError: when X has other columns, or a value that is not finite.
        """
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=np.float64)
        weights = torch.from_numpy(self.coef_)
        rows = ExactRows.of(torch.from_numpy(self._scaled(values)))
        logits: NDArray[np.float64] = rows.products(weights).numpy() + self.intercept_
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of `classes_`, (N, K), that sum to 1; more than two are each against all.

        Raises:
            InputError: as `decision_function`.
        """
        each = expit(self.decision_function(X))
        if each.ndim == 1:
            return np.stack([1 - each, each], axis=1)
        shares: NDArray[np.float64] = each / each.sum(axis=1, keepdims=True).clip(_LEAST_NORM)
        return shares

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The more probable of `classes_` for each row, (N,).

        Raises:
            InputError: as `decision_function`.
        """
        logits = self.decision_function(X)
        best = (logits > 0).astype(int) if logits.ndim == 1 else logits.argmax(axis=1)
        chosen: NDArray[Any] = self.classes_[best]
        return chosen

    def _head(self) -> HeadSettings:
        """The recipe, checked."""
        values = {
            "steps": self.steps,
            "clip_norm": self.clip_norm,
            "lr_times_steps": self.lr_times_steps,
            "average_from": self.average_from,
            "bias_input": self.bias_input,
        }
        return validate_settings(HeadSettings, values, where="PrivateLogisticRegression")

    def _checked(
        self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None
    ) -> tuple[NDArray[np.float64], Tensor, Tensor, int]:
        """X (N, D), targets (N, T) with nan for unknown, the unit of each row, how many there are.

        Sets `classes_` and what scikit-learn keeps of X.
        """
        if y is None:
            raise InputError("fit requires y to be passed, but the target y is None")
        # a promise does not depend on there being a patient, nor on finite numbers
        anything = {"ensure_all_finite": False, "ensure_min_samples": 0}
        rows = validate_data(self, X, dtype=np.float64, **anything)
        labels = column_or_1d(y, warn=True)
        check_consistent_length(rows, labels, groups)
        self.classes_ = np.asarray(self.classes)
        if self.classes_.ndim != 1 or not 2 <= len(self.classes_) == len(set(self.classes)):
            raise InputError("classes: name two labels or more, each once")
        known = np.ones(len(labels), bool)
        if labels.dtype.kind in "fO":
            known = np.array([not is_missing(label) for label in labels.tolist()], bool)
        if not np.isin(labels[known], self.classes_).all():
            raise InputError(
                f"Unknown label type: one in y is none of classes, {self.classes_.tolist()}; name "
                "there all labels that there may be: those that y happens to hold are not read"
            )
        is_class = labels[:, None] == self.classes_[None, :]
        targets = np.where(known[:, None], is_class, math.nan).astype(np.float32)
        if len(self.classes_) == 2:
            targets = targets[:, 1:]
        units, n_units = _units(groups, len(rows))
        return rows, torch.from_numpy(targets), units, n_units

    def _scaled(self, X: NDArray[np.float64]) -> NDArray[np.float32]:
        """Rows brought to norm 1, or below: each a function of itself and of public numbers."""
        if self.data_norm is not None and not 0 < self.data_norm < math.inf:
            raise InputError(f"data_norm is {self.data_norm}; name a public positive number")
        centre = 0.0 if self.centre is None else np.asarray(self.centre, dtype=np.float64)
        if np.shape(centre) not in ((), X.shape[1:]) or not np.isfinite(centre).all():
            raise InputError("centre: is neither one finite number nor one for each column of X")
        rows = torch.from_numpy(np.asarray(X - centre, dtype=np.float64))
        norms = row_norms(rows).unsqueeze(1)
        least = _LEAST_NORM if self.data_norm is None else self.data_norm
        return (rows / norms.clamp_min(least)).float().numpy()

    def __sklearn_clone__(self) -> "PrivateLogisticRegression":
        _refuse_fits_on_scores()
        copy: PrivateLogisticRegression = super().__sklearn_clone__()
        return copy

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True  # in fit, where a refusal would tell of a patient
        tags.non_deterministic = self.epsilon != math.inf
        return tags


def _units(groups: ArrayLike | None, n_rows: int) -> tuple[Tensor, int]:
    """The unit of each row, counted from 0, and how many there are."""
    if groups is None:
        return torch.arange(n_rows), n_rows
    number_of: dict[str, int] = {}
    names = patient_names(groups, n_rows, setting="groups")
    units = [number_of.setdefault(name, len(number_of)) for name in names]
    return torch.tensor(units, dtype=torch.int64), len(number_of)


def _callers() -> Iterator[object]:
    """The objects whose methods are at work around the estimator's, from the inside out."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame.f_locals.get("self")
        frame = frame.f_back


def _refuse_fitted_before() -> None:
    """Refuse to be fitted behind a step of a pipeline that is fitted on the same patients.

    Raises:
        InputError: naming the step, and what to put in its place.
    """
    for pipeline in _callers():
        for name, step in pipeline.steps[:-1] if isinstance(pipeline, Pipeline) else ():
            if _fits_on_rows(step):
                raise InputError(
                    f"the step {name} ({type(step).__name__}) before PrivateLogisticRegression is "
                    "fitted on the patients, which no noise covers and no statement counts; fit "
                    "it on public, phantom or synthetic rows, and put in its place "
                    "sklearn.frozen.FrozenEstimator(it), or take what fits nothing, such as "
                    "Normalizer"
                )


def _fits_on_rows(step: object) -> bool:
    """Whether a step of a pipeline is fitted on the rows that come through it."""
    if isinstance(step, Pipeline):
        return any(_fits_on_rows(inner) for _, inner in step.steps)
    if step is None or isinstance(step, str | FrozenEstimator):  # "passthrough" fits nothing
        return False
    return bool(get_tags(step).requires_fit)


def _refuse_fits_on_scores() -> None:
    """Refuse to be copied by what would fit something on the patients' scores without a charge.

    The copy is made in the process of whoever calls, even where fits are spread over others.

    Raises:
        InputError: when a search, a calibration or the like of scikit-learn is at work.
    """
    for caller in _callers():
        for cls in type(caller).__mro__:
            if cls.__name__ in _FITS_ON_SCORES and cls.__module__.startswith("sklearn."):
                raise InputError(
                    f"{type(caller).__name__} around PrivateLogisticRegression is refused: "
                    f"{_FITS_ON_SCORES[cls.__name__]}, which no noise covers and no statement "
                    "counts. Choose on phantoms or synthetic images with sklearn's "
                    "LogisticRegression, or keep the defaults, then fit once on the patients"
                )
