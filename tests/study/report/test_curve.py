import math
from xml.etree import ElementTree

import pytest

from synthdp.pages import MARKS
from synthdp.study.compare.cells import Aggregate, OverSeeds
from synthdp.study.report.curve import Scale, draw_curve, odds_by_epsilon, shown_epsilon


def aggregate(
    strategy: str = "real_only",
    epsilon: float | None = 6.0,
    *,
    end_to_end: float | None = None,
    stage: float | None = None,
    auroc: float | None = 0.7,
    runs: tuple[str, ...] = ("finetune-1",),
) -> Aggregate:
    asked = math.inf if epsilon is None else epsilon
    return Aggregate(
        strategy=strategy,
        epsilon=epsilon,
        data_set="clinic",
        split="val",
        n_seeds=1,
        n_failed=0,
        metrics={"auroc": OverSeeds(auroc, None, None, None)},
        epsilon_stage=asked if stage is None else stage,
        epsilon_end_to_end=asked if end_to_end is None else end_to_end,
        delta=1e-4,
        unit="patient",
        n_images=10,
        n_patients=5,
        runs=runs,
    )


def test_epsilons_stand_in_order_with_0_and_none_beside_them() -> None:
    scale = Scale.over([1, 6, 60])
    places = [scale.place(value) for value in (0, 1, 6, 60, math.inf)]
    assert places == sorted(places)
    assert len(set(places)) == 5


@pytest.mark.parametrize(
    ("row", "place"),
    [
        (aggregate(), 6),
        (aggregate(end_to_end=5.5), 5.5),
        (aggregate(epsilon=None), math.inf),
        (aggregate(end_to_end=math.inf), 6),
        (aggregate(epsilon=None, end_to_end=math.inf, stage=0.0), math.inf),
        (aggregate(epsilon=None, end_to_end=0.0, stage=0.0), 0),
        (aggregate(epsilon=None, end_to_end=3.0, stage=0.0), 3),
    ],
    ids=["promised", "less than asked", "no DP", "voided", "voided, no grid", "phantoms", "DP GAN"],
)
def test_where_a_row_stands(row: Aggregate, place: float) -> None:
    assert shown_epsilon(row) == place


def test_drawing_is_well_formed_and_the_same_again() -> None:
    rows = [aggregate(epsilon=value) for value in (1.0, 6.0, None)]
    first = draw_curve(rows, ["real_only"], prefix="a", width_in=6)
    assert first == draw_curve(rows, ["real_only"], prefix="a", width_in=6)
    root = ElementTree.fromstring(first)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"1", "6", "none", "AUROC"} <= set(words)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids
    assert all(name.startswith("a-") for name in ids)


def test_hollow_is_told_only_where_something_is_hollow() -> None:
    filled, hollow = (
        draw_curve([aggregate(end_to_end=value)], ["real_only"], prefix="a", width_in=6)
        for value in (6.0, math.inf)
    )
    assert "hollow" not in filled
    assert "var(--paper)" not in filled
    assert "drawn hollow" in hollow
    assert "var(--paper)" in hollow


def test_more_strategies_than_marks() -> None:
    names = [f"recipe_{index}" for index in range(len(MARKS) + 2)]
    rows = [aggregate(name, auroc=0.5 + index / 40) for index, name in enumerate(names)]
    drawing = draw_curve(rows, names, prefix="a", width_in=6)
    assert all(name.replace("_", " ") in drawing for name in names)


def test_a_dozen_strategies_differ_in_shape() -> None:
    assert len({mark.path for mark in MARKS}) == len({mark.marker for mark in MARKS}) == 16


def test_odds_are_the_worst_at_each_epsilon_and_hollow_rows_stand_at_no_promise() -> None:
    rows = [
        aggregate("a", 1.0, runs=("1",)),
        aggregate("b", 1.0, runs=("2",)),
        aggregate("a", 6.0, end_to_end=math.inf, runs=("3",)),
        aggregate("c", 6.0, runs=("not stated",)),
    ]
    found = {("1",): 0.02, ("2",): 0.03, ("3",): 1.0}
    assert odds_by_epsilon(rows, found) == [(1.0, 0.03), (math.inf, 1.0)]
    drawing = draw_curve(rows, ["a", "b", "c"], prefix="a", width_in=6, found=found)
    assert ">3 %<" in drawing
    assert ">none<" in drawing
    assert "members found at 1 % false alarms, 3 % at 1, 100 % at no promise" in drawing
    without = draw_curve(rows, ["a", "b", "c"], prefix="a", width_in=6)
    assert "members" not in without


def test_close_epsilons_are_labelled_without_touching() -> None:
    rows = [aggregate(epsilon=value) for value in (1.0, 1.05, 1.1, 2.0, 100.0)]
    drawing = draw_curve(rows, ["real_only"], prefix="a", width_in=6)
    assert ">1<" in drawing
    assert ">1.05<" not in drawing
