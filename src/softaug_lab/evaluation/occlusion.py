"""Occlusion test: hide a share of each test image under a rectangle of a colour or of noise.

The rectangles have the image's aspect and lie wholly inside at uniform places. n images,
c channels, h w pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

import softaug
from softaug_lab.basics.seeds import keyed

Colour = float | Sequence[float]  # 0 to 255, a number or one for each channel
Fill = Colour | Literal["noise"]  # noise: every value of every pixel uniform in 0 to 255


@dataclass(frozen=True)
class OcclusionLevel:
    """Metrics at one level of occlusion: `share` was asked for, `actual_share` of the area hidden.

    Whole pixels make the difference. All values are fractions but the NLL, in nats.
    """

    share: float
    actual_share: float
    top1_error: float
    nll: float
    ece: float


def area_under(levels: Sequence[OcclusionLevel], key: str) -> float:
    """Mean of a metric over the hidden share, from 0 to the largest; key: the metric's name.

    The area under the curve of the metric against `actual_share`, by trapezoids, divided by the
    range of shares: one number for a whole curve (Liu et al. 2023, fig. 4).
    """
    shares = [level.actual_share for level in levels]
    values = [getattr(level, key) for level in levels]
    return float(np.trapezoid(values, shares) / (shares[-1] - shares[0]))


def draw_rectangles(
    images: UInt8[Tensor, "n c h w"], share: float, generator: torch.Generator
) -> Int64[Tensor, "n 4"]:
    """Draw a rectangle for each image: top, left, bottom, right in pixels, ends exclusive, [N,4].

    share: of the area, in [0, 1); ValueError for another one.
    """
    height, width = images.shape[-2:]
    tall, wide = _sides(images, share)
    top = torch.randint(height - tall + 1, (len(images),), generator=generator)
    left = torch.randint(width - wide + 1, (len(images),), generator=generator)
    return torch.stack([top, left, top + tall, left + wide], dim=1)


def occlude(
    images: UInt8[Tensor, "n c h w"],
    rectangles: Int64[Tensor, "n 4"],
    fill: Colour | UInt8[Tensor, "n c h w"],
) -> UInt8[Tensor, "n c h w"]:
    """Fill each image's rectangle with a colour, or with the pixels of other images.

    A colour is rounded to whole pixel values; ValueError for a colour that does not fit.
    """
    other = fill if isinstance(fill, Tensor) else None
    colour = 0 if isinstance(fill, Tensor) else _whole_colour(fill, images.shape[1])
    edges = dict(zip(("top", "left", "bottom", "right"), rectangles.T, strict=True))
    covered, seen = softaug.Erase(fill=colour).apply(images, None, edges)
    return covered if other is None else torch.where(seen == 0, other.to(images.device), images)


def draw_noise(
    images: UInt8[Tensor, "n c h w"], numbers: Int64[Tensor, "n"], share: float, seed: int
) -> UInt8[Tensor, "n c h w"]:
    """Draw uniform noise by each image's number in the test set, the same in every batch."""
    shape, kind = images.shape[1:], torch.uint8
    generators = [keyed("occluding noise", seed, share, number) for number in numbers.tolist()]
    return torch.stack([torch.randint(256, shape, generator=g, dtype=kind) for g in generators])


def hidden_share(images: UInt8[Tensor, "n c h w"], share: float) -> float:
    """Share of the area that the rectangle with whole-pixel sides really hides, in [0, 1]."""
    tall, wide = _sides(images, share)
    return tall * wide / (images.shape[-2] * images.shape[-1])


def _whole_colour(colour: Colour, channels: int) -> list[int]:
    """Round a colour to pixel values; ValueError unless in [0, 255], one or one per channel."""
    values = [colour] if isinstance(colour, int | float) else list(colour)
    if len(values) not in (1, channels) or not all(0 <= value <= 255 for value in values):
        raise ValueError(
            f"fill must be in [0, 255], one number or one for each of {channels} channels, "
            f"got {colour}"
        )
    return [round(value) for value in values] * (channels // len(values))


def _sides(images: Tensor, share: float) -> tuple[int, int]:
    """Height and width, in pixels, of the rectangle with this share of an image's area."""
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), got {share}")
    height, width = images.shape[-2:]
    return round(height * share**0.5), round(width * share**0.5)
