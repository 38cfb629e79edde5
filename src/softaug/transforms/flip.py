"""What loses nothing: mirroring, and doing nothing."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor

from softaug.transforms.base import Drawn, Images, Seen, call
from softaug.transforms.pixels import (
    as_arrays,
    empty,
    from_planes,
    in_slices,
    mask,
    ones,
    planes,
    where_,
)


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with the given probability; nothing is lost, so `seen` only moves."""

    probability: float = 0.5
    loses_nothing: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"Flip: probability must be in [0, 1], got {self.probability}")

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {"flip": torch.rand(n, generator=generator) < self.probability}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        flip = drawn["flip"].to(images.device)

        def mirrored(images: Images) -> Images:
            if in_slices(images):
                return _mirrored_in_slices(images, flip.tolist())
            chosen = mask(flip, images)[:, None, None, None]
            return where_(chosen, images.flip(-1), images)

        return mirrored(images), ones(images) if seen is None else mirrored(seen)

    __call__ = call


@dataclass(frozen=True)
class VerticalFlip:
    """Mirror top and bottom with the given probability; nothing is lost, so `seen` only moves."""

    probability: float = 0.5
    loses_nothing: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"VerticalFlip: probability must be in [0, 1], got {self.probability}")

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {"flip": torch.rand(n, generator=generator) < self.probability}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        flip, height = drawn["flip"].to(images.device), images.shape[-2]
        y = torch.arange(height, device=images.device)
        source = torch.where(flip[:, None], height - 1 - y, y)

        def mirrored(images: Images) -> Images:
            rows = planes(images, images)
            plane = torch.arange(rows.shape[0] * rows.shape[1], device=images.device)
            index = plane.view(*rows.shape[:2], 1) * height + source[:, None]
            moved = rows.flatten(0, 2).index_select(0, index.flatten())
            return from_planes(moved.view(rows.shape), images)

        return mirrored(images), ones(images) if seen is None else mirrored(seen)

    __call__ = call


@dataclass(frozen=True)
class Still:
    """Change nothing."""

    loses_nothing: ClassVar[bool] = True

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {}

    def apply(
        self,
        images: Images,
        seen: Seen | None,
        drawn: Drawn,
    ) -> tuple[Tensor, Tensor]:
        return images.clone(), ones(images) if seen is None else seen.clone()

    __call__ = call


def _mirrored_in_slices(images: Images, flip: list[bool]) -> Shaped[Tensor, "n c h w"]:
    out = empty(images)
    for after, before, flipped in zip(as_arrays(out), as_arrays(images), flip, strict=True):
        # numpy writes backwards slowly.
        after[...] = torch.from_numpy(before).flip(-1).numpy() if flipped else before
    return out
