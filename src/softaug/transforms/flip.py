"""Transforms that lose nothing: mirroring, and doing nothing."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from softaug.checks import check_unit
from softaug.transforms._kernels import mirror
from softaug.transforms.base import Drawn, Images, Seen, call, draws
from softaug.transforms.pixels import ones


class _Mirror:
    """What flips share: an axis of some samples is reversed, of images and maps alike."""

    probability: float
    axis: ClassVar[int]
    lossless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_unit(type(self).__name__, "probability", self.probability)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {"flip": torch.rand(n, generator=generator, device="cpu") < self.probability}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        after = ones(images) if seen is None else self.pixels(seen, drawn)
        return self.pixels(images, drawn), after

    def pixels(self, images: Images, drawn: Drawn) -> Images:
        """The images that `apply` makes."""
        return mirror(images, draws(drawn, "flip", images, torch.bool), self.axis)


@dataclass(frozen=True)
class Flip(_Mirror):
    """Mirror left and right with the given probability; nothing is lost, so `seen` only moves."""

    probability: float = 0.5
    axis: ClassVar[int] = -1

    __call__ = call


@dataclass(frozen=True)
class VerticalFlip(_Mirror):
    """Mirror top and bottom with the given probability; nothing is lost, so `seen` only moves."""

    probability: float = 0.5
    axis: ClassVar[int] = -2

    __call__ = call


@dataclass(frozen=True)
class Still:
    """Change nothing."""

    lossless: ClassVar[bool] = True

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return self.pixels(images, drawn), ones(images) if seen is None else seen.clone()

    def pixels(self, images: Images, drawn: Drawn) -> Images:
        """The images that `apply` makes."""
        return images.clone()

    __call__ = call
