"""Policies and resized crops beside torchvision and kornia: microseconds for each image.

`python -m benchmarks.policies` prints the table; one thread, all programs in every round. Draws,
pixels and, for ours, the map; torchvision runs image by image, then the images are stacked.
"""

from collections.abc import Iterator
from typing import Any

import kornia.augmentation as K
import torch
from kornia.augmentation.auto import RandAugment as KorniaRandAugment
from kornia.augmentation.auto import TrivialAugment as KorniaTrivialAugment
from torch import Tensor
from torchvision.transforms import v2 as typed_v2
from torchvision.transforms.v2 import functional as tv

from benchmarks.timing import Program, allocate, print_table, records_of
from softaug import (
    Blur,
    GaussianBlur,
    Noise,
    RandAugment,
    RandomResizedCrop,
    ResizedCrop,
    TrivialAugment,
)

v2: Any = typed_v2  # whose types know fewer arguments than it takes
SETTINGS = ((32, 32, 256), (224, 224, 64), (300, 400, 64))  # height, width, batch
DTYPES = (torch.uint8, torch.float32)
WARM = 50  # calls before measuring: TrivialAugment then knows most of its moves, as after an epoch


def measure(rounds: int = 15, memory: str = "kept", warm: int = WARM) -> list[dict[str, Any]]:
    """One record for each program, size and dtype.

    us_per_image: the least of all rounds; median_us: the middle one; times_copy: us_per_image over
    the plain copy's; ratio: over ours that does the same. size: the height of the images; memory:
    see `timing.allocate`.
    """
    allocate(memory)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    records = []
    for height, width, batch in SETTINGS:
        for dtype in DTYPES:
            images = torch.randint(0, 256, (batch, 3, height, width)).to(dtype)
            if dtype.is_floating_point:
                images /= 255
            programs = list(programs_for(images))
            for program in programs:
                if program.name == "TrivialAugment":
                    for _ in range(warm):
                        program.run()
            records += records_of(programs, images, memory, rounds)
    return records


def programs_for(images: Tensor) -> Iterator[Program]:
    height, width = images.shape[-2:]
    side = min(height, 224)
    yield Program("copy", "torch", "copy", images.clone)
    crop = ResizedCrop(side)
    ours = {"ResizedCrop": crop, "RandomResizedCrop": RandomResizedCrop(side)}
    theirs: dict[str, tuple[str, dict[str, Any]]] = {
        "RandomResizedCrop": ("RandomResizedCrop", {"size": side, "antialias": True})
    }
    batched: dict[str, tuple[str, Any]] = {
        "RandomResizedCrop": ("without antialiasing", K.RandomResizedCrop((side, side)))
    }
    if height == width:
        ours |= {"RandAugment": RandAugment(), "TrivialAugment": TrivialAugment()}
        ours |= {"Noise": Noise(), "Blur": Blur(), "GaussianBlur": GaussianBlur()}
        theirs |= {"RandAugment": ("RandAugment", {}), "TrivialAugment": ("TrivialAugmentWide", {})}
        theirs |= {"GaussianBlur": ("GaussianBlur", {"kernel_size": 9, "sigma": (0.1, 2.0)})}
        if images.is_floating_point():
            theirs |= {"Noise": ("GaussianNoise", {})}
        batched |= {
            "RandAugment": ("one draw of operations for all", KorniaRandAugment(n=2, m=9)),
            "TrivialAugment": ("one draw of operations for all", KorniaTrivialAugment()),
        }
    for name, transform in ours.items():
        yield Program(name, "softaug", name, lambda t=transform: t(images))  # type: ignore[misc]
    yield Program(
        "v2.functional.resized_crop",
        "torchvision, per sample",
        "ResizedCrop",
        lambda: same_windows(images, crop),
    )
    for like, (name, options) in theirs.items():
        one = getattr(v2, name)(**options)
        yield Program(
            f"v2.{name}",
            "torchvision, per sample",
            like,
            lambda t=one: torch.stack([t(image) for image in images]),  # type: ignore[misc]
        )
    if images.is_floating_point():  # kornia takes no integers
        for like, (how, augmentation) in batched.items():
            name = f"kornia.{like}, {how}"
            yield Program(name, "kornia", like, lambda t=augmentation: t(images))  # type: ignore[misc]


def same_windows(images: Tensor, crop: ResizedCrop) -> Tensor:
    """Our windows, which may lie partly outside, by torchvision: without the map."""
    drawn = crop.draw(len(images), *images.shape[-2:])
    boxes = torch.stack([drawn[name] for name in ("top", "left", "height", "width")], dim=1)
    size, made = [*crop.output_size(0, 0)], []
    for image, (top, left, height, width) in zip(images, boxes.tolist(), strict=True):
        made.append(tv.resized_crop(image, top, left, height, width, size, antialias=True))
    return torch.stack(made)


if __name__ == "__main__":
    for memory in ("kept", "fresh"):
        print(f"\n{memory} memory")
        print_table(measure(memory=memory))
