import pytest

from synthdp.privacy.settings import PrivacySettings


@pytest.mark.parametrize("delta", [0.01, 0.0016666666666666668])
def test_delta_above_one_in_the_population(delta: float) -> None:
    with pytest.raises(ValueError, match="is not below 1/population") as error:
        PrivacySettings(population=600, delta=delta)
    assert "choose a smaller delta, such as 0.0001" in str(error.value)


def test_delta_advice_is_taken() -> None:
    for population in (2, 9, 10, 600, 999, 1000, 123_456):
        with pytest.raises(ValueError, match="smaller delta") as error:
            PrivacySettings(population=population, delta=0.5)
        advice = float(str(error.value).split("such as ")[1].split()[0])
        PrivacySettings(population=population, delta=advice)
