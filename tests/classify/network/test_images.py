import math
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.network.images import ImageExamples, step_views
from synthdp.data.views.augmentation import Augmentation

SIDE = 12


class Kept:
    """Images at hand, and no more of them in memory than are asked for."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._images[indices]


def image_examples(n_patients: int = 6, **changes: object) -> ImageExamples:
    """Patients with one to five images, in mixed order."""
    generator = torch.Generator().manual_seed(0)
    units = torch.arange(n_patients).repeat_interleave(1 + torch.arange(n_patients) % 5)
    order = torch.randperm(len(units), generator=generator)
    images = torch.rand(len(units), 1, SIDE, SIDE, generator=generator) * 2 - 1
    targets = (units % 2).float().unsqueeze(1)
    targets[0, 0] = math.nan
    values: dict[str, object] = {
        "source": Kept(images.numpy()[order]),
        "targets": targets[order],
        "units": units[order],
        "tags": [sha256(b"%d" % unit).digest() for unit in range(n_patients)],
        "n_views": 2,
        "augmentation": Augmentation(),
        **changes,
    }
    return ImageExamples(**values)  # type: ignore[arg-type]


def without(data: ImageExamples, patient: int) -> ImageExamples:
    """The neighbour without one patient."""
    kept = torch.nonzero(data.units != patient).flatten()
    units = data.units[kept]
    return replace(
        data,
        source=Kept(data.source.images(kept.numpy())),
        targets=data.targets[kept],
        units=units - (units > patient).long(),
        tags=[tag for index, tag in enumerate(data.tags) if index != patient],
    )


def shown(data: ImageExamples, patient: int, step: int, **how: object) -> Tensor:
    """What a step shows of one patient, in order."""
    drawn = torch.arange(len(data.tags))
    views = step_views(data, drawn, step, **how)  # type: ignore[arg-type]
    own = views.patients == patient
    return data.inputs(views.images[own], views.views[own])


@pytest.mark.parametrize("how", [{"fresh": True}, {"fresh": True, "max_images": 2, "seed": 3}])
def test_neighbours_see_the_same_draws(how: dict[str, object]) -> None:
    data = image_examples()
    for gone in (0, 2, 5):
        neighbour = without(data, gone)
        for patient in range(6):
            if patient != gone:
                here = shown(data, patient, 7, **how)
                there = shown(neighbour, patient - (patient > gone), 7, **how)
                assert torch.equal(here, there)


def test_each_step_draws_another_view_and_each_seed_others() -> None:
    data, drawn = image_examples(), torch.arange(6)
    first, again, next_ = (shown(data, 3, step, fresh=True) for step in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, next_)
    assert not torch.equal(first, shown(replace(data, seed=1), 3, 4, fresh=True))
    numbers = [step_views(data, drawn, step, fresh=True).views.unique() for step in (0, 1, 2)]
    assert torch.cat(numbers).tolist() == [0, 1, 2, 3, 4, 5]
    of_one = shown(data, 0, 0, fresh=True)
    assert len(of_one) == 2  # views of the patient's one image
    assert not torch.equal(of_one[0], of_one[1])


def test_without_augmentation_images_are_shown_as_they_are() -> None:
    data = image_examples(augmentation=None, n_views=1)
    everything = data.inputs(torch.arange(len(data.units)), torch.zeros(len(data.units)).long())
    assert np.array_equal(everything.numpy(), data.source.images(np.arange(len(data.units))))


def test_so_many_images_of_a_patient_are_drawn_anew_in_each_step() -> None:
    data, drawn = image_examples(n_views=1), torch.arange(6)
    seen: set[int] = set()
    for step in range(20):
        views = step_views(data, drawn, step, max_images=2)
        counts = torch.bincount(views.patients)
        assert counts.tolist() == [1, 2, 2, 2, 2, 1]
        assert (data.units[views.images] == drawn[views.patients]).all()
        for patient in range(6):
            assert len(views.images[views.patients == patient].unique()) == counts[patient]
        seen |= set(views.images[views.patients == 4].tolist())
    assert len(seen) == 5
    assert torch.allclose(step_views(data, drawn, 0, max_images=2).shares[:1], torch.ones(1))


def test_nobody_is_shown_where_nobody_is_drawn() -> None:
    data = image_examples()
    views = step_views(data, torch.zeros(0).long(), 3, fresh=True, max_images=1)
    assert len(views.images) == 0
    assert data.inputs(views.images, views.views).shape == (0, 1, SIDE, SIDE)


def test_a_trunk_stands_between_images_and_network() -> None:
    data = image_examples(trunk=lambda images: images.flatten(1)[:, :5])
    assert data.inputs(torch.tensor([0, 1]), torch.tensor([0, 3])).shape == (2, 5)
