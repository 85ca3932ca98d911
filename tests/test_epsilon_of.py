"""The epsilon of paths is the statement's: composed, each release once."""

import math
from pathlib import Path

import pytest
from made_up import random_run

from synthdp.errors import InputError
from synthdp.stage_functions import epsilon_of, statement_of


def test_the_epsilon_is_that_of_the_statement(tmp_path: Path) -> None:
    run = random_run(tmp_path / "run")
    assert epsilon_of(run) == statement_of(run).epsilon == 0
    assert epsilon_of("pretrained:mcgan-cbis-dp6") == pytest.approx(6, abs=1e-3)
    assert math.isinf(epsilon_of(run, "pretrained:mcgan-cbis"))


def test_several_are_composed_and_one_release_counts_once() -> None:
    dp6, dp1 = "pretrained:mcgan-cbis-dp6", "pretrained:mcgan-cbis-dp1"
    assert 6 < epsilon_of(dp6, dp1) < 7
    assert epsilon_of(dp6, dp6) == epsilon_of(dp6)


def test_no_path_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name one folder at least"):
        epsilon_of()
    with pytest.raises(InputError, match="not a data-set folder"):
        epsilon_of(tmp_path)
