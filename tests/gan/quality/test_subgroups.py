from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gan.assess import run_assess
from gan.quality import page
from gan.quality.disclosure import disclosure_figures
from gan.quality.measures import precision_recall_density_coverage, reached
from gan.quality.sets import measure_sets
from gan.quality.subgroups import group_rows, group_words, subgroup_figures
from gan.settings.assess import AssessSettings
from synthdp.data.dataset import load_images, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.images import to_uint8
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Figure, read_assessment

TINY = {"label": "Tiny", "name": "test_vit", "weights": None, "size_px": 32}
ATTRIBUTES = {"view": None, "breast_density": [3], "age": None, "site": None}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms with a column that nobody has filled in, and a site of few patients."""
    drawn = run_phantoms(
        PhantomSettings(
            out=tmp_path_factory.mktemp("house") / "drawn", patients=90, size_px=16,
        )
    )  # fmt: skip
    dataset = open_dataset(drawn)
    about = DatasetInfo(name="clinic", kind="real", size_px=16)
    images = to_uint8(load_images(dataset, dataset.rows)[:, 0])
    patients = sorted({row.patient_id for row in dataset.rows})
    val, few = set(patients[::3]), set(patients[1:9:3])
    with create_dataset(drawn.parent / "real", about) as writer:
        for row, image in zip(dataset.rows, images, strict=True):
            split = "val" if row.patient_id in val else "train"
            site = "small" if row.patient_id in few else "large"
            writer.add(
                image, patient_id=row.patient_id, split=split, targets=row.targets,
                attributes={**row.attributes, "age": "", "site": site},
            )  # fmt: skip
    return drawn.parent / "real"


def made_of(real: Path, out: Path, *, without: str = "", columns: bool = True) -> Path:
    """Images of train again, under made-up names, without one view or without columns."""
    dataset = open_dataset(real)
    rows = [row for row in dataset.split("train") if row.attributes["view"] != without]
    images = to_uint8(load_images(dataset, rows)[:, 0])
    with create_dataset(out, DatasetInfo(name="made", kind="synthetic", size_px=16)) as writer:
        for number, (row, image) in enumerate(zip(rows, images, strict=True)):
            writer.add(
                image, patient_id=f"made-{number}", split="train", targets=row.targets,
                attributes=dict(row.attributes) if columns else {},
            )  # fmt: skip
    return out


def settings_of(synthetic: Path, real: Path, out: Path, **changes: object) -> AssessSettings:
    about = {"features": [TINY], "redraws": 100, "neighbours": 2, "radiomics_n": 0, **changes}
    return AssessSettings(synthetic=synthetic, real=real, out=out, **about)


def measured(synthetic: Path, real: Path, attributes: object) -> list[Figure]:
    """The figures of groups and of disclosure alone."""
    asked = settings_of(synthetic, real, synthetic.parent / "none", attributes=attributes)
    sets = measure_sets(asked)
    return [
        *subgroup_figures(sets, "Tiny", asked.neighbours, asked.attributes),
        *disclosure_figures(sets, asked.attributes),
    ]


@pytest.fixture(scope="module")
def copied(real: Path) -> Path:
    """An assessment of the train images themselves, with all that stands beside them."""
    synthetic = made_of(real, real.parent / "copied")
    asked = settings_of(synthetic, real, real.parent / "out", attributes=ATTRIBUTES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "_draw_spectra", lambda sets: "")
        return run_assess(asked)


def figure(found: Sequence[Figure], start: str, features: str = "Tiny") -> Figure:
    return next(f for f in found if f.measure.startswith(start) and f.features == features)


def test_reached_images_have_the_means_that_recall_and_coverage_are() -> None:
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(60, 4)), 0.5 * rng.normal(size=(50, 4))
    both = reached(real, synthetic, neighbours=3)
    figures = precision_recall_density_coverage(real, synthetic, neighbours=3)
    assert [one.mean() for one in both] == [figures.recall, figures.coverage]
    assert {one.shape for one in both} == {(60,)}


def test_groups_have_figures_where_they_are_known_and_large_enough(copied: Path) -> None:
    found = read_assessment(copied).figures
    for name in ("malignant 0", "malignant 1", "view CC", "breast_density below 3"):
        for reach in ("recall", "coverage"):
            one = figure(found, f"Sub-group coverage, {name}: {reach}")
            for value in (one.synthetic, one.real):
                assert value.ci_low <= value.value <= value.ci_high
                assert value.n[0] > 10
    small = figure(found, "Sub-group coverage, site small: recall")
    assert small.synthetic.value is None
    assert small.synthetic.why == "too few: fewer than 10 patients"
    unknown = figure(found, "Sub-group coverage, age: recall")
    assert unknown.synthetic.why == "age is unknown in all of clinic"
    served = figure(found, "Utility by sub-group, view CC")
    assert served.synthetic.ci_low <= served.synthetic.value <= served.synthetic.ci_high
    assert served.real.split == "train, tested on val"
    assert figure(found, "Utility by sub-group, age").synthetic.why.startswith("age is unknown")
    assert not [f for f in found if f.measure.startswith("Utility by sub-group, malig")]
    assert not any(f.main for f in found if f.section == "Groups")  # stay in the house
    html = (copied / "quality.html").read_text()
    assert "Who is missing" in html
    assert "age is unknown" in html


def test_page_has_a_row_for_each_group_and_for_what_is_unknown(copied: Path) -> None:
    rows = {row.name: row for row in group_rows(read_assessment(copied).figures)}
    assert set(rows) == {
        *("malignant 0", "malignant 1", "view CC", "view MLO", "site large", "site small", "age"),
        *("breast_density below 3", "breast_density 3 and above"),
    }
    assert rows["malignant 1"].utility is None
    whole = rows["view CC"]
    ours, theirs, less = whole.recall.synthetic, whole.recall.real, whole.difference.synthetic
    assert less.value == pytest.approx(ours.value - theirs.value)
    assert whole.utility.synthetic.value is not None
    assert rows["age"].difference is None


def test_a_view_that_is_not_drawn_is_missing_and_is_named(real: Path, tmp_path: Path) -> None:
    """Each view stands apart, so that images of one do not reach the other."""
    apart = tmp_path / "apart"
    dataset = open_dataset(real)
    about = DatasetInfo(name="apart", kind="phantom", size_px=16)
    images = to_uint8(load_images(dataset, dataset.rows)[:, 0])
    with create_dataset(apart, about) as writer:
        for row, image in zip(dataset.rows, images, strict=True):
            shown = image // 8 if row.attributes["view"] == "CC" else 255 - image // 8
            writer.add(
                shown, patient_id=row.patient_id, split=row.split, targets=row.targets,
                attributes=dict(row.attributes),
            )  # fmt: skip
    synthetic = made_of(apart, tmp_path / "made", without="CC")
    found = measured(synthetic, apart, ["view"])
    missing = figure(found, "Sub-group coverage, view CC: recall")
    assert missing.synthetic.value == 0
    assert missing.real.value > 0.5
    assert "view CC lies farthest below what other patients reach" in group_words(found)
    less = figure(found, "Sub-group coverage, view CC: recall, less").synthetic
    assert less.value == pytest.approx(missing.synthetic.value - missing.real.value)
    assert less.ci_high < 0
    there = figure(found, "Sub-group coverage, view MLO: recall")
    assert there.synthetic.value > 0.5


def test_copies_disclose_what_stands_beside_them(copied: Path) -> None:
    found = read_assessment(copied).figures
    told = figure(found, "Attribute disclosure, breast_density: train patients told")
    assert told.synthetic.value == 1  # the images themselves
    gain = figure(found, "Attribute disclosure, breast_density: gain over val")
    assert gain.synthetic.ci_low > 0
    assert gain.main
    assert (gain.real, gain.baseline) == (None, None)
    beside = figure(found, "Attribute disclosure, view: gain over the commonest").real
    assert beside.split.startswith("val")
    assert beside.value is not None
    assert "age is unknown" in figure(found, "Attribute disclosure, age: gain").synthetic.why
    said = " ".join(read_assessment(copied).findings)
    assert "tell something of train patients" in said
    assert "No group of" in said


def test_a_set_without_the_column_says_nothing_of_it(real: Path, tmp_path: Path) -> None:
    found = measured(made_of(real, tmp_path / "bare", columns=False), real, ["view"])
    said = figure(found, "Attribute disclosure, view: gain").synthetic
    assert (said.value, said.why) == (None, "made has no column view, so it says nothing of it")
    assert figure(found, "Attribute disclosure, malignant: gain").synthetic.value is not None


def test_columns_that_are_not_there_are_refused_before_anything_is_written(
    real: Path, tmp_path: Path
) -> None:
    synthetic = made_of(real, tmp_path / "made")
    for attributes, message in (
        (["sex"], "attributes: clinic: has no column sex"),
        ({"view": [3]}, "cell\\(s\\) of column view are no numbers"),
    ):
        with pytest.raises(InputError, match=message):
            run_assess(settings_of(synthetic, real, tmp_path / "out", attributes=attributes))
    assert not (tmp_path / "out").exists()


def test_figures_of_groups_hold_no_patient(real: Path, copied: Path) -> None:
    patients = {row.patient_id for row in open_dataset(real).rows}
    assert len(patients) == 90
    text = (copied / "quality.json").read_text()
    assert not [patient for patient in patients if patient in text]
