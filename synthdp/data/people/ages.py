"""Ages as a set may hold them: in whole years where DICOM writes them, and none above 90."""

#: Those of 90 and more are so few that an age tells who it is: they are one class, written as 90
#: (HIPAA, 45 CFR 164.514(b)(2)(i)(C)).
OLDEST_YEARS = 90
#: Columns that hold ages, in lower case.
AGE_COLUMNS = ("age", "patient_age", "patientage", "age_years", "patient age", "age_at_study")
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
