import json
from pathlib import Path

import pytest
import torch

from gan.network.bank import Bank
from gan.network.sampling import sample_images
from gan.package.conditions import Combination, Conditions
from gan.package.description import BankShape, Description, read_description
from gan.package.model import load_generator, write_generator
from synthdp.errors import InputError

CPU = torch.device("cpu")
VIEWS = Conditions(
    names=("view",), levels=(("CC",),), prior=2 * ((Combination(codes=(1,), share=1.0),),)
)


def filled(images: int = 5) -> Bank:
    """Image k of class c is c * 100 + 10 k, but for its left column, which is 255."""
    bank = Bank(8, images)
    levels = torch.tensor([[100 * c + 10 * k for k in range(images)] for c in (0, 1)])
    bank.images.copy_(levels[:, :, None, None].expand(2, images, 8, 8).to(torch.uint8))
    bank.images[..., 0] = 255
    return bank.eval()


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
    with pytest.raises(ValueError, match="knows the class alone"):
        BankShape(size_px=8, images=5, conditions=VIEWS)
