from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.config.settings import load_settings
from synthdp.data.dataset import load_volumes, open_dataset
from synthdp.data.phantoms.ct.abdomen import (
    BLACK_HU,
    PHASES,
    WHITE_HU,
    Abdomen,
    draw_abdomen,
    draw_volume,
)
from synthdp.data.phantoms.ct.ct_set import draw_ct_patient
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError

SHAPE = (16, 48)


def ct(**changes: object) -> PhantomSettings:
    return PhantomSettings.model_validate(
        {
            "out": Path("unused"),
            "subject": "ct",
            "patients": 6,
            "size_px": 24,
            "depth": 8,
            **changes,
        }
    )


def abdomen_of(seed: int) -> Abdomen:
    return draw_abdomen(is_male=True, age_years=60, rng=np.random.default_rng(seed))


def density(seed: int, severity: float, phase: str = "venous") -> NDArray[np.float64]:
    """Hounsfield units, as far as the window shows them."""
    grey = draw_volume(abdomen_of(seed), severity, phase, SHAPE, np.random.default_rng(9))
    return grey / 255 * (WHITE_HU - BLACK_HU) + BLACK_HU


def test_the_set_holds_volumes_as_the_contract_has_them(tmp_path: Path) -> None:
    dataset = open_dataset(run_phantoms(ct(out=tmp_path / "set", workers=1)))
    assert (dataset.info.kind, dataset.info.depth) == ("phantom", 8)
    assert dataset.info.targets == ("lesion",)
    volumes = load_volumes(dataset, dataset.rows)
    assert volumes.shape == (len(dataset.rows), 8, 24, 24)
    drawn = [
        volume.voxels for number in range(1, 7) for volume in draw_ct_patient(ct(), number).volumes
    ]
    np.testing.assert_allclose((volumes + 1) * 127.5, np.stack(drawn), atol=1e-3)
    assert {name for row in dataset.rows for name in row.attributes} == {"phase", "age", "sex"}
    assert "depth 8" in dataset.info.description
    assert "malignant" not in dataset.info.description


def test_one_process_and_two_write_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthdp.data.phantoms.ct.ct_set.PATIENTS_A_PART", 2)
    sets = [
        run_phantoms(ct(out=tmp_path / str(count), workers=count, size_px=16)) for count in (1, 2)
    ]
    manifests = [(folder / "manifest.csv").read_bytes() for folder in sets]
    assert manifests[0] == manifests[1]
    for image in sorted((sets[0] / "images").iterdir()):
        assert image.read_bytes() == (sets[1] / "images" / image.name).read_bytes()


def test_a_patient_does_not_depend_on_how_many_there_are() -> None:
    one, other = draw_ct_patient(ct(), 2), draw_ct_patient(ct(patients=900), 2)
    assert (one.has_lesion, one.age, one.sex, one.split) == (
        *(other.has_lesion, other.age, other.sex, other.split),
    )
    for mine, theirs in zip(one.volumes, other.volumes, strict=True):
        np.testing.assert_array_equal(mine.voxels, theirs.voxels)


def test_half_of_the_patients_have_a_lesion_and_some_have_two_volumes() -> None:
    people = [draw_ct_patient(ct(size_px=16), number) for number in range(1, 201)]
    assert np.mean([one.has_lesion for one in people]) == pytest.approx(0.5, abs=0.1)
    counts = [len(one.volumes) for one in people]
    assert set(counts) == {1, 2}
    assert np.mean(counts) == pytest.approx(1.15, abs=0.08)
    assert {volume.phase for one in people for volume in one.volumes} == set(PHASES)


def test_organs_have_the_densities_that_they_have() -> None:
    plain, enhanced = density(0, 0, "none"), density(0, 0, "venous")
    assert plain[0, 0, 0] == BLACK_HU  # air
    liver = (slice(5, 8), slice(18, 26), slice(10, 18))
    assert plain[liver].mean() == pytest.approx(PHASES["none"]["liver"], abs=20)
    assert enhanced[liver].mean() == pytest.approx(PHASES["venous"]["liver"], abs=20)
    spine = enhanced[8, 32:35, 22:26].mean()
    assert spine > 120


@pytest.mark.parametrize("phase", ["arterial", "venous"])
def test_a_lesion_is_a_darker_spot_in_the_pancreas(phase: str) -> None:
    for seed in range(3):
        abdomen = abdomen_of(seed)
        darker = density(seed, 0, phase) - density(seed, 1, phase)
        at = abdomen.lesion * (len(abdomen.path) - 1)
        x, y, z = (np.interp(at, range(len(abdomen.path)), abdomen.path[:, i]) for i in range(3))
        here = tuple(
            int((value + 1) / 2 * n) for value, n in zip((z, y, x), (16, 48, 48), strict=True)
        )
        assert darker[here] > 15
        assert (np.abs(darker) > 1).mean() < 0.05


def test_nothing_tells_the_classes_apart_without_separation() -> None:
    pairs = [[draw_ct_patient(ct(separation=0, lesion_fraction=share), 1) for share in (0.0, 1.0)]]
    for without, with_it in pairs:
        assert (without.has_lesion, with_it.has_lesion) == (False, True)
        np.testing.assert_array_equal(without.volumes[0].voxels, with_it.volumes[0].voxels)


def test_keys_of_radiographs_are_refused() -> None:
    with pytest.raises(InputError, match="views belongs to subject: chest"):
        load_settings(PhantomSettings, None, ["out=x", "subject=ct", "views=[AP]"])
