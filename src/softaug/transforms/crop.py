"""Crops that shift the frame by whole pixels: the soft crop, and the standard hard one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from softaug.transforms.base import Drawn, Images, Seen, call
from softaug.transforms.pixels import fill_value, in_layout_of


@dataclass(frozen=True)
class Crop:
    """Shift the frame by a truncated normal offset: the soft crop.

    tx and ty are independent, normal with standard deviation sigma * width and sigma * height,
    truncated (drawn anew, not clamped) to less than the side, then rounded to whole pixels. Output
    pixel (y, x) shows input pixel (y + ty, x + tx), or `fill` outside of it.

    sigma: a share of the side, in [0, 1]; the paper takes 0.3. A pair is (vertical, horizontal).
    fill: a number, or one for each channel, in the units of the images.
    Source: Liu et al. 2023, section 3; per axis, where the paper takes the longer side.

    >>> images, seen = Crop(sigma=0.3)(torch.rand(8, 3, 32, 32))
    >>> images.shape, seen.shape
    (torch.Size([8, 3, 32, 32]), torch.Size([8, 1, 32, 32]))
    """

    sigma: float | tuple[float, float] = 0.3
    fill: float | Sequence[float] = 0

    def __post_init__(self) -> None:
        if not all(0 <= sigma <= 1 for sigma in self.sigmas):
            raise ValueError(
                "Crop: sigma is a share of the image side, expected 0 to 1 (the paper: 0.3), "
                f"got {self.sigma}; divide an offset in pixels by the side"
            )

    @property
    def sigmas(self) -> tuple[float, float]:
        """The strength of each axis: vertical, horizontal."""
        return self.sigma if isinstance(self.sigma, tuple) else (self.sigma, self.sigma)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        vertical, horizontal = self.sigmas
        tx = width * truncated_normal(n, horizontal, generator)
        ty = height * truncated_normal(n, vertical, generator)
        return {"tx": tx.round().long(), "ty": ty.round().long()}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return _shift(images, seen, drawn, self.fill)

    __call__ = call


@dataclass(frozen=True)
class UniformCrop:
    """The standard hard crop: pad by `padding` pixels, cut the original size at a uniform place.

    tx and ty are independent and uniform over the whole numbers -padding to padding.
    fill: a number, or one for each channel, in the units of the images.
    Source: Liu et al. 2023, eq. 1.
    """

    padding: int = 4
    fill: float | Sequence[float] = 0

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"UniformCrop: padding must be 0 pixels or more, got {self.padding}")

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        if self.padding > min(height, width):
            raise ValueError(
                f"UniformCrop: padding must be at most the side, got {self.padding} "
                f"for images of {height} x {width} pixels"
            )
        low, high = -self.padding, self.padding + 1
        return {
            "tx": torch.randint(low, high, (n,), generator=generator),
            "ty": torch.randint(low, high, (n,), generator=generator),
        }

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        return _shift(images, seen, drawn, self.fill)

    __call__ = call


def truncated_normal(n: int, sigma: float, generator: Generator | None) -> Float[Tensor, "n"]:
    """Normal numbers with standard deviation sigma, truncated (not clamped) to -1 ... 1: float64.

    By the inverse of the distribution function: one uniform number for each, whatever sigma is,
    and no redrawing.
    """
    uniform = 2 * torch.rand(n, dtype=torch.float64, generator=generator) - 1
    if sigma == 0:
        return torch.zeros_like(uniform)
    inside = math.erf(1 / (sigma * math.sqrt(2)))
    normal = math.sqrt(2) * torch.erfinv(inside * uniform)
    # erfinv is infinite where `inside` rounds to 1 and the uniform number is -1 exactly.
    return (sigma * normal).clamp(-1, 1)


def _shift(
    images: Images, seen: Seen | None, drawn: Drawn, fill: float | Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Move the frame by whole pixels (tx, ty) for each sample."""
    _, channels, height, width = images.shape
    rows, row_inside = _source(drawn["ty"].to(images.device), height)
    columns, column_inside = _source(drawn["tx"].to(images.device), width)
    inside = (row_inside[:, :, None] & column_inside[:, None, :])[:, None]
    index = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None]

    moved = images.flatten(2).gather(2, index.expand(-1, channels, -1)).view(images.shape)
    moved = in_layout_of(images, torch.where(inside, moved, fill_value(fill, images)))
    if seen is None:
        return moved, inside.float()
    seen = seen.flatten(2).gather(2, index).view(seen.shape)
    return moved, torch.where(inside, seen, 0.0)


def _source(offset: Int[Tensor, "n"], size: int) -> tuple[Int[Tensor, "n s"], Bool[Tensor, "n s"]]:
    """Where each output position of one axis comes from, and whether that lies inside."""
    position = torch.arange(size, device=offset.device) + offset[:, None]
    return position.clamp(0, size - 1), (position >= 0) & (position < size)
