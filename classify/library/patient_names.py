"""Whose row or item each is, from ids as people hold them: a list, a column, a tensor."""

from typing import Any

import numpy as np

from synthdp.errors import InputError


def patient_names(patients: Any, n_items: int, *, setting: str) -> list[str]:
    """The name of each item's patient.

    Args:
        patients: (N,) or (N, 1) ids: strings or numbers, of which equal ones are one patient.
        n_items: N, how many items there are.
        setting: what the ids were given as.

    Returns:
        (N,): names that are alike exactly where the patient is.

    Raises:
        InputError: when an item has no patient (None, nan, an empty id), or there is not one id
            for each.
    """
    ids = np.asarray(patients, dtype=object)
    if ids.ndim == 2 and ids.shape[1] == 1:
        ids = ids[:, 0]
    if ids.shape != (n_items,):
        raise InputError(
            f"{setting}: name one patient for each row or item, in their order, by one value each "
            "(where an id has several parts, join them to one text)"
        )
    names = [_name(value) for value in ids]
    if not all(names):
        raise InputError(f"{setting}: a row has no patient; name one for each row or item")
    return names


def is_missing(value: object) -> bool:
    """Whether a value stands for none: None, nan, or what pandas has for it."""
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 (so are nan and pandas.NaT)
    except TypeError:  # pandas.NA is neither alike nor not
        return True


def _name(value: Any) -> str:
    """The id as text, empty for none; 1, 1.0 and True are one, as Python and NumPy have it."""
    if hasattr(value, "item"):
        value = value.item()
    if is_missing(value):
        return ""
    if isinstance(value, float | bool) and float(value).is_integer():
        value = int(value)
    return str(value).strip()
