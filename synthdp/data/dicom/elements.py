"""Values of single DICOM elements, whatever type and number of them a damaged header has."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset


def text(dataset: "Dataset", keyword: str) -> str:
    """The value as text without outer blanks, several joined by a backslash; "" where absent."""
    return "\\".join(_as_text(value) for value in _values(dataset, keyword)).strip()


def numbers(dataset: "Dataset", keyword: str) -> tuple[float, ...]:
    """The values as numbers; none where one of them is no finite number."""
    try:
        values = tuple(float(_as_text(value)) for value in _values(dataset, keyword))
    except ValueError:
        return ()
    return values if all(math.isfinite(value) for value in values) else ()


def number(dataset: "Dataset", keyword: str) -> float | None:
    """The first value as a number; None where it is absent or none."""
    values = numbers(dataset, keyword)
    return values[0] if values else None


def whole(dataset: "Dataset", keyword: str) -> int | None:
    """The first value as a whole number; None where it is absent or none."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value == int(value) else None


def _values(dataset: "Dataset", keyword: str) -> tuple[Any, ...]:
    value = dataset.get(keyword)
    if value is None:
        return ()
    is_one = isinstance(value, str | bytes) or not hasattr(value, "__iter__")
    return (value,) if is_one else tuple(value)


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):  # an element whose type the file calls unknown
        return value.decode("latin-1").rstrip("\0").strip()
    return str(value).rstrip("\0").strip()
