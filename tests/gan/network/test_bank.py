import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from gan.network.bank import Bank
from gan.network.sampling import prior_codes, sample_images
from gan.package.conditions import Combination, Conditions
from gan.package.description import BankShape, Description, read_description
from gan.package.model import load_generator, write_generator
from synthdp.errors import InputError

CPU = torch.device("cpu")
#: Codes of the six images of either class, two conditions.
CODES = [(1, 1), (1, 1), (1, 1), (1, 2), (2, 1), (2, 2)]
CELLS = Conditions(
    names=("view", "density"),
    levels=(("CC", "MLO"), ("1", "2")),
    prior=2
    * (
        tuple(
            Combination(codes=codes, share=count / 6)
            for codes, count in (((1, 1), 3), ((1, 2), 1), ((2, 1), 1), ((2, 2), 1))
        ),
    ),
)


def views(prior: tuple[tuple[Combination, ...], ...]) -> Conditions:
    return Conditions.model_validate(
        {"names": ("view",), "levels": (("CC", "MLO"),), "prior": prior}
    )


def filled(images: int = 5, **cells: Any) -> Bank:
    """Image k of class c is c * 100 + 10 k, but for its left column, which is 255."""
    bank = Bank(8, images, **cells)
    levels = torch.tensor([[100 * c + 10 * k for k in range(images)] for c in (0, 1)])
    bank.images.copy_(levels[:, :, None, None].expand(2, images, 8, 8).to(torch.uint8))
    bank.images[..., 0] = 255
    return bank.eval()


def conditioned() -> Bank:
    return filled(6, cells=BankShape(size_px=8, images=6, conditions=CELLS).cells)


def grey_of(images: torch.Tensor) -> torch.Tensor:
    return ((images[:, 0, 0, 4] + 1) * 127.5).round()


def drawn(bank: Bank, labels: torch.Tensor, seed: int = 0) -> torch.Tensor:
    codes = torch.empty(len(labels), 0, dtype=torch.int64)
    return torch.cat(list(sample_images(bank, labels, codes, seed, batch=7)))


def test_each_image_is_one_of_its_class_as_it_is_or_mirrored() -> None:
    labels = torch.arange(200) % 2
    images = drawn(filled(), labels)
    grey = ((images[:, 0] + 1) * 127.5).round()
    assert torch.equal((grey[:, 0, 4] // 100).long(), labels)
    assert set(grey[:, 0, 4].tolist()) == {0, 10, 20, 30, 40, 100, 110, 120, 130, 140}
    mirrored = grey[:, 0, 7] == 255
    assert torch.equal(mirrored, grey[:, 0, 0] != 255)
    assert 60 < mirrored.sum() < 140


@pytest.mark.parametrize("images", [5, 6])
@pytest.mark.parametrize("turns", [True, False])
def test_no_image_comes_twice_before_all_came_once(images: int, turns: bool) -> None:
    count = 2 * images if turns else images
    labels = torch.arange(count) % 2 if turns else torch.ones(count).long()
    for seed in range(3):
        grey = ((drawn(filled(images), labels, seed)[:, 0, 0, 4] + 1) * 127.5).round()
        for value in set(labels.tolist()):
            own = grey[labels == value].tolist()
            assert len(set(own)) >= len(own) - (images % 2 == 0)  # of an even number one may repeat
    first, other = (drawn(filled(), torch.zeros(5).long(), seed) for seed in (0, 1))
    assert not torch.equal(first, other)


def test_a_longer_set_begins_with_the_shorter_one() -> None:
    labels = torch.arange(20) % 2
    assert torch.equal(drawn(filled(), labels)[:9], drawn(filled(), labels[:9]))


def test_it_is_kept_and_opened_as_any_generator(tmp_path: Path) -> None:
    shape = BankShape(size_px=8, images=5)
    write_generator(tmp_path, filled().state_dict(), Description(shape, "malignant", "clinic"))
    assert read_description(tmp_path).shape == shape
    again = load_generator(tmp_path, CPU)
    assert isinstance(again, Bank)
    assert torch.equal(again.images, filled().images)
    content = json.loads((tmp_path / "model" / "settings.json").read_text())
    assert content["architecture"] == "bank"
    content["images"] = 6
    (tmp_path / "model" / "settings.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="does not fit"):
        load_generator(tmp_path, CPU)


def test_what_a_bank_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="no styles to truncate"):
        next(sample_images(filled(), torch.zeros(1).long(), torch.empty(1, 0), 0, truncation=0.5))
    uneven = (Combination(codes=(1,), share=0.5), Combination(codes=(2,), share=0.5))
    for images, prior, words in (
        (5, 2 * (uneven,), "not those of its images"),
        (4, (uneven, uneven[:1]), "alike in either class"),
        (4, 2 * (uneven[:1],), "every combination"),
    ):
        with pytest.raises(ValueError, match=words):
            BankShape(size_px=8, images=images, conditions=views(prior))
    with pytest.raises(ValueError, match="at most 3 conditions"):
        BankShape(size_px=8, images=4, conditions=many(4))
    findings = Conditions(findings=("a", "b"), blocks=2 * (uneven,))
    with pytest.raises(ValueError, match="one target"):
        BankShape(size_px=8, images=4, conditions=findings)


def many(conditions: int, levels: int = 1) -> Conditions:
    """Conditions of which one combination alone is drawn."""
    one = (Combination(codes=(1,) * conditions, share=1.0),)
    return Conditions(
        names=tuple(f"c{number}" for number in range(conditions)),
        levels=(tuple(map(str, range(levels))),) * conditions,
        prior=(one, one),
    )


def test_a_file_of_more_combinations_than_memory_holds_is_refused_at_once() -> None:
    """Sixteen conditions of sixteen levels: 16^16 combinations, in a few lines of a file."""
    tracemalloc.start()
    try:
        for number in (3, 16):
            with pytest.raises(ValueError, match=r"every combination|at most 3"):
                BankShape(size_px=8, images=4, conditions=many(number, 16))
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_of_each_class_and_condition_it_draws_what_has_it_and_of_none_any() -> None:
    bank = conditioned()
    labels, codes = (
        torch.arange(60) % 2,
        torch.tensor([[1, 1], [2, 0], [0, 2], [0, 0]]).repeat(15, 1),
    )
    images = torch.cat(list(sample_images(bank, labels, codes, 0, batch=7)))
    for image, label, asked in zip(grey_of(images), labels, codes, strict=True):
        assert image // 100 == label
        has = CODES[int(image) % 100 // 10]
        assert all(code in {0, own} for code, own in zip(asked.tolist(), has, strict=True))
    unasked = bank(torch.zeros(3, 2), torch.tensor([[-3.0, -1], [0, -1], [3, -1]]), labels[:3])
    assert grey_of(unasked).tolist() == [0, 130, 50]


def test_a_series_shows_conditions_by_their_shares_and_no_image_twice() -> None:
    bank = conditioned()
    labels = torch.arange(12) % 2
    for seed in range(3):
        codes = prior_codes(bank, CELLS.tables, labels, seed)
        assert torch.equal(codes[:5], prior_codes(bank, CELLS.tables, labels[:5], seed))
        images = grey_of(torch.cat(list(sample_images(bank, labels, codes, seed, batch=5))))
        for value in (0, 1):
            own = images[labels == value].tolist()
            assert len(set(own)) >= len(own) - 1  # of an even number one may repeat
        shown = [CODES[int(image) % 100 // 10] for image in images]
        assert [list(one) for one in shown] == codes.tolist()
    long = prior_codes(bank, CELLS.tables, torch.zeros(7000).long(), 0)
    assert (long[:, 0] == 1).float().mean() == pytest.approx(4 / 6, abs=0.1)
    again = torch.cat(list(sample_images(bank, labels, codes, seed, batch=12)))
    assert torch.equal(grey_of(again), images)  # the batch decides nothing


def test_a_bank_of_conditions_is_kept_and_opened(tmp_path: Path) -> None:
    shape = BankShape(size_px=8, images=6, conditions=CELLS)
    write_generator(tmp_path, conditioned().state_dict(), Description(shape, "malignant", "clinic"))
    assert read_description(tmp_path).shape == shape
    again = load_generator(tmp_path, CPU)
    labels, codes = torch.tensor([0, 1]), torch.tensor([[2, 1], [1, 2]])
    noise = torch.zeros(2, 2)
    assert torch.equal(
        again(noise, noise, labels, 1.0, codes), conditioned()(noise, noise, labels, 1.0, codes)
    )
