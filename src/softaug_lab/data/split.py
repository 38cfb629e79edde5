"""split: TODO."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from softaug_lab.basics.errors import UsageError
from softaug_lab.data.dataset import Data, ImageSet
from softaug_lab.data.sample import Sample

TEST_SHARE = 0.2  # of each class, where the data has no test part of its own


def split_off_test(
    samples: Sequence[Sample | str], num_classes: int, seed: int
) -> tuple[list[Sample | str], list[Sample | str]]:
    """Set a share of each class aside, at least one image where a class has two."""
    generator = Generator().manual_seed(seed)
    members: list[list[Sample]] = [[] for _ in range(num_classes)]
    train: list[Sample | str] = []
    test: list[Sample | str] = []
    for sample in samples:
        if isinstance(sample, str):
            train.append(sample)  # to be reported
        else:
            members[sample.label].append(sample)
    for own in members:
        order = torch.randperm(len(own), generator=generator).tolist()
        aside = min(max(1, round(TEST_SHARE * len(own))), len(own) - 1)
        test += [own[i] for i in sorted(order[:aside])]
        train += [own[i] for i in sorted(order[aside:])]
    return train, test


def subset(data: Data, n: int, seed: int) -> ImageSet:
    """n training images, as balanced over the classes as they allow."""
    labels = data.train.labels
    if not data.num_classes <= n <= len(labels):
        raise UsageError(
            f"train_images must be between {data.num_classes} (the classes) and {len(labels):,} "
            f"(the training images of {data.name}), got {n}"
        )
    order, rank = _random_ranks(data, seed)
    # The n lowest ranks are balanced.
    chosen = order[rank[order].argsort(stable=True)[:n]].sort().values
    return ImageSet(data.train.images[chosen], labels[chosen])


def hold_out(data: Data, share: float, seed: int) -> Data:
    """Set a share of each class's training images aside, at least one of each and never all."""
    labels = data.train.labels
    counts = labels.bincount(minlength=data.num_classes)
    aside = (share * counts).round().clamp(min=1).minimum(counts - 1)
    _, rank = _random_ranks(data, seed)
    held = rank < aside[labels]
    if not held.any():
        raise UsageError(f"{data.name} has one training image of each class, and none to hold out")
    train, apart = (ImageSet(data.train.images[some], labels[some]) for some in (~held, held))
    return replace(data, train=train, held_out=apart)


def _random_ranks(data: Data, seed: int) -> tuple[Tensor, Tensor]:
    """The training images in a random order, and the rank of each within its class in it."""
    labels = data.train.labels
    order = torch.randperm(len(labels), generator=Generator().manual_seed(seed))
    by_class = order[labels[order].argsort(stable=True)]
    counts = labels.bincount(minlength=data.num_classes)
    first = (counts.cumsum(dim=0) - counts).repeat_interleave(counts)
    rank = torch.empty_like(order)
    rank[by_class] = torch.arange(len(labels)) - first
    return order, rank
