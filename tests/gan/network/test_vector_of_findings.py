"""How networks take a vector of findings, and how such vectors are drawn."""

import numpy as np
import torch
from torch import nn

from gan.network.discriminator import Discriminator
from gan.network.generator import Generator
from gan.network.layers import ClassEmbedding
from gan.network.sampling import draw_findings

SHAPE = {"size_px": 32, "channels": (8, 8), "z_dim": 8, "haar_levels": 2}


def test_one_finding_is_an_embedding_of_two_classes_to_the_bit() -> None:
    torch.manual_seed(3)
    own = ClassEmbedding(1, 6, std=0.5)
    torch.manual_seed(3)
    plain = nn.Embedding(2, 6)
    nn.init.normal_(plain.weight, std=0.5)
    labels = torch.tensor([0, 1, 1])
    assert torch.equal(own(labels), plain(labels))
    assert [*own.state_dict()] == ["weight"]


def test_findings_add_a_vector_each_and_unknown_ones_none() -> None:
    table = ClassEmbedding(3, 4, std=1.0)
    vectors = table.weight.view(3, 2, 4)
    found = table(torch.tensor([[1, 0, -1], [-1, -1, -1]]))
    assert torch.allclose(found[0], vectors[0, 1] + vectors[1, 0])
    assert torch.equal(found[1], torch.zeros(4))


def test_each_finding_reaches_the_image_and_the_judgement() -> None:
    torch.manual_seed(0)
    generator = Generator(**SHAPE, findings=2).eval()
    judge = Discriminator((8, 8), 2, findings=2).eval()
    z, noise = torch.randn(1, 8), torch.zeros(1, generator.noise_dim)
    labels = [torch.tensor([[a, b]]) for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))]
    images = [generator(z, noise, one) for one in labels]
    logits = torch.stack([judge(images[0], one)[0] for one in labels])
    assert all((images[0] - one).abs().max() > 1e-3 for one in images[1:])
    assert torch.allclose(logits[3] - logits[0], logits[1] + logits[2] - 2 * logits[0], atol=1e-5)
    assert logits.unique().numel() == 4


def test_draws_keep_to_their_blocks_and_a_longer_set_begins_with_a_shorter_one() -> None:
    together = [([2, 2], 0.25), ([1, 0], 0.75)]
    blocks = [together, [([1], 0.9), ([2], 0.1)], [([0], 0.5), ([3], 0.5)]]
    labels, codes = draw_findings(blocks, 400, 5, 3)
    assert labels.shape == (400, 3)
    assert {tuple(row) for row in labels[:, :2].tolist()} == {(1, 1), (0, -1)}
    shares = (labels == 1).double().mean(dim=0)
    assert np.allclose(shares, [0.25, 0.25, 0.1], atol=0.07)
    assert set(codes.flatten().tolist()) == {0, 3}
    shorter, own = draw_findings(blocks, 7, 5, 3)
    assert torch.equal(shorter, labels[:7])
    assert torch.equal(own, codes[:7])
    assert draw_findings(blocks, 0, 5, 3)[0].shape == (0, 3)
