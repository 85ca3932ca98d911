import math
from pathlib import Path

import numpy as np
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    equal_opportunity_difference,
    selection_rate,
)
from scipy.stats import pearsonr
from sklearn.metrics import recall_score, roc_auc_score

from synthdp.config.settings import load_settings
from synthdp.data.dataset import Dataset, Row
from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError
from synthdp.evaluation.fairness import (
    FairnessFigure,
    epsilon_accuracy_correlation,
    epsilon_correlation,
    figures,
    judge_images,
    pearson,
)
from synthdp.evaluation.groups import (
    GROUP_MEASURES,
    MIN_PATIENTS,
    ONE_CLASS,
    TOO_FEW,
    Judgement,
    bin_names,
    group_measures,
    group_names,
    judged_group,
    judged_groups,
    sorted_groups,
)
from synthdp.evaluation.metrics import auroc, sensitivity, specificity
from synthdp.evaluation.predictions import Predictions, ScoredImages, ScoredTarget
from synthdp.evaluation.settings import FairnessSettings
from synthdp.evaluation.uncertainty.intervals import Redrawn, patient_weights, redraws_of
from synthdp.study.report.settings import ReportSettings

REDRAWS = 300
GROUPS = {"a": 40, "b": 60, "c": 100}


def made_up(seeds: int = 2) -> tuple[ScoredTarget, list[str], list[str]]:
    """Patients of two images each in three groups; the scores of group a are the worst."""
    rng = np.random.default_rng(0)
    names = [name for name, n_patients in GROUPS.items() for _ in range(2 * n_patients)]
    patients = [f"p{image // 2}" for image in range(len(names))]
    labels = np.repeat(rng.integers(0, 2, len(names) // 2), 2).astype(float)
    signal = np.array([{"a": 0.5, "b": 1.5, "c": 3.0}[name] for name in names])
    logits = signal * (labels - 0.5) + rng.normal(0, 1, (seeds, len(names)))
    scores = 1 / (1 + np.exp(-logits))
    columns, _ = redraws_of(patients, 0, 1)
    return ScoredTarget(labels, scores, columns, (0.5,) * seeds), names, patients


def figure_of(found: list[FairnessFigure], measure: str, group: str = "") -> FairnessFigure:
    (figure,) = [one for one in found if (one.measure, one.group) == (measure, group)]
    return figure


def judge(scored: ScoredTarget, names: list[str], weights: np.ndarray) -> Judgement:
    whole, groups = judged_group("", scored, weights), judged_groups(scored, names, weights)
    return Judgement("malignant", "site", 0.5, whole, groups)


def judged(scored: ScoredTarget, names: list[str], patients: list[str]) -> list[FairnessFigure]:
    _, weights = redraws_of(patients, 1, REDRAWS)
    return figures(judge(scored, names, weights))


def test_figures_of_groups_are_those_of_fairlearn_and_scikit_learn() -> None:
    scored, names, patients = made_up(seeds=1)
    found = judged(scored, names, patients)
    labels, scores = scored.labels.astype(int), scored.scores[0]
    called = (scores >= 0.5).astype(int)
    frame = MetricFrame(
        metrics={"sensitivity": recall_score, "positive_rate": selection_rate},
        y_true=labels,
        y_pred=called,
        sensitive_features=names,
    )
    ranked = MetricFrame(
        metrics=roc_auc_score, y_true=labels, y_pred=scores, sensitive_features=names
    )
    for group in GROUPS:
        for measure in ("sensitivity", "positive_rate"):
            expected = frame.by_group.loc[group, measure]
            assert figure_of(found, measure, group).value == pytest.approx(expected)
        assert figure_of(found, "auroc", group).value == pytest.approx(ranked.by_group[group])
        here = np.array(names) == group
        assert figure_of(found, "prevalence", group).value == pytest.approx(labels[here].mean())
        specificity = 1 - called[here][labels[here] == 0].mean()
        assert figure_of(found, "specificity", group).value == pytest.approx(specificity)
    parity = demographic_parity_difference(labels, called, sensitive_features=names)
    assert figure_of(found, "statistical_parity_difference").value == pytest.approx(parity)
    opportunity = equal_opportunity_difference(labels, called, sensitive_features=names)
    assert figure_of(found, "equal_opportunity_difference").value == pytest.approx(opportunity)
    worst = roc_auc_score(labels, scores) - ranked.group_min()
    assert figure_of(found, "worst_group_gap").value == pytest.approx(worst)
    assert figure_of(found, "worst_group_gap").note == "all images minus group a, of 3 groups"


def test_seeds_count_by_their_mean_and_intervals_hold_the_figure() -> None:
    scored, names, patients = made_up(seeds=3)
    found = judged(scored, names, patients)
    here = np.array(names) == "b"
    each = [roc_auc_score(scored.labels[here], scores[here]) for scores in scored.scores]
    assert figure_of(found, "auroc", "b").value == pytest.approx(np.mean(each))
    for figure in found:
        assert figure.ci_low is not None
        assert figure.ci_high is not None
        assert figure.value is not None
        assert figure.ci_low <= figure.value <= figure.ci_high


def counted_out(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    """Each figure of a group from its images, nan where it has none to count."""
    called = scores >= threshold
    return {
        "prevalence": float(labels.mean()) if labels.size else math.nan,
        "auroc": auroc(labels, scores),
        "sensitivity": sensitivity(labels, scores, threshold),
        "specificity": specificity(labels, scores, threshold),
        "positive_rate": float(called.mean()) if labels.size else math.nan,
        "accuracy": float((called == labels).mean()) if labels.size else math.nan,
    }


def test_all_redraws_at_once_are_copies_of_the_patients_one_redraw_after_the_other() -> None:
    """Patients of unequal counts, images in both groups, tied scores, thresholds of their own."""
    rng = np.random.default_rng(3)
    columns = rng.integers(0, 26, 90)
    labels = rng.integers(0, 2, 90).astype(float)
    scores = np.round(rng.random((3, 90)), 1)
    scored = ScoredTarget(labels, scores, columns.astype(np.intp), (0.3, 0.5, 0.9))
    names = np.array(["CC", "MLO"])[rng.integers(0, 2, 90)]
    weights = patient_weights(26, 40, rng)
    judgement = judge(scored, names.tolist(), weights)
    parts = [
        (judgement.whole, names != ""),
        *((one, names == one.name) for one in judgement.groups),
    ]
    assert len(parts) == 3
    for group, here in parts:
        assert set(group.measures) == set(GROUP_MEASURES)
        copies = [np.flatnonzero(here)] + [
            np.repeat(np.flatnonzero(here), drawn[columns[here]]) for drawn in weights
        ]
        counted = [
            [
                counted_out(labels[images], one[images], threshold)
                for one, threshold in zip(scores, scored.thresholds, strict=True)
            ]
            for images in copies
        ]
        for measure, found in group.measures.items():
            expected = [np.mean([one[measure] for one in seeds]) for seeds in counted]
            assert [found.value, *found.draws] == pytest.approx(expected, abs=1e-12)


def test_redraws_that_lack_a_class_have_no_figure_of_it() -> None:
    labels, weights = np.array([1.0, 0.0, 0.0]), np.array([[0, 2, 1], [3, 0, 0], [1, 1, 1]])
    scored = ScoredTarget(labels, np.array([[0.9, 0.6, 0.1]]), np.arange(3), (0.5,))
    found = group_measures(scored, weights)
    expected = {
        "auroc": [math.nan, math.nan, 1],
        "sensitivity": [math.nan, 1, 1],
        "specificity": [1 / 3, math.nan, 1 / 2],
        "positive_rate": [2 / 3, 1, 2 / 3],
        "prevalence": [0, 1, 1 / 3],
        "accuracy": [1 / 3, 1, 2 / 3],
    }
    assert set(found) == set(expected)
    for measure, draws in expected.items():
        assert found[measure].draws == pytest.approx(draws, nan_ok=True), measure


def test_groups_share_the_redraws_so_that_like_groups_differ_by_nothing() -> None:
    """Two groups that hold the same images of the same patients differ by 0 on each redraw."""
    scored, _, patients = made_up(seeds=1)
    twice = ScoredTarget(
        np.tile(scored.labels, 2), np.tile(scored.scores, (1, 2)), np.tile(scored.patients, 2),
        (0.5,),
    )  # fmt: skip
    names = ["left"] * len(patients) + ["right"] * len(patients)
    found = judged(twice, names, patients * 2)
    parity = figure_of(found, "statistical_parity_difference")
    assert (parity.value, parity.ci_low, parity.ci_high) == (0, 0, 0)
    share = (scored.scores >= 0.5).mean()
    assert parity.note == f"group left minus group right, of 2 groups; all alike, at {share:.3g}"
    assert figure_of(found, "auroc", "left").ci_low != figure_of(found, "auroc", "left").ci_high


def test_intervals_of_differences_hold_0_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 200).astype(float)
        scores = (0.3 * labels + 0.7 * rng.random(200))[None]
        names = ["x" if value else "y" for value in rng.integers(0, 2, 200)]
        patients = [str(index) for index in range(200)]
        found = judged(ScoredTarget(labels, scores, np.arange(200), (0.5,)), names, patients)
        parity = figure_of(found, "statistical_parity_difference")
        assert parity.ci_low is not None
        assert parity.ci_high is not None
        held += parity.ci_low <= 0 <= parity.ci_high
    assert 50 <= held < 60  # 57 of 60 are to be expected


def sized(n_positive: int, n_negative: int) -> tuple[np.ndarray, list[str]]:
    return np.repeat([1.0, 0.0], [n_positive, n_negative]), ["small"] * (n_positive + n_negative)


@pytest.mark.parametrize(
    ("sizes", "why", "has_auroc", "has_sensitivity"),
    [
        ((MIN_PATIENTS, MIN_PATIENTS), "", True, True),
        ((MIN_PATIENTS - 1, 50), TOO_FEW, False, False),
        ((50, MIN_PATIENTS - 1), TOO_FEW, False, False),
        ((MIN_PATIENTS, 0), ONE_CLASS, False, True),
        ((0, MIN_PATIENTS), ONE_CLASS, False, False),
        ((MIN_PATIENTS - 1, 0), TOO_FEW, False, False),
    ],
)
def test_a_group_that_is_too_small_says_so_and_enters_no_difference(
    sizes: tuple[int, int], why: str, has_auroc: bool, has_sensitivity: bool
) -> None:
    small, names = sized(*sizes)
    labels = np.concatenate([small, np.tile([1.0, 0.0], 30)])
    names = [*names, *["large"] * 60]
    scores = np.random.default_rng(1).random((1, len(labels)))
    patients = [str(index) for index in range(len(labels))]
    found = judged(ScoredTarget(labels, scores, np.arange(len(labels)), (0.5,)), names, patients)
    auroc, sensitivity = (
        figure_of(found, "auroc", "small"),
        figure_of(found, "sensitivity", "small"),
    )
    assert auroc.note == why
    assert (auroc.n_images, auroc.n_patients) == (sum(sizes), sum(sizes))
    assert (auroc.value is not None, sensitivity.value is not None) == (has_auroc, has_sensitivity)
    hidden = why == TOO_FEW
    for measure in ("prevalence", "positive_rate"):
        assert (figure_of(found, measure, "small").value is None) == hidden
    assert (figure_of(found, "statistical_parity_difference").value is None) == hidden
    assert (figure_of(found, "equal_opportunity_difference").value is None) != has_sensitivity
    assert (figure_of(found, "worst_group_gap").value is None) != has_auroc
    if hidden:
        assert "fewer than two groups" in figure_of(found, "statistical_parity_difference").note


def test_many_images_of_few_patients_are_few() -> None:
    labels = np.tile([1.0, 0.0], 100)
    patients = [str(index % 8) for index in range(200)]
    columns, _ = redraws_of(patients, 0, 1)
    scored = ScoredTarget(labels, np.random.default_rng(2).random((1, 200)), columns, (0.5,))
    assert figure_of(judged(scored, ["x"] * 200, patients), "auroc", "x").note == TOO_FEW


def test_correlations_are_pearsons_and_say_of_how_many_points() -> None:
    scored, names, patients = made_up()
    found = figure_of(judged(scored, names, patients), "r_size_auroc")
    aurocs = [figure_of(judged(scored, names, patients), "auroc", group).value for group in GROUPS]
    assert found.value == pytest.approx(pearsonr(list(GROUPS.values()), aurocs).statistic)
    assert (found.n_points, found.note) == (3, "of 3 groups")
    many = np.random.default_rng(0).random((5, 7))
    x = np.arange(7.0) ** 2
    assert pearson(x, many) == pytest.approx([pearsonr(x, row).statistic for row in many])
    assert np.isnan(pearson(x, np.ones(7)))


def test_a_group_is_as_large_as_its_patients_are_many_whatever_their_images() -> None:
    scored, names, _ = made_up(seeds=1)
    patients = [f"p{i // 4}" if name == "c" else f"p{i // 2}" for i, name in enumerate(names)]
    columns, _ = redraws_of(patients, 0, 1)
    other = ScoredTarget(scored.labels, scored.scores, columns, scored.thresholds)
    found = judged(other, names, patients)
    sizes = [figure_of(found, "auroc", group).n_patients for group in GROUPS]
    assert sizes == [40, 60, 50]
    aurocs = [figure_of(found, "auroc", group).value for group in GROUPS]
    assert figure_of(found, "r_size_auroc").value == pytest.approx(
        pearsonr(sizes, aurocs).statistic
    )


def test_the_correlation_through_epsilons_needs_three_that_are_finite() -> None:
    like = FairnessFigure(
        target="t", attribute="site", measure="statistical_parity_difference", value=0.1,
        n_images=9, n_patients=9,
    )  # fmt: skip
    at = {
        epsilon: like.model_copy(update={"value": value})
        for epsilon, value in ((1.0, 0.3), (6.0, 0.2), (20.0, 0.15), (60.0, None))
    }
    found = epsilon_correlation(at, like)
    expected = pearsonr([1, 6, 20], [0.3, 0.2, 0.15]).statistic
    assert found.value == pytest.approx(expected)
    assert (found.measure, found.n_points, found.ci_low) == ("r_epsilon_parity", 3, None)
    few = epsilon_correlation({epsilon: at[epsilon] for epsilon in (1.0, 6.0)}, like)
    assert (few.value, few.n_points) == (None, 2)
    assert "fewer than 3" in few.note


def test_the_correlation_through_epsilons_says_what_it_lacks() -> None:
    like = FairnessFigure(
        target="t", attribute="site", measure="statistical_parity_difference", value=0.1,
        n_images=9, n_patients=9, threshold=0.5,
    )  # fmt: skip
    same = epsilon_correlation({1.0: like, 6.0: like, 20.0: like}, like)
    assert (same.value, same.n_points, same.threshold) == (None, 3, 0.5)
    assert same.note == "of 3 epsilons; all have one difference"
    other = like.model_copy(update={"threshold": 0.4})
    assert epsilon_correlation({1.0: like, 6.0: other, 20.0: like}, like).threshold is None


def test_what_privacy_costs_a_group_is_paired() -> None:
    scored, names, patients = made_up(seeds=1)
    _, weights = redraws_of(patients, 0, REDRAWS)
    one = judge(scored, names, weights)
    same = figures(one, without_privacy=judge(scored, names, weights))
    loss = figure_of(same, "auroc_loss", "a")
    assert (loss.value, loss.ci_low, loss.ci_high) == (0, 0, 0)


def dataset_of(cells: list[dict[str, str]], **info: object) -> Dataset:
    about = DatasetInfo(name="clinic", kind="real", size_px=32, **info)
    rows = tuple(
        Row(f"images/{i}.png", f"p{i}", "val", (float(i % 2),) * len(about.targets), cell)
        for i, cell in enumerate(cells)
    )
    return Dataset(Path("clinic"), about, rows)


def test_bins_take_their_lower_end_and_missing_ages_are_unknown() -> None:
    ages = ["49.9", "50", "69", "70", "120", "", " "]
    clinic = dataset_of([{"age": age} for age in ages])
    assert group_names(clinic, clinic.rows, "age", (50, 70)) == [
        "below 50", "50 to below 70", "50 to below 70", "70 and above", "70 and above", "unknown",
        "unknown",
    ]  # fmt: skip
    assert bin_names([3]) == ["below 3", "3 and above"]
    assert bin_names([20150101, 20150102.5]) == [  # dates, and more digits than most numbers have
        "below 20150101", "20150101 to below 20150102.5", "20150102.5 and above",
    ]  # fmt: skip
    assert sorted_groups(["unknown", "70 and above", "MLO", "below 50", "50 to below 70"]) == [
        "below 50", "50 to below 70", "70 and above", "MLO", "unknown",
    ]  # fmt: skip
    assert sorted_groups(["10", "9", "unknown", "1"]) == ["1", "9", "10", "unknown"]


@pytest.mark.parametrize(
    ("attribute", "cuts", "message"),
    [
        ("sex", None, "clinic: has no column sex; its columns .*: site, id"),
        ("id", None, "more than 40 different values"),
        ("site", (1.0,), r"50 cell\(s\) of column site are no numbers"),
    ],
)
def test_columns_that_make_no_groups_are_refused_without_telling_cells(
    attribute: str, cuts: tuple[float, ...] | None, message: str
) -> None:
    clinic = dataset_of([{"site": "Hospital", "id": f"secret{i}"} for i in range(50)])
    with pytest.raises(InputError, match=message) as caught:
        group_names(clinic, clinic.rows, attribute, cuts)
    assert "secret" not in str(caught.value)
    assert "Hospital" not in str(caught.value)


def test_images_of_several_targets_are_judged_by_each_with_its_own_labels() -> None:
    clinic = dataset_of([{"sex": "FM"[i % 2]} for i in range(60)], targets=("edema", "nodule"))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (60, 2)).astype(float)
    labels[:5, 1] = math.nan  # an odd number, so that those known begin with the other group
    scores = rng.random((1, 60, 2))
    predictions = Predictions(
        images=tuple(row.image for row in clinic.rows),
        patients=tuple(row.patient_id for row in clinic.rows),
        targets=("edema", "nodule"),
        labels=labels,
        scores=scores,
    )
    images = ScoredImages(predictions, [(0.5, 0.3)], clinic, clinic.rows)
    by = FairnessSettings(attributes=["sex"], redraws=50)
    found = judge_images(images, by)
    assert {one.target for one in found} == {"edema", "nodule", "macro"}
    nodule = [one for one in found if one.target == "nodule"]
    assert {one.threshold for one in nodule} == {0.3}
    assert figure_of(nodule, "sensitivity", "F").n_images == 27
    here = np.array([i % 2 == 0 and i >= 5 for i in range(60)])
    called = scores[0, here, 1] >= 0.3
    expected = called[labels[here, 1] == 1].mean()
    assert figure_of(nodule, "sensitivity", "F").value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[view, sex]", {"view": None, "sex": None}),
        ("view", {"view": None}),
        ("{age: [50, 70], view: none}", {"age": (50, 70), "view": None}),
        ("{attributes: {view: none}}", {"view": None}),
        ("{attributes: {age: [50]}, redraws: 10}", {"age": (50,)}),
        ("{age: paper-2302.01622, sex: none}", {"age": (0, 30, 60, 70, 80, 100), "sex": None}),
        ("{age: paper-2306.06503}", {"age": (0, 40, 70, 100)}),
    ],
)
def test_attributes_are_named_in_short_or_in_full(text: str, expected: dict[str, object]) -> None:
    found = load_settings(ReportSettings, None, ["study=x", f"fairness={text}"])
    assert found.fairness is not None
    assert found.fairness.attributes == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[view, view]", "stands twice"),
        ("[]", "attributes"),
        ("{age: [70, 50]}", "age: cut points are numbers in rising order"),
        ("{age: []}", "rising order"),
        ("{age: [50, 50]}", "rising order"),
        ("{age: [50, .inf]}", "finite number"),
        ("{age: paper-2302}", r"fairness.*age: names no cut points; known: paper-2302.01622"),
        ("[3]", "name columns of the manifest"),
        ("{attributes: [view], redraw: 3}", "did you mean redraws"),
        ("{view: null}", "fairness.view: 'null' is no value here; write `none`"),
        ("{attributes: {view: null}}", "fairness.attributes.view: 'null' is no value here"),
    ],
)
def test_attributes_that_say_nothing_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_settings(ReportSettings, None, ["study=x", f"fairness={text}"])


def test_accuracy_differences_are_the_papers_and_those_of_rates_are_built_alike() -> None:
    """Women less men; an age band less the mean of the others, each weighted by its images."""
    scored, names, patients = made_up(seeds=1)
    called = scored.scores[0] >= 0.5
    right, here = called == scored.labels, np.array(names)
    for of, measure in ((right, "accuracy_difference_paper"), (called, "positive_rate_difference")):
        mean = {group: of[here == group].mean() for group in GROUPS}
        size = {group: (here == group).sum() for group in GROUPS}
        found = judged(scored, names, patients)
        for group in GROUPS:
            others = [other for other in GROUPS if other != group]
            expected = mean[group] - np.average(
                [mean[other] for other in others], weights=[size[other] for other in others]
            )
            figure = figure_of(found, measure, group)
            assert figure.value == pytest.approx(expected)
            assert figure.ci_low < figure.value < figure.ci_high
            assert figure.note == "less the size-weighted mean of the 2 others"
    sexes = ["F" if name == "a" else "M" for name in names]
    found = judged(scored, sexes, patients)
    women = figure_of(found, "accuracy_difference_paper", "F")
    f, m = (right[np.array(sexes) == sex].mean() for sex in "FM")
    assert women.value == pytest.approx(f - m)
    assert women.note == "less group M"
    assert figure_of(found, "accuracy_difference_paper", "M").value == pytest.approx(m - f)


def test_images_of_an_unknown_group_are_no_other_group() -> None:
    scored, names, patients = made_up(seeds=1)
    known = judged(scored, names, patients)
    some = ["unknown" if name == "a" else name for name in names]
    found = judged(scored, some, patients)
    measure = "accuracy_difference_paper"
    assert figure_of(found, measure, "unknown").value is None
    assert figure_of(found, measure, "b").note == "less group c"
    difference = figure_of(known, "accuracy", "b").value - figure_of(known, "accuracy", "c").value
    assert figure_of(found, measure, "b").value == pytest.approx(difference)


def test_losses_correlate_with_what_there_was_to_lose_and_with_size() -> None:
    scored, names, patients = made_up(seeds=1)
    worse = ScoredTarget(
        scored.labels, np.sqrt(np.random.default_rng(5).random(scored.scores.shape)),
        scored.patients, scored.thresholds,
    )  # fmt: skip
    _, weights = redraws_of(patients, 1, REDRAWS)
    free = judge(scored, names, weights)
    found = figures(judge(worse, names, weights), without_privacy=free)
    without = [figure_of(figures(free), "auroc", group).value for group in GROUPS]
    losses = [figure_of(found, "auroc_loss", group).value for group in GROUPS]
    r = figure_of(found, "r_loss_auroc")
    assert r.value == pytest.approx(pearsonr(without, losses).statistic)
    assert (r.n_points, r.note) == (3, "of 3 groups")
    assert r.ci_low < r.value <= r.ci_high
    of_size = figure_of(found, "r_loss_size")
    assert of_size.value == pytest.approx(pearsonr(list(GROUPS.values()), losses).statistic)
    assert not [one for one in figures(free) if one.measure.startswith("r_loss")]


def test_epsilon_and_the_accuracy_of_women_correlate_with_an_interval() -> None:
    like = FairnessFigure(
        target="t", attribute="sex", group="F", measure="accuracy_difference_paper", value=0.1,
        n_images=9, n_patients=9, note="less group M",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    at = {
        epsilon: Redrawn(value, value + rng.normal(0, 0.01, 200))
        for epsilon, value in ((1.0, 0.3), (6.0, 0.2), (20.0, 0.15))
    }
    found = epsilon_accuracy_correlation(at, like)
    assert found.value == pytest.approx(pearsonr([1, 6, 20], [0.3, 0.2, 0.15]).statistic)
    assert found.ci_low < found.value < found.ci_high
    assert (found.measure, found.group, found.n_points) == ("r_epsilon_accuracy", "F", 3)
    assert found.note == "group F less group M; of 3 epsilons"
    few = epsilon_accuracy_correlation({1.0: at[1.0], 6.0: at[6.0]}, like)
    assert (few.value, few.n_points, few.note) == (None, 2, "fewer than 3 epsilons")


def several_targets(n: int = 240) -> tuple[ScoredImages, np.ndarray]:
    """Three findings of women and men, one of which men hardly have."""
    clinic = dataset_of(
        [{"sex": "FM"[i % 2], "age": str(20 + i % 60)} for i in range(n)],
        targets=("a", "b", "rare"),
    )
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (n, 3)).astype(float)
    labels[1::2, 2] = 0
    labels[1, 2] = 1  # one man
    scores = 0.3 * labels + 0.7 * rng.random((1, n, 3))
    predictions = Predictions(
        images=tuple(row.image for row in clinic.rows),
        patients=tuple(row.patient_id for row in clinic.rows),
        targets=("a", "b", "rare"),
        labels=labels,
        scores=scores,
    )
    return ScoredImages(predictions, [(0.5, 0.5, 0.5)], clinic, clinic.rows), scores


def test_the_mean_over_findings_is_over_those_that_all_groups_have() -> None:
    images, _ = several_targets()
    found = judge_images(images, FairnessSettings(attributes=["sex"], redraws=40))
    macro = [one for one in found if (one.target, one.attribute) == ("macro", "sex")]
    for sex in "FM":
        for measure in ("auroc", "accuracy", "prevalence"):
            parts = [
                figure_of([one for one in found if one.target == target], measure, sex).value
                for target in "ab"
            ]
            assert figure_of(macro, measure, sex).value == pytest.approx(np.mean(parts))
    assert {one.note for one in macro if one.group and one.measure == "auroc"} == {
        "mean over 2 of 3 targets: a, b"
    }
    gap = figure_of(macro, "accuracy_difference_paper", "F")
    parts = [
        figure_of([one for one in found if one.target == target], gap.measure, "F").value
        for target in "ab"
    ]
    assert gap.value == pytest.approx(np.mean(parts))


def test_findings_are_points_of_correlations_too() -> None:
    images, _ = several_targets()
    found = judge_images(images, FairnessSettings(attributes=["sex"], redraws=40))
    (r,) = [one for one in found if one.attribute == "findings"]
    assert (r.target, r.measure, r.n_points, r.note) == (
        "macro", "r_size_auroc", 3, "of 3 findings",
    )  # fmt: skip
    labels, scores = images.predictions.labels, images.predictions.scores[0]
    aurocs = [roc_auc_score(labels[:, k], scores[:, k]) for k in range(3)]
    assert r.value == pytest.approx(pearsonr(labels.sum(axis=0), aurocs).statistic)


def test_ages_may_stand_as_dicom_writes_them_and_others_words_are_refused() -> None:
    ages = ["045Y", "018M", "0", "155", "", "29"]
    clinic = dataset_of([{"age": age, "weight": age} for age in ages])
    cuts = (0.0, 30.0, 60.0, 70.0, 80.0, 100.0)
    assert group_names(clinic, clinic.rows, "age", cuts) == [
        "30 to below 60", "0 to below 30", "0 to below 30", "100 and above", "unknown",
        "0 to below 30",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"2 cell\(s\) of column weight are no numbers"):
        group_names(clinic, clinic.rows, "weight", cuts)
    old = dataset_of([{"age": "elderly"}])
    with pytest.raises(InputError, match="column age are no numbers") as caught:
        group_names(old, old.rows, "age", cuts)
    assert "elderly" not in str(caught.value)
