"""What loses nothing: mirroring, and doing nothing."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
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

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"Flip: probability must be in [0, 1], got {self.probability}")

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {"flip": torch.rand(n, generator=generator) < self.probability}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        after = ones(images) if seen is None else self.pixels(seen, drawn)
        return self.pixels(images, drawn), after

    def pixels(self, images: Images, drawn: Drawn) -> Images:
        flip = drawn["flip"].to(images.device)
        if in_slices(images):
            # numpy reads single numbers backwards slowly.
            return _in_slices(images, flip, lambda image: torch.from_numpy(image).flip(-1).numpy())
        chosen = mask(flip, images)[:, None, None, None]
        return where_(chosen, images.flip(-1), images)

    __call__ = call


@dataclass(frozen=True)
class VerticalFlip:
    """Mirror top and bottom with the given probability; nothing is lost, so `seen` only moves."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"VerticalFlip: probability must be in [0, 1], got {self.probability}")

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {"flip": torch.rand(n, generator=generator) < self.probability}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        after = ones(images) if seen is None else self.pixels(seen, drawn)
        return self.pixels(images, drawn), after

    def pixels(self, images: Images, drawn: Drawn) -> Images:
        flip, height = drawn["flip"].to(images.device), images.shape[-2]
        if in_slices(images):
            return _in_slices(images, flip, lambda image: image[:, ::-1])
        y = torch.arange(height, device=images.device)
        source = torch.where(flip[:, None], height - 1 - y, y)
        rows = planes(images, images)
        plane = torch.arange(rows.shape[0] * rows.shape[1], device=images.device)
        index = plane.view(*rows.shape[:2], 1) * height + source[:, None]
        moved = rows.flatten(0, 2).index_select(0, index.flatten())
        return from_planes(moved.view(rows.shape), images)

    __call__ = call


@dataclass(frozen=True)
class Still:
    """Change nothing."""

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return self.pixels(images, drawn), ones(images) if seen is None else seen.clone()

    def pixels(self, images: Images, drawn: Drawn) -> Images:
        return images.clone()

    __call__ = call


def _in_slices(
    images: Images, flip: Bool[Tensor, "n"], mirrored: Callable[[np.ndarray], np.ndarray]
) -> Images:
    out = empty(images)
    for after, before, flipped in zip(
        as_arrays(out), as_arrays(images), flip.tolist(), strict=True
    ):
        after[...] = mirrored(before) if flipped else before
    return out
