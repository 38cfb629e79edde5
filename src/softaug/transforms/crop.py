"""Crops that shift the frame by whole pixels: the soft crop, and the standard hard one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Generator, Tensor

from softaug.transforms.base import Drawn, Images, Seen, call
from softaug.transforms.pixels import (
    as_arrays,
    between,
    filling,
    from_planes,
    in_slices,
    mask,
    planes,
    share_of_image,
    watched,
    where_,
)


class _Shift:
    """What crops share: the frame moves by whole pixels, tx and ty, for each sample."""

    fill: float | Sequence[float]

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        rows, columns = inside = _inside(images, drawn)
        shown = _moved(images, drawn, filling(self.fill, images), inside)
        if seen is not None:
            return shown, _moved(seen, drawn, None, inside)
        return shown, rows.float() * columns.float()

    def pixels(self, images: Images, drawn: Drawn) -> Images:
        """The images that `apply` makes."""
        return _moved(images, drawn, filling(self.fill, images))

    def visibility(self, height: int, width: int, drawn: Drawn) -> Float[Tensor, "n"]:
        """(W - |tx|)(H - |ty|) / (W H), of images that were whole: Liu et al. 2023, section 3."""
        rows, columns = drawn["ty"].long().abs() - height, drawn["tx"].long().abs() - width
        return share_of_image(rows.clamp(max=0) * columns.clamp(max=0), height, width)


@dataclass(frozen=True)
class Crop(_Shift):
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
        tx = truncated_normal(n, horizontal, generator).mul_(width)
        ty = truncated_normal(n, vertical, generator).mul_(height)
        return {"tx": tx.round_().long(), "ty": ty.round_().long()}

    __call__ = call


@dataclass(frozen=True)
class UniformCrop(_Shift):
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

    __call__ = call


def truncated_normal(n: int, sigma: float, generator: Generator | None) -> Float[Tensor, "n"]:
    """Normal numbers with standard deviation sigma, truncated (not clamped) to -1 ... 1: float64.

    By the inverse of the distribution function: one uniform number for each, whatever sigma is,
    and no redrawing.
    """
    uniform = torch.rand(n, dtype=torch.float64, generator=generator).mul_(2).sub_(1)
    if sigma == 0:
        return torch.zeros_like(uniform)
    inside = math.erf(1 / (sigma * math.sqrt(2)))
    normal = uniform.mul_(inside).erfinv_().mul_(math.sqrt(2))
    # erfinv is infinite where `inside` rounds to 1 and the uniform number is -1 exactly.
    return normal.mul_(sigma).clamp_(-1, 1)


def _offsets(images: Images, drawn: Drawn) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    tx, ty = (drawn[name].to(images.device).long() for name in ("tx", "ty"))
    return tx, ty


def _inside(
    images: Images, drawn: Drawn
) -> tuple[Bool[Tensor, "n 1 h 1"], Bool[Tensor, "n 1 1 w"]]:
    """Which rows and columns of the output show something of the image."""
    height, width = images.shape[-2:]
    tx, ty = _offsets(images, drawn)
    rows, columns = between(-ty, height - ty, height), between(-tx, width - tx, width)
    return rows[:, None, :, None], columns[:, None, None, :]


def _moved(
    images: Images, drawn: Drawn, fill: Tensor | None, inside: tuple[Tensor, Tensor] | None = None
) -> Images:
    """The images alone; fill: None for zeros; inside: `_inside`, where it is known already."""
    height, width = images.shape[-2:]
    tx, ty = _offsets(images, drawn)
    if in_slices(images):
        return _moved_in_slices(images, tx, ty, fill)
    before = planes(images, images)
    row, pixel = before.shape[-1], before.shape[-1] // width
    # Where all is outside, any offset does.
    offset = ty.clamp(1 - height, height - 1) * row + tx.clamp(-width, width) * pixel
    rows, columns = (mask(axis, images) for axis in inside or _inside(images, drawn))
    other = None if fill is None else planes(fill, images)
    chosen = rows & planes(columns, images)
    return from_planes(where_(chosen, _read_from(offset, before), other), images)


def _moved_in_slices(
    images: Images, tx: Int[Tensor, "n"], ty: Int[Tensor, "n"], fill: Tensor | None
) -> Shaped[Tensor, "n c h w"]:
    """Each image's memory moved at once, then the fill around what is left of it."""
    before = planes(images, images)
    out = torch.empty_like(before)
    (height, row), size = before.shape[-2:], math.prod(before.shape[1:])
    pixel = row // images.shape[-1]
    source, shown = as_arrays(before).reshape(len(out), size), as_arrays(out)
    to = shown.reshape(len(out), size)
    filled = np.zeros(1, shown.dtype) if fill is None else as_arrays(planes(fill, images))[0]
    hidden = np.broadcast_to(filled, shown.shape[1:])
    for i, (x, y) in enumerate(zip(tx.tolist(), ty.tolist(), strict=True)):
        shift = min(max(-size, y * row + x * pixel), size)
        start, end = max(0, shift), size + min(0, shift)
        to[i, start - shift : end - shift] = source[i, start:end]
        rows, columns = _outside(y, height), _outside(x * pixel, row)
        shown[i, :, rows] = hidden[:, rows]
        shown[i, :, :, columns] = hidden[:, :, columns]
    return from_planes(out, images)


def _outside(offset: int, side: int) -> slice:
    """The part of one axis that shows nothing of the image."""
    return slice(0, -offset) if offset < 0 else slice(max(0, side - offset), side)


def _read_from(
    offset: Int[Tensor, "n"], before: Shaped[Tensor, "n p h k"]
) -> Shaped[Tensor, "n p h k"]:
    """Each sample's memory from an offset of at most one plane on; beyond its ends, anything.

    A shift of rows and columns is one of memory, which a CPU copies at full speed.
    """
    n, size = len(before), math.prod(before.shape[1:])
    on_cpu = before.device.type == "cpu" and not watched(before)
    # Windows that overlap would make a gradient as large as all of them together.
    if not on_cpu or before.requires_grad or before.numel() == 0:
        source = torch.arange(size, device=offset.device) + offset[:, None]
        return before.flatten(1).gather(1, source.clamp(0, size - 1)).view(before.shape)
    pixels = before.flatten(1)
    start = (torch.arange(n, device=offset.device) * size + offset).clamp(0, (n - 1) * size)
    read = pixels.flatten().unfold(0, size, 1).index_select(0, start)
    # The batch's memory ends where the first and the last sample do.
    first, last = int(offset[0]), int(offset[-1])
    if first < 0:
        read[0, -first:] = pixels[0, :first]
    if last > 0:
        read[-1, :-last] = pixels[-1, last:]
    return read.view(before.shape)
