"""Erasing: rectangles that hide a part of the image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Generator, Tensor

from softaug.transforms.base import Drawn, Images, Seen, call
from softaug.transforms.pixels import (
    as_arrays,
    as_float,
    between,
    draw_seeds,
    empty,
    filling,
    from_planes,
    in_dtype_of,
    in_slices,
    mask,
    planes,
    random_bits,
    share_of_image,
    standard_normal,
    where_,
)

Fill = float | Sequence[float] | str  # the words are "mean" and "noise"


class _Hide:
    """What erasing shares: a rectangle of each sample, ends exclusive, shows the fill."""

    fill: Fill

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        rows, columns = outside = _outside(images, drawn)
        shown = _covered(images, drawn, _filling(images, drawn, self.fill), outside)
        if seen is not None:
            return shown, _covered(seen, drawn, None, outside)
        return shown, rows.float().maximum(columns.float())

    def pixels(self, images: Images, drawn: Drawn) -> Images:
        """The images that `apply` makes."""
        return _covered(images, drawn, _filling(images, drawn, self.fill))

    def visibility(self, height: int, width: int, drawn: Drawn) -> Float[Tensor, "n"]:
        """1 - the share of the rectangle, of what of it lies in the image, that was whole."""
        top, bottom = drawn["top"].long().clamp(min=0), drawn["bottom"].long().clamp(max=height)
        left, right = drawn["left"].long().clamp(min=0), drawn["right"].long().clamp(max=width)
        tall, wide = bottom - top, right - left
        hidden = tall.clamp(min=0) * wide.clamp(min=0)
        return share_of_image(height * width - hidden, height, width)


@dataclass(frozen=True)
class Erase(_Hide):
    """Hide one rectangle, wholly inside the image, at a uniform place: soft random erasing.

    Its share of the area is uniform over `area`, its aspect (height / width) log-uniform over the
    part of `aspect` that fits, so that the share is always the one drawn, up to whole pixels.

    area: least and largest share of the image in [0, 1], or one number; aspect: least and largest,
    above 0; probability: of erasing at all.
    fill: a number, or one for each channel, in the units of the images; "mean" is the image's own
    mean colour; "noise" is standard normal for float images and uniform for uint8.
    A curve with k = 1 suits chains that only erase (Siedel et al. 2025, arXiv 2507.16427, erase
    softly with confidence linear in the share left).
    Source: Zhong et al. 2020, "Random Erasing Data Augmentation", arXiv 1708.04896.

    >>> _, seen = Erase(area=0.25, aspect=(1, 1))(torch.rand(8, 3, 32, 32))
    >>> seen.mean()
    tensor(0.7500)
    """

    area: float | tuple[float, float] = (0.02, 0.33)
    aspect: tuple[float, float] = (0.3, 3.3)
    fill: Fill = 0
    probability: float = 1.0

    def __post_init__(self) -> None:
        low, high = self._area()
        if not 0 <= low <= high <= 1:
            raise ValueError(
                "Erase: area must be shares of the image, 0 <= least <= largest <= 1, "
                f"got {self.area}"
            )
        if not 0 < self.aspect[0] <= self.aspect[1] < math.inf:
            raise ValueError(f"Erase: aspect must be 0 < least <= largest, got {self.aspect}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"Erase: probability must be in [0, 1], got {self.probability}")
        _check_fill("Erase", self.fill)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        uniform = torch.rand(5, n, dtype=torch.float64, generator=generator)
        low, high = self._area()
        share = low + (high - low) * uniform[0]
        narrowest = (share * height / width).clamp(min=self.aspect[0])
        widest = (height / (width * share)).clamp(max=self.aspect[1])
        # Where no aspect of the range fits, the nearest one that does.
        widest = torch.maximum(widest, share * height / width)
        narrowest = torch.minimum(narrowest, widest)
        aspect = (narrowest.log().lerp(widest.log(), uniform[1])).exp()
        tall = (share * aspect * height * width).sqrt().round().long().clamp(1, height)
        wide = (share / aspect * height * width).sqrt().round().long().clamp(1, width)
        erased = (uniform[2] < self.probability) & (share > 0)
        tall, wide = tall * erased, wide * erased
        top = (uniform[3] * (height - tall + 1)).long()
        left = (uniform[4] * (width - wide + 1)).long()
        return {
            "top": top,
            "left": left,
            "bottom": top + tall,
            "right": left + wide,
            "seed": draw_seeds(n, generator),
        }

    def _area(self) -> tuple[float, float]:
        return self.area if isinstance(self.area, tuple) else (self.area, self.area)

    __call__ = call


@dataclass(frozen=True)
class Cutout(_Hide):
    """Hide one square around a uniform pixel; what sticks out of the image hides nothing.

    side: of the square, in pixels, 1 or more; fill: as in `Erase`.
    Source: DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with
    Cutout", arXiv 1708.04552.
    """

    side: int = 16
    fill: Fill = 0

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"Cutout: side must be 1 pixel or more, got {self.side}")
        _check_fill("Cutout", self.fill)

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        top = torch.randint(height, (n,), generator=generator) - self.side // 2
        left = torch.randint(width, (n,), generator=generator) - self.side // 2
        return {
            "top": top,
            "left": left,
            "bottom": top + self.side,
            "right": left + self.side,
            "seed": draw_seeds(n, generator),
        }

    __call__ = call


def _outside(
    images: Images, drawn: Drawn
) -> tuple[Bool[Tensor, "n 1 h 1"], Bool[Tensor, "n 1 1 w"]]:
    """Which rows and columns the rectangle leaves out; it hides where neither does."""
    height, width = images.shape[-2:]
    edges = {name: drawn[name].to(images.device) for name in ("top", "bottom", "left", "right")}
    rows = ~between(edges["top"], edges["bottom"], height)
    columns = ~between(edges["left"], edges["right"], width)
    return rows[:, None, :, None], columns[:, None, None, :]


def _covered(
    images: Images, drawn: Drawn, fill: Tensor | None, outside: tuple[Tensor, Tensor] | None = None
) -> Images:
    """The images alone; fill: None for zeros; outside: `_outside`, where it is known already."""
    if in_slices(images):
        return _covered_in_slices(images, drawn, fill)
    rows, columns = (mask(axis, images) for axis in outside or _outside(images, drawn))
    other = None if fill is None else planes(fill, images)
    kept = rows | planes(columns, images)
    return from_planes(where_(kept, planes(images, images).clone(), other), images)


def _covered_in_slices(
    images: Images, drawn: Drawn, fill: Tensor | None
) -> Shaped[Tensor, "n c h w"]:
    """Each image with the fill's part of its rectangle written over it."""
    out = as_arrays(made := empty(images))
    filled = np.zeros(1, out.dtype) if fill is None else as_arrays(fill)
    ends = (drawn[name].clamp(min=0).tolist() for name in ("top", "bottom", "left", "right"))
    for after, before, hidden, top, bottom, left, right in zip(
        out, as_arrays(images), np.broadcast_to(filled, images.shape), *ends, strict=True
    ):
        box = (slice(None), slice(top, bottom), slice(left, right))
        after[...] = before
        after[box] = hidden[box]
    return made


def _filling(images: Images, drawn: Drawn, fill: Fill) -> Tensor | None:
    """What the rectangles show, as far as it differs, or None for zeros."""
    if fill == "mean":
        return in_dtype_of(images, as_float(images).mean(dim=(-2, -1), keepdim=True))
    if fill == "noise":
        seed, (_, *shape) = drawn["seed"].to(images.device), images.shape
        if images.is_floating_point():
            return standard_normal(seed, (shape[0], shape[1], shape[2])).to(images.dtype)
        return (random_bits(seed, (shape[0], shape[1], shape[2])) & 255).to(images.dtype)
    assert not isinstance(fill, str)
    return filling(fill, images)


def _check_fill(name: str, fill: Fill) -> None:
    if isinstance(fill, str) and fill not in ("mean", "noise"):
        raise ValueError(
            f'{name}: fill must be a number, one for each channel, "mean" or "noise", got {fill!r}'
        )
