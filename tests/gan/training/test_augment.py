import pytest
import torch

from gan.settings.parts import AugmentationSettings
from gan.training.augment import augment, cut_out, next_strength, random_symmetry, translate

SETTINGS = AugmentationSettings()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images() -> torch.Tensor:
    return torch.rand(16, 1, 32, 32, generator=rng(5)) * 2 - 1


def test_strength_zero_is_the_identity() -> None:
    given = images()
    assert torch.equal(augment(given, 0.0, SETTINGS, rng()), given)


def test_gradients_flow_to_every_image() -> None:
    given = images().requires_grad_()
    augment(given, 1.0, SETTINGS, rng()).square().sum().backward()
    assert given.grad is not None
    assert bool((given.grad.abs().sum(dim=(1, 2, 3)) > 0).all())


def test_the_same_draws_give_the_same_view() -> None:
    first, again = (augment(images(), 0.7, SETTINGS, rng(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment(images(), 0.7, SETTINGS, rng(4)))


def test_strength_is_the_share_of_changed_images() -> None:
    many = images().repeat(64, 1, 1, 1)
    changed = (translate(many, 0.3, 0.125, rng()) != many).flatten(1).any(dim=1).float().mean()
    assert 0.25 < float(changed) < 0.35


def test_translation_moves_by_no_more_than_its_share() -> None:
    marked = torch.zeros(64, 1, 32, 32)
    marked[:, :, 16, 16] = 1
    places = translate(marked, 1.0, 0.125, rng())[:, 0].nonzero()[:, 1:]
    assert places.shape == (64, 2)
    assert int((places - 16).abs().max()) == 4


def test_cutout_sets_at_most_its_square_to_grey() -> None:
    holes = cut_out(torch.ones(64, 1, 32, 32), 1.0, 0.5, rng()) == 0
    sizes = holes.sum(dim=(1, 2, 3))
    assert int(sizes.max()) <= 17 * 17
    assert int(sizes.min()) > 0


@pytest.mark.parametrize(("symmetry", "turns"), [("dihedral", 4), ("mirror", 1)])
def test_a_symmetry_draws_all_of_its_images_and_nothing_else(symmetry: str, turns: int) -> None:
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    turned = random_symmetry(picture.repeat(200, 1, 1, 1), symmetry, rng())
    both = (picture, picture.flip(-1))
    allowed = [torch.rot90(p, k, (-2, -1)) for p in both for k in range(turns)]
    found = {tuple(image.flatten().tolist()) for image in turned}
    assert found == {tuple(image.flatten().tolist()) for image in allowed}


@pytest.mark.parametrize(("sign", "moved"), [(0.9, 0.32), (0.1, 0.28)])
def test_the_controller_moves_towards_its_target(sign: float, moved: float) -> None:
    assert next_strength(0.3, sign, 1000, SETTINGS) == pytest.approx(moved)


def test_the_controller_stays_between_floor_and_ceiling() -> None:
    assert next_strength(0.2, -1.0, 10_000, SETTINGS) == SETTINGS.strength_min
    assert next_strength(0.6, 1.0, 10_000, SETTINGS) == SETTINGS.strength_max
