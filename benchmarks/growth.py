"""How the cost of the soft crop grows with the batch, the images' side and the number of classes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

import softaug
from benchmarks.timing import per_image

BATCHES = (1, 4, 16, 64, 256, 1024)
SIDES = (16, 32, 64, 128, 256, 512)
CLASSES = (10, 100, 1_000, 10_000)


def measure(rounds: int = 5) -> list[dict[str, Any]]:
    """Microseconds for each uint8 image, of softaug's crop with its targets and of torchvision's."""
    records = []
    for batch in BATCHES:
        records += _point("batch", batch, batch, 32, 10, rounds)
    for side in SIDES:
        records += _point("side", side, 64, side, 10, rounds)
    for classes in CLASSES:
        records += _point("classes", classes, 256, 32, classes, rounds)
    return records


def _point(
    axis: str, at: int, batch: int, side: int, classes: int, rounds: int
) -> list[dict[str, Any]]:
    images = torch.randint(256, (batch, 3, side, side), dtype=torch.uint8)
    labels = torch.randint(classes, (batch,))
    augment = softaug.SoftAugment(softaug.Crop(0.3), classes)
    crop = v2.RandomCrop(side, padding=side // 8)
    programs: dict[str, Callable[[], object]] = {
        "softaug, with targets": lambda: augment(images, labels),
        "torchvision": lambda: _each(crop, images),
        "copy": images.clone,
    }
    found = per_image(programs, batch, rounds)
    return [
        {"axis": axis, "at": at, "name": name, "us_per_image": timing.least}
        for name, timing in found.items()
    ]


def _each(transform: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.stack([transform(image) for image in images])
