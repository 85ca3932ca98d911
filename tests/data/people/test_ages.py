import pytest

from synthdp.data.people.ages import capped_age, years


@pytest.mark.parametrize(
    ("age", "capped"),
    [
        *(
            ("72", "72"),
            ("90", "90"),
            ("91", "90"),
            ("103.5", "90"),
            ("094Y", "90"),
            (" 95 ", "90"),
        ),
        *(("089Y", "089Y"), ("018M", "018M"), ("", ""), ("unknown", "unknown"), ("nan", "nan")),
    ],
)
def test_none_is_above_ninety(age: str, capped: str) -> None:
    assert capped_age(age) == capped


@pytest.mark.parametrize(
    ("age", "number"),
    [
        *(("072Y", 72), ("18m", 1), ("006W", 0), ("100D", 0), ("72", 72), ("72.5", 72.5)),
        *(("", None), ("Y", None), ("0x2Y", None), ("²³4Y", None), ("1000Y", None)),
    ],
)
def test_years(age: str, number: float | None) -> None:
    assert years(age) == number
