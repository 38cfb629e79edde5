"""dataset: TODO."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from softaug_lab.data.stream import Stream


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

    notes: for the user; split: how the test part was set aside, where the data had none. stream:
    the training images where they are not in memory; train then holds some of them, to be looked
    at. held_out: training images that no model is trained on, to fit its temperature.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    notes: tuple[str, ...] = ()
    split: str | None = None
    stream: Stream | None = None
    held_out: ImageSet | None = None

    @property
    def train_images(self) -> int:
        return len(self.train if self.stream is None else self.stream)

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
