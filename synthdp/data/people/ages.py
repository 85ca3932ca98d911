"""Ages as a set may hold them: in whole years where DICOM writes them, and none above 90."""

import math
import re

#: Those of 90 and more are so few that an age tells who it is: they are one class, written as 90
#: (HIPAA, 45 CFR 164.514(b)(2)(i)(C)).
OLDEST_YEARS = 90
#: Columns that hold ages, in lower case.
AGE_COLUMNS = ("age", "patient_age", "patientage", "age_years", "patient age", "age_at_study")
#: Collections have 148 and 155 where no age was known; the oldest person on record was 122.
MOST_YEARS = 120
#: The year that a date begins with.
_YEAR = re.compile(r"(1[89]\d\d|2[01]\d\d)(?:\.0+|[-./]?\d\d.*)?$")
_A_YEAR = {"Y": 1, "M": 12, "W": 52, "D": 365}


def years(age: str) -> float | None:
    """An age in years, of a number or as DICOM has it (`072Y`, `018M`, `009W`); None of no age."""
    digits, unit = age.strip()[:-1], age.strip()[-1:].upper()
    if unit in _A_YEAR and digits.isascii() and digits.isdigit() and len(digits) <= 3:
        return int(digits) // _A_YEAR[unit]
    try:
        return float(age)
    except ValueError:
        return None


def capped_age(age: str) -> str:
    """An age, 90 where it is more; what is no age stays as it is."""
    number = years(age)
    return str(OLDEST_YEARS) if number is not None and number > OLDEST_YEARS else age


def age_in_years(age: str, *, least: int = 0, most: int = MOST_YEARS) -> str:
    """An age as a set holds it: years, 90 where it is more, empty where no person can be so old.

    A number stays as it is written, DICOM's forms become whole years, and what is no age stays.

    Args:
        age: as a table has it.
        least: a younger age is unknown; 1 where a collection writes 0 for none.
        most: an older age is unknown.
    """
    number = years(age)
    if number is None or math.isnan(number):
        return age
    if not least <= number <= most:
        return ""
    written = age if age.strip()[-1:].isdigit() else str(int(number))
    return capped_age(written)


def years_between(born: str, taken: str) -> int | None:
    """The years from one year or date (1930, 1930.0, 19300511, 1930-05-11) to another; None where
    either says no year.
    """
    both = [_YEAR.match(text.strip()) for text in (born, taken)]
    if both[0] is None or both[1] is None:
        return None
    return int(both[1][1]) - int(both[0][1])
