"""Transforms beside a plain copy and beside other libraries: microseconds for each image.

`python -m benchmarks.transforms` prints the table; one thread, all programs in every round.
"""

from collections.abc import Iterator
from typing import Any

import kornia.augmentation as K
import torch
from torch import Tensor
from torchvision.transforms import v2 as typed_v2

from benchmarks.timing import Program, allocate, print_table, records_of
from softaug import Chain, Crop, Erase, Flip, SoftAugment, Transform, VerticalFlip

v2: Any = typed_v2  # whose types know fewer arguments than it takes
CLASSES = 100
SETTINGS = ((32, 256), (224, 64))  # side, batch
DTYPES = (torch.uint8, torch.float32)


def measure(rounds: int = 15, memory: str = "kept") -> list[dict[str, Any]]:
    """One record for each program, size and dtype.

    us_per_image: the least of all rounds; median_us: the middle one; times_copy: us_per_image over
    the plain copy's; ratio: over ours that does the same. memory: see `timing.allocate`.
    """
    allocate(memory)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    records = []
    for side, batch in SETTINGS:
        for dtype in DTYPES:
            images = torch.randint(0, 256, (batch, 3, side, side)).to(dtype)
            if dtype.is_floating_point:
                images /= 255
            labels = torch.randint(0, CLASSES, (batch,))
            programs = list(programs_for(images, labels))
            records += records_of(programs, images, memory, rounds)
    return records


def programs_for(images: Tensor, labels: Tensor) -> Iterator[Program]:
    """All programs on one batch: draws, pixels and, for ours and the loops, the map."""
    side = images.shape[-1]
    yield Program("copy", "torch", "copy", images.clone)
    # The least that pixels and a map can take together.
    map_size = (len(images), 1, side, side)
    yield Program("copy and map", "torch", "copy", lambda: (images.clone(), torch.ones(map_size)))

    crop, flip = Crop(sigma=0.3), Flip()
    ours: dict[str, Transform] = {
        "Crop": crop,
        "Crop, mixed fill": Crop(sigma=0.3, fill="mixed"),
        "Erase": Erase(),
        "Flip": flip,
        "VerticalFlip": VerticalFlip(),
        "Chain([Crop, Flip])": Chain([crop, flip]),
    }
    for name, transform in ours.items():
        yield Program(name, "softaug", name, lambda t=transform: t(images))  # type: ignore[misc]
    for name in ("Crop", "Chain([Crop, Flip])"):
        augment = SoftAugment(ours[name], CLASSES)
        label = f"SoftAugment({name})"
        yield Program(label, "softaug", label, lambda a=augment: a(images, labels))  # type: ignore[misc]

    whole = "SoftAugment(Crop)"
    yield Program(
        "published manner", "per sample", whole, lambda: published_manner(images, labels, 0.3)
    )
    yield Program("slices", "per sample", "Crop", lambda: slices(images))
    yield Program("gather", "torch", "Crop", lambda: gather(images))

    # The standard crop's padding: 4 pixels of 32.
    theirs: dict[str, tuple[str, dict[str, Any]]] = {
        "Crop": ("RandomCrop", {"size": (side, side), "padding": side // 8}),
        "Erase": ("RandomErasing", {"p": 1.0}),
        "Flip": ("RandomHorizontalFlip", {"p": 0.5}),
    }
    for like, (name, options) in theirs.items():
        one = getattr(v2, name)(**options)
        yield Program(
            f"v2.{name}",
            "torchvision, per sample",
            like,
            lambda t=one: torch.stack([t(image) for image in images]),  # type: ignore[misc]
        )
        if images.is_floating_point():  # kornia takes no integers
            batched = getattr(K, name)(**{"p": 1.0, **options})
            yield Program(f"kornia.{name}", "kornia", like, lambda t=batched: t(images))  # type: ignore[misc]


def published_manner(images: Tensor, labels: Tensor, sigma: float) -> tuple[Tensor, list[float]]:
    """Sample by sample, as the published code is described: written anew, from the description.

    Offsets drawn again until they are inside and cut to whole numbers, pixels pasted as slices on
    a background of a normal colour, one confidence by the curve, packed into one number with the
    label.
    """
    out, targets = [], []
    for image, label in zip(images, labels.tolist(), strict=True):
        _, height, width = image.shape
        tx, ty = _redrawn(sigma * width, width), _redrawn(sigma * height, height)
        colour = 0.01 * torch.randn(image.shape[0], 1, 1)
        pasted = colour.to(image.dtype).expand_as(image).clone()
        to, source = _overlap(tx, ty, height, width)
        pasted[to] = image[source]
        seen = (width - abs(tx)) * (height - abs(ty)) / (width * height)
        confidence = 1 - (1 - 1 / CLASSES) * (1 - seen) ** 2
        out.append(pasted)
        targets.append(label + 1 - confidence)
    return torch.stack(out), targets


def slices(images: Tensor) -> tuple[Tensor, Tensor]:
    """Our draws and map, pixels and map sample by sample as slices: the plain loop."""
    n, _, height, width = images.shape
    drawn = Crop(sigma=0.3).draw(n, height, width)
    out, seen = torch.zeros_like(images), torch.zeros(n, 1, height, width)
    for i, (tx, ty) in enumerate(zip(drawn["tx"].tolist(), drawn["ty"].tolist(), strict=True)):
        to, source = _overlap(tx, ty, height, width)
        out[i][to] = images[i][source]
        seen[i][to] = 1
    return out, seen


def gather(images: Tensor) -> tuple[Tensor, Tensor]:
    """Our draws and map, pixels by one index for each: the usual way for a batch."""
    n, channels, height, width = images.shape
    drawn = Crop(sigma=0.3).draw(n, height, width)
    y = torch.arange(height) + drawn["ty"][:, None]
    x = torch.arange(width) + drawn["tx"][:, None]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    index = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None, :]
    moved = images.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, channels, -1))
    return torch.where(inside[:, None], moved.view(images.shape), 0), inside[:, None].float()


def _redrawn(std: float, limit: int) -> int:
    for _ in range(100):
        offset = torch.randn(1).item() * std
        if abs(offset) <= limit:
            return int(offset)
    return 0


def _overlap(tx: int, ty: int, height: int, width: int) -> tuple[Any, Any]:
    """Where a shifted image shows, and which part of it does."""
    to = (..., slice(max(0, -ty), max(0, height - ty)), slice(max(0, -tx), max(0, width - tx)))
    source = (..., slice(max(0, ty), max(0, height + ty)), slice(max(0, tx), max(0, width + tx)))
    return to, source


if __name__ == "__main__":
    for memory in ("fresh", "kept"):  # what was kept would be given out again
        print(f"\n{memory} memory")
        print_table(measure(memory=memory))
