"""What loses nothing: mirroring, and doing nothing."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from softaug.transforms.base import Drawn, Images, Seen, call
from softaug.transforms.pixels import mask, ones, where_


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
        return _mirror(images, seen, drawn, dim=-1)

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
        return _mirror(images, seen, drawn, dim=-2)

    __call__ = call


@dataclass(frozen=True)
class Still:
    """Change nothing."""

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


def _mirror(images: Images, seen: Seen | None, drawn: Drawn, dim: int) -> tuple[Tensor, Tensor]:
    flip = drawn["flip"].to(images.device)[:, None, None, None]

    def mirrored(images: Images) -> Images:
        return where_(mask(flip, images), images.flip(dim), images)

    return mirrored(images), ones(images) if seen is None else mirrored(seen)
