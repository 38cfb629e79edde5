"""Transforms: each moves a batch of images and, with the pixels, the map of what is still seen.

A transform is a pair of steps. `draw(n, height, width, generator)` draws the random numbers of n
samples on the CPU, as a dict of tensors with leading axis n (nested for a chain).
`apply(images, seen, drawn)` is deterministic. Calling a transform is draw, then apply.

n samples, c channels, h w pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Generator, Tensor

Drawn: TypeAlias = dict[str, Any]  # name: tensor with leading axis n, or a nested Drawn
Images = Shaped[Tensor, "n c h w"]
Seen = Float[Tensor, "n 1 h w"]


@runtime_checkable
class Transform(Protocol):
    """What SoftAugment and Chain ask of a transform."""

    def draw(
        self, n: int, height: int, width: int, generator: Generator | None = None
    ) -> Drawn: ...

    def apply(self, images: Tensor, seen: Tensor | None, drawn: Drawn) -> tuple[Tensor, Tensor]: ...


def call(
    transform: Transform,
    images: Shaped[Tensor, "*n c h w"],
    seen: Float[Tensor, "*n 1 h w"] | None = None,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw, then apply; the `__call__` of every transform.

    images: [N,C,H,W] or one image [C,H,W], any dtype, never changed; seen: the map so far,
    float32 [N,1,H,W] or [1,H,W], None for all ones; generator: on the CPU, None for torch's own.
    Returns (images, seen), new tensors of the same shapes and dtypes.
    """
    if images.ndim == 3:
        one, seen_one = call(
            transform, images[None], None if seen is None else seen[None], generator
        )
        return one[0], seen_one[0]
    if images.ndim != 4:
        raise ValueError(f"images must be [N,C,H,W] or [C,H,W], got {list(images.shape)}")
    drawn = transform.draw(len(images), images.shape[-2], images.shape[-1], generator)
    return transform.apply(images, seen, drawn)


def take(drawn: Drawn, index: Int[Tensor, "m"] | slice) -> Drawn:
    """The draws of some samples: what was drawn for an epoch, looked up for a batch."""
    return {
        name: take(value, index) if isinstance(value, dict) else value[index]
        for name, value in drawn.items()
    }


@dataclass(frozen=True)
class Crop:
    """Shift the frame by a truncated normal offset: the soft crop.

    tx and ty are independent, normal with standard deviation sigma * width and sigma * height,
    truncated (drawn anew, not clamped) to less than the side, then rounded to whole pixels. Output
    pixel (y, x) shows input pixel (y + ty, x + tx), or `fill` outside of it.

    sigma: a share of the side, in [0, 1]; the paper takes 0.3.
    fill: a number, or one for each channel, in the units of the images.
    Source: Liu et al. 2023, section 3; per axis, where the paper takes the longer side.

    >>> images, seen = Crop(sigma=0.3)(torch.rand(8, 3, 32, 32))
    >>> images.shape, seen.shape
    (torch.Size([8, 3, 32, 32]), torch.Size([8, 1, 32, 32]))
    """

    sigma: float = 0.3
    fill: float | Sequence[float] = 0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma <= 1:
            raise ValueError(
                "Crop: sigma is a share of the image side, expected 0 to 1 (the paper: 0.3), "
                f"got {self.sigma}; divide an offset in pixels by the side"
            )

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {
            "tx": _truncated_normal(n, self.sigma, width, generator),
            "ty": _truncated_normal(n, self.sigma, height, generator),
        }

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


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with the given probability; nothing is lost, so `seen` only moves."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"Flip: probability must be in [0, 1], got {self.probability}")

    def draw(
        self,
        n: int,
        height: int,  # noqa: ARG002  every transform draws by the same call
        width: int,  # noqa: ARG002
        generator: Generator | None = None,
    ) -> Drawn:
        return {"flip": torch.rand(n, generator=generator) < self.probability}

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        flip = drawn["flip"].to(images.device)[:, None, None, None]
        seen = _ones(images) if seen is None else torch.where(flip, seen.flip(-1), seen)
        return torch.where(flip, images.flip(-1), images), seen

    __call__ = call


@dataclass(frozen=True)
class Still:
    """Change nothing."""

    def draw(
        self,
        n: int,  # noqa: ARG002  every transform draws by the same call
        height: int,  # noqa: ARG002
        width: int,  # noqa: ARG002
        generator: Generator | None = None,  # noqa: ARG002
    ) -> Drawn:
        return {}

    def apply(
        self,
        images: Images,
        seen: Seen | None,
        drawn: Drawn,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        return images.clone(), _ones(images) if seen is None else seen.clone()

    __call__ = call


@dataclass(frozen=True)
class Chain:
    """A sequence of transforms as one; the map rides along, so visibility is the joint one.

    >>> images, seen = Chain([Flip(), Crop(sigma=0.3)])(torch.rand(8, 3, 32, 32))
    """

    transforms: Sequence[Transform]

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", tuple(self.transforms))
        if not self.transforms:
            raise ValueError(
                "Chain: expected at least one transform, got none; Still() does nothing"
            )

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> Drawn:
        return {
            str(i): transform.draw(n, height, width, generator)
            for i, transform in enumerate(self.transforms)
        }

    def apply(self, images: Images, seen: Seen | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        for i, transform in enumerate(self.transforms):
            images, seen = transform.apply(images, seen, drawn[str(i)])
        assert seen is not None
        return images, seen

    __call__ = call


def _truncated_normal(
    n: int, sigma: float, size: int, generator: Generator | None
) -> Int[Tensor, "n"]:
    """Whole offsets of n samples: normal with std sigma * size, truncated to |t| < size, rounded.

    By the inverse of the distribution function, in float64: one uniform number for each offset,
    whatever sigma is, and no redrawing.
    """
    uniform = 2 * torch.rand(n, dtype=torch.float64, generator=generator) - 1
    if sigma == 0:
        return torch.zeros(n, dtype=torch.int64)
    inside = math.erf(1 / (sigma * math.sqrt(2)))
    normal = math.sqrt(2) * torch.erfinv(inside * uniform)
    # erfinv is infinite where `inside` rounds to 1 and the uniform number is -1 exactly.
    return (sigma * size * normal).round().clamp(-size, size).long()


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
    moved = torch.where(inside, moved, _fill_value(fill, images))
    if images.is_contiguous(memory_format=torch.channels_last):
        moved = moved.contiguous(memory_format=torch.channels_last)
    if seen is None:
        return moved, inside.float()
    seen = seen.flatten(2).gather(2, index).view(seen.shape)
    return moved, torch.where(inside, seen, 0.0)


def _source(offset: Int[Tensor, "n"], size: int) -> tuple[Int[Tensor, "n s"], Bool[Tensor, "n s"]]:
    """Where each output position of one axis comes from, and whether that lies inside."""
    position = torch.arange(size, device=offset.device) + offset[:, None]
    return position.clamp(0, size - 1), (position >= 0) & (position < size)


def _fill_value(fill: float | Sequence[float], images: Images) -> Tensor:
    """The fill as a tensor [1,C,1,1] (C = 1 for a number) in the images' dtype."""
    values = tuple(fill) if isinstance(fill, Sequence) else (fill,)
    if isinstance(fill, Sequence) and len(fill) != images.shape[1]:
        raise ValueError(
            f"fill must be a number or one for each of the {images.shape[1]} channels, got {fill}"
        )
    if images.dtype == torch.uint8:
        if not all(0 <= value <= 255 for value in values):
            raise ValueError(f"fill must be in [0, 255] for uint8 images, got {fill}")
        values = tuple(round(value) for value in values)
    return torch.tensor(values, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)


def _ones(images: Images) -> Seen:
    return torch.ones(len(images), 1, *images.shape[-2:], device=images.device)
