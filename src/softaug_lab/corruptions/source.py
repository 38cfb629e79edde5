"""Corrupted test sets, computed from images in memory or read from files.

n, m samples, c channels, h w pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from softaug_lab.corruptions.apply import corrupt
from softaug_lab.data import ImageSet

VALUES_AT_ONCE = 2**22  # pixel values corrupted together: a few float copies of them fit in 100 MB


@dataclass(frozen=True)
class CorruptedSet:
    """A test set under one corruption: labels int64 [N], and a function that gives its images.

    images: returns uint8 images [M,C,H,W] of any slice of the N.
    """

    labels: Int64[Tensor, "n"]
    images: Callable[[slice], UInt8[Tensor, "m c h w"]]


Source = Callable[[str, int], CorruptedSet]  # by the corruption's name and severity


def computed(
    test: ImageSet,
    seed: int = 0,
    values_at_once: int = VALUES_AT_ONCE,
    device: torch.device | str = "cpu",
) -> Source:
    """Corrupt test images when they are asked for, on a device.

    The corrupted images depend on the test images and `seed` alone: all models see the same. On a
    GPU they are those of a CPU to rounding, of the same random numbers.
    values_at_once: pixel values [N x C x H x W] to corrupt together, which bounds the memory.
    """
    n_at_once = max(1, values_at_once // test.images[0].numel())

    def source(name: str, severity: int) -> CorruptedSet:
        def images(chosen: slice) -> Tensor:
            numbers = range(len(test))[chosen]
            chunks = [numbers[i : i + n_at_once] for i in range(0, len(numbers), n_at_once)]
            parts = ((test.images[c.start : c.stop].to(device), c) for c in chunks)
            return torch.cat([corrupt(part, name, severity, c, seed) for part, c in parts])

        return CorruptedSet(test.labels, images)

    return source
