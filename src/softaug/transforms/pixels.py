"""Pixels: their dtypes, memory layouts, units and fills, and what else transforms share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softaug.devices import to_device
from softaug.transforms.base import Images, Seen

GREY = (0.2989, 0.587, 0.114)  # of red, green and blue in grey, as torchvision has it


def from_pil(picture: Any) -> Shaped[Tensor, "c h w"]:
    """Convert a picture of PIL (grey or RGB, with or without alpha) to uint8 [C,H,W]."""
    mode = getattr(picture, "mode", None)
    if mode is None:
        raise TypeError(
            f"images must be a tensor or a picture of PIL, got {type(picture).__name__}"
        )
    if mode not in ("L", "LA", "RGB", "RGBA"):
        deep = str(mode).startswith("I")  # 16 bits, of which convert would keep the lowest levels
        mend = "scale it to 8 bits (divide by 257)" if deep else 'convert("RGB") it'
        raise ValueError(f'a picture of PIL must be grey or RGB, got "{mode}"; {mend}')
    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def as_float(images: Images) -> Float[Tensor, "n c h w"]:
    """Pixels to compute with: float32, or float64 as it is."""
    return images if images.dtype == torch.float64 else images.float()


def in_dtype_of(images: Images, pixels: Float[Tensor, "n c y x"]) -> Shaped[Tensor, "n c y x"]:
    """Computed pixels in the dtype and layout of the images they came from; uint8 is rounded."""
    if not images.is_floating_point():
        pixels = pixels.round().clamp(0, 255)
    return in_layout_of(images, pixels.to(images.dtype))


def memory_format(images: Images) -> torch.memory_format:
    """The images' layout: channels_last, or contiguous for all others."""
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def in_layout_of(images: Images, pixels: Shaped[Tensor, "n c y x"]) -> Shaped[Tensor, "n c y x"]:
    """Pixels in channels_last if the images they came from are."""
    if memory_format(images) == torch.channels_last:
        return pixels.contiguous(memory_format=torch.channels_last)
    return pixels


def empty(images: Images) -> Shaped[Tensor, "n c h w"]:
    """Memory for images like these, in their layout."""
    return torch.empty_like(images, memory_format=memory_format(images))


def white(images: Images) -> float:
    """The number that is white: 1, or 255 for integers."""
    return 1.0 if images.is_floating_point() else 255.0


def fill_value(fill: float | Sequence[float], images: Images) -> Tensor:
    """The fill as a tensor [1,C,1,1] (C = 1 for a number) in the images' dtype.

    Raises ValueError unless it is a number or one for each channel, in [0, 255] for uint8.
    """
    value = fill
    if images.dtype == torch.uint8:
        numbers = fill if isinstance(fill, Sequence) else (fill,)
        if not all(0 <= number <= 255 for number in numbers):
            raise ValueError(f"fill must be in [0, 255] for uint8 images, got {fill}")
        rounded = [round(number) for number in numbers]
        value = rounded if isinstance(fill, Sequence) else rounded[0]
    return per_channel("fill", value, images, images.dtype)


def fill_or_none(fill: float | Sequence[float], images: Images) -> Tensor | None:
    """`fill_value`, or None for zeros, which kernels write faster."""
    if not isinstance(fill, Sequence) and fill == 0:
        return None
    value = fill_value(fill, images)
    return None if isinstance(fill, Sequence) and not any(fill) else value


def per_channel(
    option: str, values: float | Sequence[float], images: Images, dtype: torch.dtype
) -> Tensor:
    """A number, or one for each channel of the images, as a tensor [1,C,1,1] (C = 1 for a number).

    Raises ValueError, naming the option, for another number of values.
    """
    listed = tuple(values) if isinstance(values, Sequence) else (values,)
    if isinstance(values, Sequence) and len(listed) != images.shape[1]:
        raise ValueError(
            f"{option} must be a number or one for each of the {images.shape[1]} channels, "
            f"got {values}"
        )
    return constants(listed, images, dtype).view(1, -1, 1, 1)


def constants(values: Sequence[float], like: Tensor, dtype: torch.dtype) -> Shaped[Tensor, "m"]:
    """A few numbers as a tensor on the device of another, which the host does not wait for."""
    return to_device(torch.tensor(values, dtype=dtype, device="cpu"), like.device)


def ones(images: Images) -> Seen:
    """The map of whole images: all ones."""
    return torch.ones(len(images), 1, *images.shape[-2:], device=images.device)


def scaled_map(images: Images, seen: Seen | None, share: Float[Tensor, "n"]) -> Seen:
    """The map where every pixel of a sample keeps the same share, in [0, 1], of its content."""
    share = share.float()[:, None, None, None]
    if seen is None:
        return share.expand(len(images), 1, *images.shape[-2:]).contiguous()
    return seen * share


def resample(
    pixels: Float[Tensor, "n c h w"],
    rows: Float[Tensor, "n y h"],
    columns: Float[Tensor, "n x w"],
) -> Float[Tensor, "n c y x"]:
    """Apply a linear map to each axis: output = rows @ pixels @ columns^T."""
    rows, columns = rows.to(pixels.dtype), columns.to(pixels.dtype)
    return rows[:, None] @ pixels @ columns[:, None].mT
