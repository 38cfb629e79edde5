"""A loaded data set: images and labels in memory, class names, and the stream if there is one.

n samples, c channels, h w pixels.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from softaug_lab.data.identity import content_keys
from softaug_lab.data.stream import Stream

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class ImageSet:
    """Images uint8 [N,C,H,W] with their labels int64 [N].

    objects: maps of where the object of each image is, 255 where all of a pixel is; None where the
    whole image counts.
    """

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]
    objects: UInt8[Tensor, "n 1 h w"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Tensor | slice) -> "ImageSet":
        """Choose images by their numbers, int64 [M], by a mask, bool [N], or by a slice."""
        objects = None if self.objects is None else self.objects[chosen]
        return ImageSet(self.images[chosen], self.labels[chosen], objects)


@dataclass(frozen=True)
class Data:
    """Training and test images of the same classes and shape.

    notes: remarks for the user. split: how the test part was split off, where the source has none.
    stream: the training images, where they are read while training; `train` then holds a sample of
    them, for statistics and previews. held_out: training images that no model is trained on, to
    fit a temperature. chosen_side: of the images in pixels, where it was chosen by their sizes.
    arrays: whether all images are arrays (.npy), such as spectrograms.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    notes: tuple[str, ...] = ()
    split: str | None = None
    stream: Stream | None = None
    held_out: ImageSet | None = None
    chosen_side: int | None = None
    arrays: bool = False

    @property
    def train_images(self) -> int:
        """Number of training images, streamed or in memory."""
        return len(self.train if self.stream is None else self.stream)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @cached_property
    def pixel_statistics(self) -> Statistics:
        """Mean and standard deviation of each channel of the training images, 0 to 255."""
        return pixel_statistics(self.train.images)

    @cached_property
    def training_keys(self) -> Int64[Tensor, "m"]:
        """Keys by content of the training images in memory, int64 [M], held-out ones too."""
        parts = [self.train, *([] if self.held_out is None else [self.held_out])]
        return torch.cat([content_keys(part.images) for part in parts])

    def all_images(self) -> ImageSet:
        """Concatenate the training and test images in memory."""
        return ImageSet(
            torch.cat([self.train.images, self.test.images]),
            torch.cat([self.train.labels, self.test.labels]),
        )


def pixel_statistics(images: UInt8[Tensor, "n c h w"]) -> Statistics:
    """Compute mean and standard deviation of each channel of uint8 images, 0 to 255.

    A channel of one colour has the standard deviation 1, so that it can be divided by.
    """
    levels = torch.arange(256, dtype=torch.float64)
    means, deviations = [], []
    for channel in images.unbind(dim=1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * levels).sum()
        means.append(mean.item())
        deviations.append((share * (levels - mean) ** 2).sum().sqrt().item() or 1.0)
    return tuple(means), tuple(deviations)
