from pathlib import Path

import torch

from gan.training.examples import Examples, draw_batch, load_examples
from synthdp.data.dataset import open_dataset


def test_only_the_train_split_is_used(discs: Path) -> None:
    dataset = open_dataset(discs)
    examples = load_examples(dataset, dataset.split("train"), 32)
    assert examples.labels.bincount().tolist() == [6, 6]
    assert float(examples.images.max()) < 0.5  # images of val are white
    assert examples.attributes.shape == (12, 0)


def test_batches_are_balanced_and_labels_fit_images() -> None:
    labels = (torch.arange(53) > 49).long()  # three malignant images fill half a batch
    images = labels.float().view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    examples = Examples(images, labels, 10 * labels[:, None])
    batch = draw_batch(examples, 8, "mirror", torch.Generator().manual_seed(0))
    assert len(batch) == 8
    assert int(batch.labels.sum()) == 4
    assert torch.equal(batch.images.mean(dim=(1, 2, 3)), batch.labels.float())
    assert torch.equal(batch.attributes[:, 0], 10 * batch.labels)
