import math
from xml.etree import ElementTree

import pytest

from synthdp.pages.html import MARKS
from synthdp.pages.look import PAGE
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.results import ResultRow
from synthdp.study.report.curve import (
    Scale,
    curve_figure,
    draw_curve,
    odds_by_epsilon,
    shown_epsilon,
)


def cell(
    strategy: str = "real_only",
    epsilon: float | None = 6.0,
    *,
    end_to_end: float | None = None,
    stage: float | None = None,
    auroc: float | None = 0.7,
    runs: tuple[str, ...] = ("finetune-1",),
) -> Cell:
    asked = math.inf if epsilon is None else epsilon
    rows = [
        ResultRow(
            strategy=strategy,
            epsilon=epsilon,
            seed=seed,
            data_set="clinic",
            split="val",
            auroc=auroc,
            n_images=10,
            n_patients=5,
            epsilon_stage=asked if stage is None else stage,
            epsilon_end_to_end=asked if end_to_end is None else end_to_end,
            delta=1e-4,
            unit="patient",
            state="finished",
            run=run,
        )
        for seed, run in enumerate(runs)
    ]
    return Cell(tuple(rows))


def test_epsilons_stand_in_order_with_0_and_none_beside_them() -> None:
    scale = Scale.over([1, 6, 60])
    positions = [scale.position(value) for value in (0, 1, 6, 60, math.inf)]
    assert positions == sorted(positions)
    assert len(set(positions)) == 5


@pytest.mark.parametrize(
    ("row", "place"),
    [
        (cell(), 6),
        (cell(end_to_end=5.5), 5.5),
        (cell(epsilon=None), math.inf),
        (cell(end_to_end=math.inf), 6),
        (cell(epsilon=None, end_to_end=math.inf, stage=0.0), math.inf),
        (cell(epsilon=None, end_to_end=0.0, stage=0.0), 0),
        (cell(epsilon=None, end_to_end=3.0, stage=0.0), 3),
    ],
    ids=["promised", "less than asked", "no DP", "voided", "voided, no grid", "phantoms", "DP GAN"],
)
def test_where_a_row_stands(row: Cell, place: float) -> None:
    assert shown_epsilon(row) == place


def test_drawing_is_well_formed_and_the_same_again() -> None:
    rows = [cell(epsilon=value) for value in (1.0, 6.0, None)]
    first = draw_curve(rows, ["real_only"], prefix="a", width_in=6, members_found={})
    assert first == draw_curve(rows, ["real_only"], prefix="a", width_in=6, members_found={})
    root = ElementTree.fromstring(first)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"1", "6", "none", "AUROC"} <= set(words)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids
    assert all(name.startswith("a-") for name in ids)


def test_hollow_is_told_only_where_something_is_hollow() -> None:
    filled, hollow = (
        draw_curve(
            [cell(end_to_end=value)], ["real_only"], prefix="a", width_in=6, members_found={}
        )
        for value in (6.0, math.inf)
    )
    assert "hollow" not in filled
    assert "var(--paper)" not in filled
    assert "drawn hollow" in hollow
    assert "var(--paper)" in hollow


def test_no_mark_can_hide_the_word_beside_the_line_of_chance() -> None:
    figure = curve_figure(
        [cell("real_only", 1.0)], ["real_only"], width_in=9.6, members_found={}, look=PAGE
    )
    (axes,) = figure.axes
    figure.draw_without_rendering()
    (word,) = [text for text in axes.texts if text.get_text() == "chance"]
    assert word.get_window_extent().x0 > axes.get_window_extent().x1


def test_more_strategies_than_marks() -> None:
    names = [f"recipe_{index}" for index in range(len(MARKS) + 2)]
    rows = [cell(name, auroc=0.5 + index / 40) for index, name in enumerate(names)]
    drawing = draw_curve(rows, names, prefix="a", width_in=6, members_found={})
    assert all(name.replace("_", " ") in drawing for name in names)


def test_a_dozen_strategies_differ_in_shape() -> None:
    assert len({mark.path for mark in MARKS}) == len({mark.marker for mark in MARKS}) == 16


def test_odds_are_the_worst_at_each_epsilon_and_hollow_rows_stand_at_no_promise() -> None:
    rows = [
        cell("a", 1.0, runs=("1",)),
        cell("b", 1.0, runs=("2",)),
        cell("a", 6.0, end_to_end=math.inf, runs=("3",)),
        cell("c", 6.0, runs=("not stated",)),
    ]
    found = {("1",): 0.02, ("2",): 0.03, ("3",): 1.0}
    assert odds_by_epsilon(rows, found) == [(1.0, 0.03), (math.inf, 1.0)]
    drawing = draw_curve(rows, ["a", "b", "c"], prefix="a", width_in=6, members_found=found)
    assert ">3 %<" in drawing
    assert ">none<" in drawing
    assert "members found at 1 % false alarms, 3 % at 1, 100 % at no promise" in drawing
    without = draw_curve(rows, ["a", "b", "c"], prefix="a", width_in=6, members_found={})
    assert "members" not in without


def test_no_epsilon_is_shown_below_what_it_is() -> None:
    spent = 5.481  # to nearest it would be 5.48
    found = {("1",): 0.2}
    rows = [cell("a", 6.0, end_to_end=spent, runs=("1",))]
    assert odds_by_epsilon(rows, found) == [(5.49, 0.2)]


def test_close_epsilons_are_labelled_without_touching() -> None:
    rows = [cell(epsilon=value) for value in (1.0, 1.05, 1.1, 2.0, 100.0)]
    drawing = draw_curve(rows, ["real_only"], prefix="a", width_in=6, members_found={})
    assert ">1<" in drawing
    assert ">1.05<" not in drawing
