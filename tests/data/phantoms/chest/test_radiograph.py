from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.data.phantoms.chest.acquisition import Look, detect
from synthdp.data.phantoms.chest.anatomy import (
    Anatomy,
    Pose,
    draw_anatomy,
    draw_pose,
    draw_severities,
)
from synthdp.data.phantoms.chest.names import FINDINGS
from synthdp.data.phantoms.chest.radiograph import draw_attenuation, draw_radiograph
from synthdp.data.phantoms.chest.thorax import Shape, draw_bones, draw_lung, field_of, shape_of

SIZE_PX = 64
SIDES = {-1: 0, 1: 1}


def severities(**strengths: float) -> NDArray[np.float32]:
    return np.array([strengths.get(name, 0.0) for name in FINDINGS], dtype=np.float32)


@lru_cache
def person(seed: int) -> tuple[Anatomy, Pose]:
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(1.0, rng)
    return anatomy, draw_pose(is_ap=False, age_years=50, rng=rng)


def attenuation(seed: int, **strengths: float) -> NDArray[np.float32]:
    anatomy, pose = person(seed)
    return draw_attenuation(
        anatomy, pose, severities(**strengths), SIZE_PX, np.random.default_rng(1)
    )


def shape(seed: int, **strengths: float) -> Shape:
    anatomy, pose = person(seed)
    return shape_of(anatomy, pose, severities(**strengths))


def lung_masks(seed: int) -> dict[int, NDArray[np.bool_]]:
    anatomy, pose = person(seed)
    plain, field = shape_of(anatomy, pose, severities()), field_of(pose, SIZE_PX)
    return {side: draw_lung(plain, side, field).mask > 0.9 for side in (-1, 1)}


def change(seed: int, side: int, **strengths: float) -> NDArray[np.float32]:
    """What a finding adds to a lung's attenuation, pixel by pixel of that lung."""
    return (attenuation(seed, **strengths) - attenuation(seed))[lung_masks(seed)[side]]


def side_of(seed: int, finding: str) -> int:
    return person(seed)[0].habits[FINDINGS.index(finding)].side


@pytest.mark.parametrize("seed", range(4))
def test_a_chest_has_dark_lungs_a_bright_middle_and_black_air(seed: int) -> None:
    anatomy, pose = person(seed)
    grey = draw_radiograph(
        *(anatomy, pose, severities(), Look(marker="none", collimation=0)),
        size_px=SIZE_PX,
        rng=np.random.default_rng(2),
    ).astype(float)
    lungs = np.mean([grey[mask].mean() for mask in lung_masks(seed).values()])
    middle = grey[SIZE_PX // 2 : -8, SIZE_PX // 2 - 2 : SIZE_PX // 2 + 3].mean()
    corner = grey[:4, :4].mean()
    assert corner < 40 < lungs < 130 < middle


@pytest.mark.parametrize("seed", range(3))
def test_cardiomegaly_is_a_wider_heart(seed: int) -> None:
    assert shape(seed, cardiomegaly=1).heart[2] > 1.3 * shape(seed).heart[2]
    assert change(seed, 1, cardiomegaly=1).max() > 0.2


@pytest.mark.parametrize("seed", range(3))
def test_effusion_fills_the_angle_and_climbs_the_wall(seed: int) -> None:
    side = side_of(seed, "effusion")
    _, pose = person(seed)
    lung = draw_lung(shape(seed), side, field_of(pose, SIZE_PX))
    added = attenuation(seed, effusion=1) - attenuation(seed)
    angle = (lung.mask > 0.9) & (lung.wall < 0.1) & (lung.down > 0.85)
    apex = (lung.mask > 0.9) & (lung.down < 0.3)
    assert added[angle].mean() > 0.2
    assert abs(added[apex].mean()) < 0.06
    at_height = (lung.mask > 0.9) & (np.abs(lung.floor - 0.22) < 0.06)
    near, far = at_height & (lung.wall < 0.12), at_height & (lung.wall > 0.28)
    assert added[near].mean() > added[far].mean() + 0.05


@pytest.mark.parametrize("seed", range(3))
def test_atelectasis_lifts_the_diaphragm_on_its_side_and_shifts_the_heart(seed: int) -> None:
    side = side_of(seed, "atelectasis")
    plain, collapsed = shape(seed), shape(seed, atelectasis=1)
    lifted = [before - after for before, after in zip(plain.domes, collapsed.domes, strict=True)]
    assert lifted[SIDES[side]] > 0.1
    assert lifted[SIDES[-side]] == pytest.approx(0, abs=1e-6)
    assert (collapsed.shift - plain.shift) * side > 0.02
    assert change(seed, side, atelectasis=1).max() > 0.2


@pytest.mark.parametrize("finding", ["infiltration", "consolidation", "pneumonia", "mass"])
def test_patches_and_masses_take_the_place_of_air(finding: str) -> None:
    for seed in range(3):
        side = side_of(seed, finding)
        added = change(seed, side, **{finding: 1})
        assert np.quantile(added, 0.95) > 0.08
        assert np.quantile(added, 0.02) > -0.05


def test_a_nodule_is_smaller_than_a_mass() -> None:
    areas = {
        finding: np.mean(
            [
                (change(seed, side_of(seed, finding), **{finding: 1}) > 0.08).sum()
                for seed in range(4)
            ]
        )
        for finding in ("nodule", "mass")
    }
    assert 2 < areas["nodule"] < 0.5 * areas["mass"]


@pytest.mark.parametrize("seed", range(3))
def test_pneumothorax_is_a_darker_rim_at_the_wall_without_vessels(seed: int) -> None:
    side = side_of(seed, "pneumothorax")
    _, pose = person(seed)
    lung = draw_lung(shape(seed), side, field_of(pose, SIZE_PX))
    added = attenuation(seed, pneumothorax=1) - attenuation(seed)
    rim = (lung.mask > 0.9) & (lung.wall < 0.08) & (lung.down < 0.6) & (lung.down > 0.15)
    assert added[rim].mean() < -0.04
    assert abs(change(seed, -side, pneumothorax=1).mean()) < 0.01


def test_emphysema_flattens_and_darkens_and_fibrosis_and_edema_whiten() -> None:
    for seed in range(3):
        assert shape(seed, emphysema=1).bows[0] < 0.5 * shape(seed).bows[0]
        assert shape(seed, emphysema=1).domes[0] > shape(seed).domes[0]
        assert shape(seed, emphysema=1).heart[2] < shape(seed).heart[2]
        assert change(seed, -1, emphysema=1).mean() < -0.02
        for finding in ("fibrosis", "edema"):
            assert min(change(seed, side, **{finding: 1}).mean() for side in (-1, 1)) > 0.03


def test_hernia_and_thickened_pleura_stand_where_they_do() -> None:
    for seed in range(3):
        _, pose = person(seed)
        field = field_of(pose, SIZE_PX)
        added = np.abs(attenuation(seed, hernia=1) - attenuation(seed))
        behind = (np.abs(field.u) < 0.3) & (np.abs(field.v - shape(seed).domes[0]) < 0.35)
        assert added[behind].max() > 0.1
        assert added[~behind].max() < 0.02
        side = side_of(seed, "pleural_thickening")
        lung = draw_lung(shape(seed), side, field)
        rind = attenuation(seed, pleural_thickening=1) - attenuation(seed)
        assert rind[(lung.mask > 0.5) & (lung.wall < 0.06)].mean() > 2 * abs(
            rind[(lung.mask > 0.5) & (lung.wall > 0.2)].mean()
        )


def test_nothing_is_drawn_of_a_finding_of_no_severity() -> None:
    np.testing.assert_array_equal(attenuation(0), attenuation(0, **dict.fromkeys(FINDINGS, 0.0)))


def test_women_have_breast_shadows_and_old_women_thin_bones() -> None:
    women, men = (
        [draw_anatomy(male, np.random.default_rng(seed)) for seed in range(8)]
        for male in (0.0, 1.0)
    )
    assert all(one.breasts[3] > 0 for one in women)
    assert not any(one.breasts[3] for one in men)
    weights = []
    for age in (30.0, 85.0):
        pose = draw_pose(is_ap=False, age_years=age, rng=np.random.default_rng(5))
        outline = shape_of(women[0], pose, severities())
        weights.append(draw_bones(women[0], pose, outline, field_of(pose, SIZE_PX)).mean())
    assert weights[1] < 0.85 * weights[0]


def test_an_ap_view_has_a_larger_heart_and_smaller_lungs() -> None:
    hearts, domes = [], []
    for is_ap in (False, True):
        outlines = [
            shape_of(
                draw_anatomy(1.0, np.random.default_rng(seed)),
                draw_pose(is_ap=is_ap, age_years=50, rng=np.random.default_rng(seed)),
                severities(),
            )
            for seed in range(20)
        ]
        hearts.append(np.mean([one.heart[2] for one in outlines]))
        domes.append(np.mean([one.domes[0] for one in outlines]))
    assert hearts[1] > 1.1 * hearts[0]
    assert domes[1] < domes[0] - 0.05


def test_images_of_a_patient_resemble_each_other_more_than_those_of_two() -> None:
    def drawn(seed: int) -> NDArray[np.float64]:
        anatomy, _ = person(seed)
        rng = np.random.default_rng(100 + seed)
        poses = [draw_pose(is_ap=False, age_years=50, rng=rng) for _ in range(2)]
        upright = [
            Pose(**{**vars(pose), "turn": 0.0, "scale": 1.0, "x": 0.0, "y": 0.0}) for pose in poses
        ]
        return np.stack(
            [
                draw_attenuation(anatomy, pose, severities(), SIZE_PX, rng).ravel()
                for pose in upright
            ]
        ).astype(float)

    pairs = [drawn(seed) for seed in range(10)]
    own = [np.corrcoef(pair[0], pair[1])[0, 1] for pair in pairs]
    others = [
        np.corrcoef(one[0], other[1])[0, 1]
        for one, other in zip(pairs, pairs[1:] + pairs[:1], strict=True)
    ]
    assert np.mean(own) > np.mean(others) + 0.005


def test_separation_sets_severities_apart() -> None:
    anatomy, _ = person(0)
    rng = np.random.default_rng(0)
    with_it, without = np.ones(len(FINDINGS), dtype=bool), np.zeros(len(FINDINGS), dtype=bool)

    def mean(has: NDArray[np.bool_], separation: float) -> float:
        drawn = [draw_severities(anatomy, has, separation, rng) for _ in range(200)]
        return float(np.mean(drawn))

    assert mean(with_it, 0) == pytest.approx(mean(without, 0), abs=0.03)
    assert mean(with_it, 3) > mean(with_it, 1) > mean(without, 1) > mean(without, 3)


def test_a_site_shows_the_same_chest_in_its_own_grey() -> None:
    _, pose = person(0)
    field = attenuation(0)

    def seen(**look: float) -> NDArray[np.float32]:
        return detect(field, pose, Look(**look), np.random.default_rng(3))  # type: ignore[arg-type]

    plain = seen()
    lungs = lung_masks(0)[-1]
    assert seen(power=0.6)[lungs].mean() > plain[lungs].mean() + 0.05
    assert seen(level=0.1)[lungs].mean() > plain[lungs].mean() + 0.05
    assert seen(contrast=1.4).std() > 1.1 * plain.std()
    assert np.abs(seen(noise=0.05) - plain)[lungs].mean() > 0.005
    gradient = [np.abs(np.diff(image, axis=1)).mean() for image in (seen(blur_px=1.5), plain)]
    assert gradient[0] < 0.9 * gradient[1]
    sharp = np.abs(np.diff(seen(sharpening=1.0), axis=1)).mean()
    assert sharp > 1.2 * gradient[1]


@pytest.mark.parametrize("size_px", [16, 32, 48, 64, 100, 224])
def test_sizes(size_px: int) -> None:
    anatomy, pose = person(0)
    grey = draw_radiograph(
        *(anatomy, pose, severities(mass=1), Look()), size_px=size_px, rng=np.random.default_rng(0)
    )
    assert grey.shape == (size_px, size_px)
    assert grey.dtype == np.uint8
    assert 20 < grey.mean() < 220
