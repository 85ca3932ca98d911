"""What training does with a vector of findings: batches, and moments of each."""

import torch

from gan.network.generator import Generator
from gan.training.examples import Examples, draw_batch
from gan.training.finish import spread_classes
from gan.training.guidance import RunningMean, absent_classes, class_moments


def examples_of(labels: torch.Tensor) -> Examples:
    images = torch.arange(len(labels)).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2) / len(labels)
    return Examples(images, labels, torch.zeros(len(labels), 0, dtype=torch.int64))


def test_half_of_a_batch_has_a_finding_each_as_often_and_half_is_as_it_comes() -> None:
    labels = torch.zeros(200, 2, dtype=torch.int64)
    labels[:2, 0], labels[2:102, 1], labels[150:, 0] = 1, 1, -1
    drawn = draw_batch(examples_of(labels), 4000, "none", torch.Generator().manual_seed(0)).labels
    rare, common = ((drawn == 1).double().mean(dim=0)).tolist()
    assert abs(rare - (0.25 + 0.5 * 0.01)) < 0.03
    assert abs(common - (0.25 + 0.5 * 0.5)) < 0.03
    assert (drawn == -1).any()


def test_moments_are_taken_of_each_class_of_each_finding_where_it_is_known() -> None:
    features = torch.tensor([[1.0], [3.0], [5.0]], requires_grad=True)
    labels = torch.tensor([[1, 0], [0, -1], [1, 0]])
    moments = class_moments(features, labels)
    assert moments.shape == (2, 4, 1)
    assert moments[0, :, 0].tolist() == [3.0, 3.0, 3.0, 3.0]  # no image has the second finding
    assert moments[1, :3, 0].tolist() == [9.0, 13.0, 13.0]
    absent = absent_classes(labels)
    assert absent is not None
    assert absent[:, 0].tolist() == [False, False, False, True]
    (gradient,) = torch.autograd.grad(moments[0, 3].sum() + 0 * features.sum(), features)
    assert torch.equal(gradient, torch.zeros(3, 1))
    assert absent_classes(torch.tensor([0, 1])) is None


def test_a_class_that_a_batch_lacks_leaves_its_running_mean() -> None:
    mean, absent = RunningMean(0.5), torch.tensor([[False], [True]])
    mean.update(torch.tensor([[1.0], [100.0]]), absent)  # the second is a stand-in
    mean.update(torch.tensor([[3.0], [100.0]]), absent)
    assert mean.update(torch.tensor([[2.0], [7.0]]), ~absent).tolist() == [[2.0], [7.0]]
    assert mean.update(torch.tensor([[2.0], [9.0]]), ~absent).tolist() == [[2.0], [8.0]]


def test_classes_are_spread_about_the_mean_of_their_own_finding() -> None:
    generator = Generator(32, (8, 8), 8, 2, findings=2)
    before = generator.class_embedding.weight.detach().clone().view(2, 2, -1)
    spread_classes(generator, 2.0)
    after = generator.class_embedding.weight.detach().view(2, 2, -1)
    assert torch.allclose(after.mean(dim=1), before.mean(dim=1), atol=1e-6)
    assert torch.allclose(after[:, 1] - after[:, 0], 2 * (before[:, 1] - before[:, 0]), atol=1e-5)
