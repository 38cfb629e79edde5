"""Random splits by class: test images, held-out images, balanced subsets."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from softaug_lab.basics.errors import UsageError
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.sample import Sample, Unreadable

TEST_SHARE = 0.2  # of each class, where a source has no test part
# Of each class, to fit a temperature on. A tenth of 10,000 images would cost up to 1.5 points of
# error; from fewer than 200 images a temperature is too uncertain to be worth any.
HELD_OUT_SHARE, LEAST_HELD_OUT = 0.05, 200


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
        n_test = min(max(1, round(TEST_SHARE * len(images))), len(images) - 1)
        test += [images[i] for i in sorted(order[:n_test])]
        train += [images[i] for i in sorted(order[n_test:])]
    return train, test


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
    order, rank = _random_ranks(data, seed)
    # The images of the n lowest ranks within their classes are balanced.
    chosen = order[rank[order].argsort(stable=True)[:n]].sort().values
    return ImageSet(data.train.images[chosen], labels[chosen])


def share_to_hold_out(data: Data) -> float:
    """Choose the share of the training images to fit a temperature on: HELD_OUT_SHARE or none."""
    enough = HELD_OUT_SHARE * len(data.train) >= LEAST_HELD_OUT
    return HELD_OUT_SHARE if enough and data.stream is None else 0.0


def hold_out(data: Data, share: float, seed: int) -> Data:
    """Move a share of each class from the training images to `held_out`.

    At least one image of each class is moved, and at least one stays. Raises UsageError where
    every class has one image only.
    """
    labels = data.train.labels
    counts = labels.bincount(minlength=data.num_classes)
    n_held = (share * counts).round().clamp(min=1).minimum(counts - 1)
    _, rank = _random_ranks(data, seed)
    held = rank < n_held[labels]
    if not held.any():
        raise UsageError(f"{data.name} has one training image of each class, and none to hold out")
    train, held_out = (
        ImageSet(data.train.images[chosen], labels[chosen]) for chosen in (~held, held)
    )
    return replace(data, train=train, held_out=held_out)


def _random_ranks(data: Data, seed: int) -> tuple[Tensor, Tensor]:
    """Return a random order of the training images, and each image's rank within its class."""
    labels = data.train.labels
    order = torch.randperm(len(labels), generator=Generator().manual_seed(seed))
    by_class = order[labels[order].argsort(stable=True)]
    counts = labels.bincount(minlength=data.num_classes)
    first = (counts.cumsum(dim=0) - counts).repeat_interleave(counts)
    rank = torch.empty_like(order)
    rank[by_class] = torch.arange(len(labels)) - first
    return order, rank
