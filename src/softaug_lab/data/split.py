"""Random splits by class: test images, balanced subsets."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from softaug_lab.basics.errors import UsageError
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.sample import Sample, Unreadable

TEST_SHARE = 0.2  # of each class, where a source has no test part


def split_off_test(
    samples: Sequence[Sample | Unreadable], num_classes: int, seed: int
) -> tuple[list[Sample | Unreadable], list[Sample | Unreadable]]:
    """Split samples into a training and a test part.

    The test part is 20 % of each class, at least one image where the class has two. Unreadable
    samples stay in the training part, where they are reported.
    """
    generator = Generator().manual_seed(seed)
    members: list[list[Sample]] = [[] for _ in range(num_classes)]
    train: list[Sample | Unreadable] = []
    test: list[Sample | Unreadable] = []
    for sample in samples:
        if isinstance(sample, Unreadable):
            train.append(sample)
        else:
            members[sample.label].append(sample)
    for images in members:
        order = torch.randperm(len(images), generator=generator).tolist()
        n_test = number_to_test(len(images))
        test += [images[i] for i in sorted(order[:n_test])]
        train += [images[i] for i in sorted(order[n_test:])]
    return train, test


def number_to_test(n: int) -> int:
    """Compute how many of n images of a class are split off: TEST_SHARE, at least one of two."""
    return max(0, min(max(1, round(TEST_SHARE * n)), n - 1))


def subset(data: Data, n: int, seed: int) -> ImageSet:
    """Choose n training images, as balanced over the classes as the data allow.

    Raises UsageError where n is below the number of classes or above that of the images.
    """
    labels = data.train.labels
    if not data.num_classes <= n <= len(labels):
        raise UsageError(
            f"train_images must be between {data.num_classes} (the classes) and {len(labels):,} "
            f"(the training images of {data.name}), got {n}"
        )
    order, rank = random_ranks(data, seed)
    # The images of the n lowest ranks within their classes are balanced.
    chosen = order[rank[order].argsort(stable=True)[:n]].sort().values
    return data.train[chosen]


def random_ranks(data: Data, seed: int) -> tuple[Tensor, Tensor]:
    """Return a random order of the training images, and each image's rank within its class."""
    labels = data.train.labels
    order = torch.randperm(len(labels), generator=Generator().manual_seed(seed))
    by_class = order[labels[order].argsort(stable=True)]
    counts = labels.bincount(minlength=data.num_classes)
    first = (counts.cumsum(dim=0) - counts).repeat_interleave(counts)
    rank = torch.empty_like(order)
    rank[by_class] = torch.arange(len(labels)) - first
    return order, rank
