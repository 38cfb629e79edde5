"""occlusion: TODO."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from softaug_lab.basics.seeds import keyed

OCCLUSION_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
Colour = float | Sequence[float]  # 0 to 255, a number or one for each channel
Fill = Colour | Literal["noise"]  # noise: every value of every pixel uniform in 0 to 255


@dataclass(frozen=True)
class OcclusionLevel:
    """Figures with a rectangle hiding `actual_share` of each image's area; fractions."""

    share: float
    actual_share: float
    top1_error: float
    nll: float
    ece: float


def area_under(levels: Sequence[OcclusionLevel], key: str) -> float:
    """The mean of a figure over the hidden shares, from none to the largest, in [0, 1].

    The area under the curve of the figure against the share hidden in truth, by trapezoids,
    divided by the largest share: one figure for a whole curve (Liu et al. 2023, fig. 4).
    """
    shares = [level.actual_share for level in levels]
    figures = [getattr(level, key) for level in levels]
    return float(np.trapezoid(figures, shares) / (shares[-1] - shares[0]))


def draw_rectangles(
    images: UInt8[Tensor, "n c h w"], share: float, generator: torch.Generator
) -> Int64[Tensor, "n 4"]:
    """Top, left, bottom and right of one rectangle for each image, the ends exclusive: [N,4]."""
    height, width = images.shape[-2:]
    tall, wide = _sides(images, share)
    top = torch.randint(height - tall + 1, (len(images),), generator=generator)
    left = torch.randint(width - wide + 1, (len(images),), generator=generator)
    return torch.stack([top, left, top + tall, left + wide], dim=1)


def cover(
    images: UInt8[Tensor, "n c h w"],
    rectangles: Int64[Tensor, "n 4"],
    fill: Colour | UInt8[Tensor, "n c h w"],
) -> UInt8[Tensor, "n c h w"]:
    """The images with each one's rectangle filled; the fill is rounded to whole pixel values.

    fill: a colour, or images whose pixels stand in the rectangles. Raises ValueError for a colour
    that does not fit.
    """
    channels = images.shape[1]
    if isinstance(fill, Tensor):
        return torch.where(_inside(images, rectangles), fill.to(images.device), images)
    values = [fill] if isinstance(fill, int | float) else list(fill)
    if len(values) not in (1, channels) or not all(0 <= value <= 255 for value in values):
        raise ValueError(
            f"fill must be in [0, 255], one number or one for each of {channels} channels, "
            f"got {fill}"
        )
    rounded = torch.tensor([round(v) for v in values], dtype=images.dtype, device=images.device)
    return torch.where(_inside(images, rectangles), rounded.view(1, -1, 1, 1), images)


def draw_noise(
    images: UInt8[Tensor, "n c h w"], numbers: Int64[Tensor, "n"], share: float, seed: int
) -> UInt8[Tensor, "n c h w"]:
    """Uniform noise for images of these numbers in the test set, the same in every batch."""
    shape, kind = images.shape[1:], torch.uint8
    generators = [keyed("occluding noise", seed, share, number) for number in numbers.tolist()]
    return torch.stack([torch.randint(256, shape, generator=g, dtype=kind) for g in generators])


def hidden_share(images: UInt8[Tensor, "n c h w"], share: float) -> float:
    """The share of the area that a rectangle with whole-pixel sides hides in truth."""
    tall, wide = _sides(images, share)
    return tall * wide / (images.shape[-2] * images.shape[-1])


def _inside(images: Tensor, rectangles: Tensor) -> Tensor:
    """Where each image's rectangle is, [N,1,H,W]."""
    top, left, bottom, right = rectangles.to(images.device).T[:, :, None]
    y = torch.arange(images.shape[-2], device=images.device)
    x = torch.arange(images.shape[-1], device=images.device)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    hidden: Tensor = rows[:, None, :, None] & columns[:, None, None, :]
    return hidden


def _sides(images: Tensor, share: float) -> tuple[int, int]:
    """Height and width, in pixels, of the rectangle with this share of an image's area."""
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), got {share}")
    height, width = images.shape[-2:]
    return round(height * share**0.5), round(width * share**0.5)
