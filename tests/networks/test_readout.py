import torch

from synthdp.networks.readout import centre_window, dihedral_views, pooled, standardised


def squares(n: int = 3, side: int = 12) -> torch.Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_eight_views_are_all_flips_and_turns_and_begin_with_the_image() -> None:
    batch = squares()
    views = list(dihedral_views(batch, 8))
    assert torch.equal(views[0], batch)
    distinct = {view.numpy().tobytes() for view in views}
    assert len(distinct) == 8
    for turned in (torch.rot90(batch, 3, (2, 3)), batch.flip(2), batch.transpose(2, 3)):
        assert turned.contiguous().numpy().tobytes() in distinct
    assert all(torch.equal(*pair) for pair in zip(dihedral_views(batch, 2), views[:2], strict=True))


def test_the_mean_over_eight_views_does_not_depend_on_how_an_image_is_turned() -> None:
    def mean_column(batch: torch.Tensor) -> torch.Tensor:
        return torch.stack([view[:, 0, :, 3] for view in dihedral_views(batch, 8)]).mean(dim=0)

    batch = squares()
    torch.testing.assert_close(mean_column(batch), mean_column(torch.rot90(batch, 1, (2, 3))))


def test_views_by_turns_are_groups_each_in_the_next() -> None:
    batch = squares()

    def seen(count: int) -> set[bytes]:
        views = dihedral_views(batch, count, "turns")
        return {view.contiguous().numpy().tobytes() for view in views}

    turned = [torch.rot90(batch, n, (2, 3)).contiguous().numpy().tobytes() for n in range(4)]
    assert (seen(1), seen(2), seen(4)) == ({turned[0]}, {turned[0], turned[2]}, {*turned})
    assert seen(4) < seen(8)
    assert len(seen(8)) == 8


def test_standardised_images_do_not_depend_on_exposure() -> None:
    batch = squares() * 0.3
    expected = standardised(batch)
    torch.testing.assert_close(standardised(0.5 * batch + 0.2), expected, atol=1e-5, rtol=1e-4)
    assert torch.isfinite(standardised(torch.zeros(1, 1, 8, 8))).all()
    assert expected.abs().max() <= 2


def test_the_window_is_about_the_middle_and_sums_to_one() -> None:
    window = centre_window(6, 10, device=torch.device("cpu"))
    assert float(window.sum()) == 1.0 or abs(float(window.sum()) - 1) < 1e-6
    torch.testing.assert_close(window, window.flip(0))
    torch.testing.assert_close(window, window.flip(1))
    assert window.argmax() in (24, 25, 34, 35)


def test_each_pool_is_what_its_name_says() -> None:
    maps = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(1))
    token = torch.randn(2, 5)
    mean, centre, spread, cls = pooled(maps, token, ("mean", "centre", "spread", "class_token"))
    torch.testing.assert_close(mean, maps.mean(dim=(2, 3)))
    torch.testing.assert_close(spread, maps.flatten(2).std(dim=2, correction=0))
    assert torch.equal(cls, token)
    window = centre_window(4, 6, device=maps.device)
    torch.testing.assert_close(centre, torch.einsum("bchw,hw->bc", maps, window))


def test_a_mass_in_the_middle_weighs_more_than_one_in_a_corner() -> None:
    maps = torch.zeros(2, 1, 8, 8)
    maps[0, 0, 3:5, 3:5] = 1
    maps[1, 0, :2, :2] = 1
    (centre,) = pooled(maps, None, ("centre",))
    assert centre[0] > 5 * centre[1]
