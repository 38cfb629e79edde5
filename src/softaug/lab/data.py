"""Data: labelled images decoded once, kept as uint8 in memory.

DATA is `demo`, `cifar10`, `cifar100`, a folder with a folder for each class, or Parquet files as on
the Hugging Face Hub. n samples, c channels, h w pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Generator, Tensor

from softaug.lab.data_files import (
    Found,
    list_folder,
    parquet_files,
    read_parquet,
    report_faults,
)
from softaug.lab.errors import SoftaugError, UsageError, unknown_name
from softaug.lab.images import Sample, decode_all

TEST_SHARE = 0.2  # of each class, where the data has no test part of its own


@dataclass(frozen=True)
class ImageSet:
    """Images uint8 [N,C,H,W] and their labels int64 [N]."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """A training and a test set of the same classes and image shape.

    notes: for the user; split: how the test part was set aside, where the data had none.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    notes: tuple[str, ...] = ()
    split: str | None = None

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def all_images(self) -> ImageSet:
        return ImageSet(
            torch.cat([self.train.images, self.test.images]),
            torch.cat([self.train.labels, self.test.labels]),
        )


def load(
    source: str,
    *,
    size: int | None = None,
    seed: int = 0,
    train_images: int | None = None,
    skip_unreadable: bool = False,
) -> Data:
    """Load a data set, complaining of all its faults at once.

    size: short side to `size`, then centre crop; needed where images differ in size.
    seed: of the split, where there is no test part, and of the subset; of nothing else.
    train_images: a balanced subset of so many training images.
    skip_unreadable: leave out images that cannot be read, and say how many in the notes.
    Raises UsageError for a wrong request, SoftaugError for faults of the data.
    """
    if size is not None and size < 1:
        raise UsageError(f"size must be at least 1 pixel, got {size}")
    built_in = {"demo": _demo, "cifar10": _cifar, "cifar100": _cifar}
    if source in built_in:
        data = built_in[source](source)
        if size is not None and size not in data.image_shape[1:]:
            raise UsageError(f"{source} has images of {data.image_shape[1]} px; leave out --size")
    else:
        try:
            found = _find(source, built_in)
        except OSError as error:
            raise SoftaugError(f"{source[:200]}: not readable ({error.strerror})") from error
        data = _from_files(Path(source), found, size, seed, skip_unreadable)
    if train_images is not None:
        data = replace(data, train=_subset(data, train_images, seed))
    return data


def _find(source: str, built_in: Iterable[str]) -> Found:
    path = Path(source)
    # "" would be the current folder.
    if not source or not path.exists():
        raise unknown_name("data set or missing path", source, built_in)
    if parquet_files(path):
        return read_parquet(path)
    if path.is_dir():
        return list_folder(path)
    raise UsageError(f"{source}: expected a folder of class folders or Parquet files")


def _demo(name: str) -> Data:
    """The embedded part of Fashion-MNIST: 8,000 training and 2,000 test images, 28 x 28, grey."""
    with np.load(Path(__file__).parent / "assets" / "demo.npz", allow_pickle=False) as file:
        parts = {
            part: ImageSet(
                torch.from_numpy(file[f"{part}_images"]).unsqueeze(1),
                torch.from_numpy(file[f"{part}_labels"]).long(),
            )
            for part in ("train", "test")
        }
        classes = tuple(str(name) for name in file["classes"])
    return Data(name, classes, parts["train"], parts["test"])


def _cifar(name: str) -> Data:
    """CIFAR, fetched on first use."""
    from softaug.lab.cifar import read_cifar

    classes, train, test = read_cifar(name)
    return Data(name, classes, ImageSet(*train), ImageSet(*test))


def _from_files(
    path: Path, found: Found, size: int | None, seed: int, skip_unreadable: bool
) -> Data:
    """Split where there is no test part, decode, and put it together."""
    notes, split = [*found.notes], None
    if found.test is None:
        train, test = _split(found.train, len(found.classes), seed)
        split = (
            f"{path}: no test part, so {len(test):,} of {len(found.train):,} images were set "
            f"aside for testing ({TEST_SHARE:.0%} of each class, by seed {seed})"
        )
    else:
        train, test = found.train, found.test
    decoded, decode_notes = decode_all([*train, *test], size, skip_unreadable, str(path))
    labels = torch.tensor([sample.label for sample in [*train, *test]])[decoded.kept]
    # The training images stay a view: a copy of them may not fit. The test images are copied, so
    # that a subset of the training images frees all the others.
    border = int(decoded.kept[: len(train)].sum())
    train_set = ImageSet(decoded.images[:border], labels[:border])
    test_set = ImageSet(decoded.images[border:].clone(), labels[border:])
    train_counts, test_counts = (
        part.labels.bincount(minlength=len(found.classes)).tolist()
        for part in (train_set, test_set)
    )
    faults = [
        f"{path}: class {name!r} has no readable image to train on"
        for name, count in zip(found.classes, train_counts, strict=True)
        if not count
    ]
    if not len(test_set):
        faults.append(f"{path}: no image to test on")
    report_faults(path, faults)
    untested = [name for name, n in zip(found.classes, test_counts, strict=True) if not n]
    if untested:
        shown = ", ".join(untested[:5]) + (", ..." if len(untested) > 5 else "")
        notes.append(f"{path}: classes without a test image: {shown}")
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return Data(name, found.classes, train_set, test_set, (*notes, *decode_notes), split)


def _split(samples: list[Sample], num_classes: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Set a share of each class aside, at least one image where a class has two."""
    generator = Generator().manual_seed(seed)
    members: list[list[Sample]] = [[] for _ in range(num_classes)]
    for sample in samples:
        members[sample.label].append(sample)
    train: list[Sample] = []
    test: list[Sample] = []
    for own in members:
        order = torch.randperm(len(own), generator=generator).tolist()
        aside = min(max(1, round(TEST_SHARE * len(own))), len(own) - 1)
        test += [own[i] for i in sorted(order[:aside])]
        train += [own[i] for i in sorted(order[aside:])]
    return train, test


def _subset(data: Data, n: int, seed: int) -> ImageSet:
    """n training images, as balanced over the classes as they allow."""
    labels = data.train.labels
    if not data.num_classes <= n <= len(labels):
        raise UsageError(
            f"train_images must be between {data.num_classes} (the classes) and {len(labels):,} "
            f"(the training images of {data.name}), got {n}"
        )
    order = torch.randperm(len(labels), generator=Generator().manual_seed(seed))
    # Rank within the class, in random order: the n lowest ranks are balanced.
    by_class = order[labels[order].argsort(stable=True)]
    counts = labels.bincount(minlength=data.num_classes)
    first = (counts.cumsum(dim=0) - counts).repeat_interleave(counts)
    rank = torch.empty_like(order)
    rank[by_class] = torch.arange(len(labels)) - first
    chosen = order[rank[order].argsort(stable=True)[:n]].sort().values
    return ImageSet(data.train.images[chosen], labels[chosen])
