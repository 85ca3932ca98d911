import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.config.settings import load_settings
from synthdp.data.dataset import open_dataset
from synthdp.data.phantoms.chest.chest_set import draw_images, known_patients, plan_of
from synthdp.data.phantoms.chest.names import FINDINGS
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.stage_functions import statement_of

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
)
NIH = (
    "a.png,Cardiomegaly,0,1,57,M,PA",
    "b.png,Cardiomegaly|Effusion,1,1,058Y,M,AP",
    "c.png,No Finding,0,2,80,F,PA",
    "d.png,Hernia|Pleural_Thickening,0,3,155,O,PA",
    "e.png,Infiltration,0,4,,F,LL",
    "f.png,Pneumothorax,0,5,0,F,AP",
)


def table_of(tmp_path: Path, rows: Sequence[str] = NIH, header: str = HEADER) -> Path:
    path = tmp_path / "labels.csv.gz"
    path.write_bytes(gzip.compress("\n".join([header, *rows]).encode()))
    return path


def chest(**changes: object) -> PhantomSettings:
    return PhantomSettings.model_validate(
        {"out": Path("unused"), "subject": "chest", "patients": 12, "size_px": 32, **changes}
    )


def to_table(path: Path, **changes: object) -> PhantomSettings:
    return chest(table=path, table_is_public=True, patients=4, **changes)


def test_patients_are_drawn_as_the_table_has_them(tmp_path: Path) -> None:
    settings = to_table(table_of(tmp_path), out=tmp_path / "set", workers=1)
    dataset = open_dataset(run_phantoms(settings))
    assert dataset.info.kind == "phantom"
    assert not dataset.info.protects_patients
    assert dataset.info.lineage.public == ("labels",)  # whose patients each statement names
    statement = statement_of(settings.out)
    assert statement.epsilon == 0
    assert any("public set labels" in words for words in statement.not_covered)
    assert run_phantoms(settings) == settings.out  # as it stands
    assert dataset.info.targets == FINDINGS
    shown = [
        (row.patient_id, row.attributes["view"], row.attributes["age"], row.attributes["sex"])
        for row in dataset.rows
    ]
    assert shown == [
        ("phantom-000001", "PA", "57", "M"),
        ("phantom-000001", "AP", "58", "M"),
        ("phantom-000002", "PA", "80", "F"),
        ("phantom-000003", "PA", "", ""),  # an age of 155, a sex O
        ("phantom-000004", "AP", "0", "F"),  # the fifth: the fourth has a lateral view alone
    ]
    named = [
        {name for name, target in zip(FINDINGS, row.targets, strict=True) if target == 1}
        for row in dataset.rows
    ]
    assert named == [
        {"cardiomegaly"},
        {"cardiomegaly", "effusion"},
        set(),
        {"hernia", "pleural_thickening"},
        {"pneumothorax"},
    ]
    assert len({row.split for row in dataset.rows[:2]}) == 1


def test_no_finding_is_a_target_where_it_is_asked_for(tmp_path: Path) -> None:
    settings = to_table(table_of(tmp_path), targets=["effusion", "no_finding"])
    planned = [plan_of(settings).patient(one) for one in known_patients(settings)]
    assert [image.targets for one in planned for image in one.images] == [
        *((0, 0), (1, 0), (0, 1), (0, 0), (0, 0))
    ]


def test_findings_may_have_columns_of_their_own_and_be_unknown(tmp_path: Path) -> None:
    path = table_of(
        tmp_path,
        ["p,1,,F,40", "p,0,-1,F,40", "q,0,1,M,50", "r,,,M,50"],
        header="id,effusion,edema,sex,age",
    )
    columns = {"patient": "id", "age": "age", "sex": "sex", "view": None, "findings": None}
    settings = to_table(path, columns=columns, targets=["effusion", "edema"])
    settings = settings.model_copy(update={"patients": 3})
    planned = [plan_of(settings).patient(one) for one in known_patients(settings)]
    targets = np.array([image.targets for one in planned for image in one.images])
    nan = float("nan")
    np.testing.assert_array_equal(targets, [[1, nan], [0, nan], [0, 1], [nan, nan]])
    with pytest.raises(InputError, match="says nothing of mass"):
        known_patients(settings.model_copy(update={"targets": ("effusion", "mass")}))


def test_evenly_spaced_patients_and_the_first_are_the_same_people_as_in_the_whole(
    tmp_path: Path,
) -> None:
    settings = to_table(table_of(tmp_path))
    everybody = known_patients(settings)
    first = known_patients(settings.model_copy(update={"patients": 2, "choice": "first"}))
    even = known_patients(settings.model_copy(update={"patients": 2}))
    assert list(first) == list(everybody[:2])
    assert list(even) == [everybody[0], everybody[-1]]
    plan = plan_of(settings)
    for one, other in zip(first, everybody, strict=False):
        drawn = [draw_images(plan, plan.patient(who), 2.0, 32) for who in (one, other)]
        np.testing.assert_array_equal(drawn[0], drawn[1])


def files_of(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "key"
    }


def test_one_process_and_two_write_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthdp.data.phantoms.chest.chest_set.PATIENTS_A_PART", 2)
    folders = [
        run_phantoms(chest(out=tmp_path / str(count), patients=5, size_px=16, workers=count))
        for count in (1, 2)
    ]
    assert files_of(folders[0]) == files_of(folders[1])


def test_a_made_up_patient_does_not_depend_on_how_many_there_are() -> None:
    plan = plan_of(chest())
    one, other = plan.patient(3), plan_of(chest(patients=500)).patient(3)
    assert (one.sex, one.split, one.site) == (other.sex, other.split, other.site)
    np.testing.assert_array_equal(draw_images(plan, one, 2, 32), draw_images(plan, other, 2, 32))


def test_made_up_patients_are_as_public_tables_have_them() -> None:
    plan = plan_of(chest())
    people = [plan.patient(number) for number in range(1, 3001)]
    counts = np.array([len(one.images) for one in people])
    assert counts.mean() == pytest.approx(3.64, abs=0.5)
    assert (counts == 1).mean() == pytest.approx(0.57, abs=0.03)
    assert 60 < counts.max() <= 184
    images = [image for one in people for image in one.images]
    has = np.array([image.has for image in images])
    shares = dict(zip(FINDINGS, has.mean(axis=0), strict=True))
    assert shares["infiltration"] == pytest.approx(0.177, abs=0.03)
    assert shares["effusion"] == pytest.approx(0.119, abs=0.03)
    assert shares["hernia"] < 0.01
    is_ap = np.array([image.view == "AP" for image in images])
    assert is_ap.mean() == pytest.approx(0.4, abs=0.05)
    edema = has[:, FINDINGS.index("edema")]
    assert edema[is_ap].mean() > 3 * edema[~is_ap].mean()
    ages = np.array([image.age_years for image in images])
    hernia = has[:, FINDINGS.index("hernia")]
    assert ages[hernia].mean() > ages.mean() + 8
    effusion, collapse = has[:, FINDINGS.index("effusion")], has[:, FINDINGS.index("atelectasis")]
    assert collapse[effusion].mean() > 1.5 * collapse[~effusion].mean()


def test_a_site_has_its_own_patients_and_readers() -> None:
    labels = [
        {"finding": "atelectasis", "unless": ["effusion"], "missed": 0.0},
        {"finding": "mass", "also": ["nodule"]},
    ]
    sites = [
        {"name": "A"},
        {
            "name": "B",
            "odds": {"effusion": 6},
            "ap_share": 0.9,
            "older_years": 15,
            "labels": labels,
        },
    ]
    plan = plan_of(chest(sites=sites))
    people = [plan.patient(number) for number in range(1, 1501)]
    by_site = {name: [one for one in people if one.site.name == name] for name in "AB"}
    assert len(by_site["A"]) == pytest.approx(750, abs=90)

    def of(site: str, told: bool) -> dict[str, NDArray[np.float64]]:
        images = [image for one in by_site[site] for image in one.images]
        rows = np.array([image.targets if told else image.has for image in images], dtype=float)
        return dict(zip(FINDINGS, rows.T, strict=True))

    shown, told = of("B", told=False), of("B", told=True)
    assert shown["effusion"].mean() > 2 * of("A", told=False)["effusion"].mean()
    wet = shown["effusion"] == 1
    assert shown["atelectasis"][wet].mean() > 0.1
    assert told["atelectasis"][wet].sum() == 0
    np.testing.assert_array_equal(told["atelectasis"][~wet], shown["atelectasis"][~wet])
    np.testing.assert_array_equal(told["mass"], np.maximum(shown["mass"], shown["nodule"]))
    np.testing.assert_array_equal(of("A", told=True)["mass"], of("A", told=False)["mass"])
    ages = {site: np.mean([one.images[0].age_years for one in by_site[site]]) for site in by_site}
    assert ages["B"] > ages["A"] + 10


def test_readers_miss_and_add_their_share() -> None:
    labels = [{"finding": "infiltration", "missed": 0.5, "added": 0.1}]
    plan = plan_of(chest(sites=[{"name": "A", "labels": labels}]))
    index = FINDINGS.index("infiltration")
    pairs = np.array(
        [
            (image.has[index], image.targets[index])
            for number in range(1, 801)
            for image in plan.patient(number).images
        ]
    )
    assert pairs[pairs[:, 0] == 1, 1].mean() == pytest.approx(0.5, abs=0.07)
    assert pairs[pairs[:, 0] == 0, 1].mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (("a.png,Fracture,0,1,57,M,PA",), HEADER, "row 2: names a finding that is not drawn"),
        (("a.png,Mass,0,,57,M,PA",), HEADER, "names no patient"),
        (("a.png,Mass,0,1,57,M,PA", "b.png,Mass,0,1,57,F,PA"), HEADER, "more than one sex"),
        (("a.png,Mass,0,1,57,M,LL",), HEADER, "no row of a view PA or AP"),
        (("a.png,Mass",), HEADER, "fewer cells"),
        (NIH, HEADER.replace("Patient ID", "id"), "lacks the column"),
    ],
)
def test_a_table_that_cannot_be_drawn_to_is_refused(
    rows: Sequence[str], header: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        known_patients(to_table(table_of(tmp_path, rows, header)))


def test_more_patients_than_the_table_has_are_refused(tmp_path: Path) -> None:
    settings = to_table(table_of(tmp_path)).model_copy(update={"patients": 5})
    with pytest.raises(InputError, match="5 are asked for, and the table has 4"):
        known_patients(settings)


def test_a_table_of_other_words_is_drawn_to_by_what_they_mean(tmp_path: Path) -> None:
    path = table_of(tmp_path, ["a.png,Fracture|Lung Opacity,0,1,57,M,PA"])
    columns = {"called": {"Fracture": "none", "Lung Opacity": "infiltration"}}
    settings = to_table(path, columns=columns).model_copy(update={"patients": 1})
    (patient,) = known_patients(settings)
    assert not isinstance(patient, int)
    assert dict(zip(FINDINGS, patient.images[0].findings, strict=True))["infiltration"] == 1
    assert sum(patient.images[0].findings) == 1


def test_a_known_collection_is_read_by_its_mapping(tmp_path: Path) -> None:
    path = table_of(tmp_path, NIH[:3]).rename(tmp_path / "Data_Entry_2017.csv.gz")
    own, mapped = (
        to_table(path, collection=name).model_copy(update={"patients": 2})
        for name in (None, "nih-cxr14")
    )
    assert known_patients(own) == known_patients(mapped)


def test_a_table_that_is_not_public_makes_a_set_of_patients_or_none(tmp_path: Path) -> None:
    path = table_of(tmp_path)
    with pytest.raises(InputError, match="table_is_public: true of a published one, or as_real"):
        load_settings(PhantomSettings, None, ["out=x", "subject=chest", f"table={path}"])
    settings = chest(
        table=path, as_real=True, patients=4, out=tmp_path / "set", size_px=16, workers=1
    )
    dataset = open_dataset(run_phantoms(settings))
    assert dataset.info.protects_patients
    assert "labels.csv" not in dataset.info.description
    public = open_dataset(run_phantoms(to_table(path, out=tmp_path / "public", size_px=16)))
    assert "labels.csv.gz (sha256 " in public.info.description


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["style=lumpy"], "style belongs to subject: mass"),
        (["depth=16"], "depth belongs to subject: ct"),
        (["targets=[effusion, fracture]"], "targets"),
        (["targets=[effusion, effusion]"], "targets"),
        (["sites=[{name: A}, {name: A}]"], "two sites have one name"),
        (["sites=[{name: A, odds: {fracture: 2}}]"], "fracture is not drawn"),
        (["sites=[{name: A, labels: [{finding: gout}]}]"], "gout is not drawn"),
        (["table_is_public=true"], "of a table"),
        (["table=[a.csv, b.csv]", "table_is_public=true"], "several are read by a collection"),
        (
            ["table=a.csv", "table_is_public=true", "sites=[{name: A, older_years: 3}]"],
            "without a table",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: Sequence[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_settings(PhantomSettings, None, ["out=x", "subject=chest", *overrides])


def test_an_unknown_site_of_a_table_is_refused(tmp_path: Path) -> None:
    path = table_of(tmp_path, [f"{row},Ward-{row[0]}" for row in NIH], f"{HEADER},Hospital")
    settings = to_table(
        path, columns={"site": "Hospital"}, sites=[{"name": "Ward-c"}, {"name": "Ward-d"}]
    )
    with pytest.raises(InputError, match="more than one site"):
        known_patients(settings)
    path = table_of(tmp_path, [f"{row},Ward-{row[0]}" for row in NIH[2:4]], f"{HEADER},Hospital")
    settings = settings.model_copy(update={"patients": 2})
    plan = plan_of(settings)
    assert [plan.patient(one).site.name for one in known_patients(settings)] == ["Ward-c", "Ward-d"]
    with pytest.raises(InputError, match="holds a word that is none of"):
        known_patients(settings.model_copy(update={"sites": settings.sites[1:]}))
