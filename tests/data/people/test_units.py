"""What a training asks of a set's units: refusals by declared numbers, and images up to a bound."""

import pytest

from synthdp.data.description import DatasetInfo
from synthdp.data.people.units import refuse_fewer_than_imported, refuse_unknown_patients
from synthdp.errors import InputError


def info(**changes: object) -> DatasetInfo:
    return DatasetInfo.model_validate({"name": "tiny", "kind": "real", "size_px": 32, **changes})


def test_no_promise_to_patients_that_are_not_known() -> None:
    refuse_unknown_patients(info(), "patient")
    refuse_unknown_patients(info(unit="image"), "image")
    refuse_unknown_patients(info(unit="image", kind="synthetic"), "patient")
    with pytest.raises(InputError, match="tiny was imported without patient ids"):
        refuse_unknown_patients(info(unit="image"), "patient")


def test_no_fewer_units_are_declared_than_at_import() -> None:
    refuse_fewer_than_imported(info(), 5, "patient")
    refuse_fewer_than_imported(info(population=600), None, "patient")
    refuse_fewer_than_imported(info(population=600), 600, "patient")
    refuse_fewer_than_imported(info(population=600), 5, "image")  # of other units than at import
    with pytest.raises(InputError, match="declare 600 or more"):
        refuse_fewer_than_imported(info(population=600), 599, "patient")
