"""Whoever a fold leaves out decides nothing of a run, not by an image that can't be read either.

Import refuses such an image; here it is damaged in the set, as on a failing disk. Features of all
folds are made and kept together, which is where one that no run asks for could stop them all.
"""

import builtins
import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from made_up import clinic_set, random_run
from numpy.testing import assert_array_equal
from torch import Tensor

from classify.evaluate import run_evaluate
from classify.settings.finished import EvaluateSettings
from synthdp.checkpoint import load_weights
from synthdp.data.dataset import open_dataset
from synthdp.data.people.folds import fold_of
from synthdp.errors import InputError
from synthdp.evaluation.predictions import Predictions, read_predictions
from tests.guarantees.test_neighbours import without_one_patient
from tests.releases.test_release import PRIVACY, finetuned

GONE, FOLDS = "secret-5", 3
OWN = fold_of(GONE, FOLDS)
OTHER = OWN % FOLDS + 1
#: With the same noise, two runs can be compared to the bit.
FIXED = PRIVACY.model_copy(update={"fixed_noise_key": 3})


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return clinic_set(tmp_path / "clinic", n_patients=12)


def damaged(clinic: Path, out: Path) -> Path:
    """The same set, the patient's images cut off behind their headers."""
    for row in open_dataset(copytree(clinic, out)).rows:
        if row.patient_id == GONE:
            (out / row.image).write_bytes((out / row.image).read_bytes()[:60])
    return out


def without(clinic: Path, out: Path) -> Path:
    return without_one_patient(clinic, out, GONE)


def head_of(data: Path, out: Path) -> Mapping[str, Tensor]:
    """The weights of a head on all but the patient's fold."""
    head = {"steps": 5, "views": 2}
    run = finetuned(data, out, leave_out=f"{OWN}/{FOLDS}", privacy=FIXED, head=head)
    return load_weights(run / "model" / "weights.safetensors")


def assert_same_head(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert_array_equal(tensor, other[name], name)


@pytest.mark.parametrize("neighbour", [damaged, without])
def test_a_head_is_the_same_whatever_becomes_of_who_is_left_out(
    neighbour: Callable[[Path, Path], Path], clinic: Path, tmp_path: Path
) -> None:
    beside = neighbour(clinic, tmp_path / "neighbour")
    assert_same_head(head_of(beside, tmp_path / "one"), head_of(clinic, tmp_path / "other"))


def test_a_disk_that_fails_at_who_is_left_out_stops_those_alone_who_need_it(
    clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a set has changed is told of all of it, where the image can't be read either."""
    whole = head_of(copytree(clinic, tmp_path / "whole"), tmp_path / "other")
    rows = open_dataset(clinic).rows
    lost = {str(clinic / row.image) for row in rows if row.patient_id == GONE}
    plainly = builtins.open

    def failing(file: Any, *args: Any, **kwargs: Any) -> Any:
        if str(file) in lost:
            raise OSError(errno.EIO, "Input/output error")
        return plainly(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", failing)
    assert_same_head(head_of(clinic, tmp_path / "one"), whole)
    with pytest.raises(InputError, match=r"clinic/manifest\.csv, row \d+: the file cannot be read"):
        finetuned(clinic, tmp_path / "run", leave_out=f"{OTHER}/{FOLDS}", privacy=FIXED)


def test_a_run_that_meets_the_patient_is_refused(clinic: Path, tmp_path: Path) -> None:
    data = damaged(clinic, tmp_path / "damaged")
    for leave_out in (f"{OTHER}/{FOLDS}", None):
        with pytest.raises(InputError, match=r"damaged/manifest\.csv, row \d+: "):
            finetuned(data, tmp_path / "run", leave_out=leave_out, privacy=FIXED)


def scored(run: Path, data: Path, out: Path, fold: int) -> Predictions:
    values = {"run": run, "dataset": data, "out": out, "split": "train", "fold": f"{fold}/{FOLDS}"}
    return read_predictions(run_evaluate(EvaluateSettings.model_validate(values)))


def test_scores_of_one_fold_need_no_image_of_another(clinic: Path, tmp_path: Path) -> None:
    run, data = random_run(tmp_path / "run"), damaged(clinic, tmp_path / "damaged")
    assert_array_equal(
        scored(run, data, tmp_path / "out", OTHER).scores,
        scored(run, clinic, tmp_path / "expected", OTHER).scores,
    )
    with pytest.raises(InputError, match=r"row \d+"):
        scored(run, data, tmp_path / "refused", OWN)
