"""Pixel arithmetic that transforms share: fills, dtypes, resampling, and noise without state."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Generator, Tensor
from torch.autograd import forward_ad

from softaug.transforms.base import Images, Seen

LARGE = 48 * 1024  # bytes of an image from which on slices are faster than masks, as measured
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size in bytes


def fill_value(fill: float | Sequence[float], images: Images) -> Tensor:
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


def filling(fill: float | Sequence[float], images: Images) -> Tensor | None:
    """`fill_value`, or None for zeros, which are cheaper to write."""
    if not isinstance(fill, Sequence) and fill == 0:
        return None
    value = fill_value(fill, images)
    return None if isinstance(fill, Sequence) and not any(fill) else value


def ones(images: Images) -> Seen:
    return torch.ones(len(images), 1, *images.shape[-2:], device=images.device)


def as_float(images: Images) -> Float[Tensor, "n c h w"]:
    """Pixels to compute with: float32, or float64 as it is."""
    return images if images.dtype == torch.float64 else images.float()


def in_dtype_of(images: Images, pixels: Float[Tensor, "n c y x"]) -> Shaped[Tensor, "n c y x"]:
    """Computed pixels in the dtype and layout of the images they came from; uint8 is rounded."""
    if not images.is_floating_point():
        pixels = pixels.round().clamp(0, 255)
    return in_layout_of(images, pixels.to(images.dtype))


def in_layout_of(images: Images, pixels: Shaped[Tensor, "n c y x"]) -> Shaped[Tensor, "n c y x"]:
    """Pixels in the layout, contiguous or channels_last, of the images they came from."""
    if images.is_contiguous(memory_format=torch.channels_last):
        return pixels.contiguous(memory_format=torch.channels_last)
    return pixels


def in_slices(images: Images) -> bool:
    """Whether to change images one by one, as slices, or all at once, by masks.

    Slices of one image stay in the processor's cache, but each costs a microsecond of Python, and
    numbers read from what was drawn: on the CPU alone, for large images, or for one, where masks
    cost more calls than they save.
    """
    if images.device.type != "cpu" or watched(images) or _differentiated(images):
        return False
    return len(images) == 1 or math.prod(images.shape[1:]) * images.element_size() > LARGE


def watched(images: Images) -> bool:
    """Whether something follows what torch does: a compiler, a tracer, torch.func, a subclass.

    It does not see numpy, and numbers read from tensors stop it.
    """
    return bool(
        torch.compiler.is_compiling()
        or type(images) is not Tensor
        or torch._C._get_tracing_state()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
    )


def as_arrays(images: Images) -> Integer[np.ndarray, "#n #c #h #w"]:
    """The images' bits as an array of numpy [N,C,H,W] in the same memory, for `in_slices`.

    To take a slice costs a tenth of what it costs in torch, and to copy it a half; numpy has no
    bfloat16, hence bits.
    """
    return images.detach().view(INTEGERS[images.element_size()]).numpy()


def empty(images: Images) -> Shaped[Tensor, "n c h w"]:
    """Memory for the images to come, in the layout of these."""
    last = images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty_like(images, memory_format=layout)


def planes(pixels: Shaped[Tensor, "#n #c #h #w"], images: Images) -> Shaped[Tensor, "m p y k"]:
    """Pixels in the order of the images' memory, so that what is done to them is layout-blind.

    pixels: the images themselves, or what broadcasts over them. [N,C,H,W] as they are; for
    channels_last [N,1,H,W*C], C values for each pixel. `from_planes` leads back.
    """
    if not images.is_contiguous(memory_format=torch.channels_last):
        return pixels.contiguous()
    _, channels, _, width = images.shape
    spread = pixels.expand(-1, channels, -1, width)
    return spread.permute(0, 2, 3, 1).flatten(2)[:, None]


def from_planes(planes: Shaped[Tensor, "n p h k"], images: Images) -> Shaped[Tensor, "n c h w"]:
    """Planes of images as [N,C,H,W] again, in the images' layout."""
    if not images.is_contiguous(memory_format=torch.channels_last):
        return planes
    n, channels, height, width = images.shape
    return planes.view(n, height, width, channels).permute(0, 3, 1, 2)


def between(first: Int[Tensor, "n"], last: Int[Tensor, "n"], size: int) -> Bool[Tensor, "n {size}"]:
    """Which positions of one axis lie in first ... last - 1."""
    position = torch.arange(size, device=first.device)
    return (position >= first[:, None]) & (position < last[:, None])


def mask(chosen: Bool[Tensor, "*shape"], pixels: Tensor) -> Shaped[Tensor, "*shape"]:
    """All bits where chosen, none elsewhere, in integers as wide as the pixels.

    Masks meet with & and |, and act on pixels in `where_`. Booleans would say the same; torch's
    kernels for them, `torch.where` among them, are 10 to 50 times slower on a CPU.
    """
    return -chosen.to(INTEGERS[pixels.element_size()])


def where_(
    chosen: Shaped[Tensor, "..."], pixels: Shaped[Tensor, "..."], other: Tensor | None
) -> Shaped[Tensor, "..."]:
    """`torch.where` for a `mask`, bit for bit, in the memory of pixels; other: None for zeros."""
    if _differentiated(pixels) or (other is not None and _differentiated(other)):
        return torch.where(chosen != 0, pixels, 0 if other is None else other)
    bits = pixels.view(chosen.dtype)
    if other is None:
        bits &= chosen
    else:
        # Differences to the other pixels are kept or dropped.
        difference = other.view(chosen.dtype)
        bits ^= difference
        bits &= chosen
        bits ^= difference
    return pixels


def _differentiated(pixels: Tensor) -> bool:
    """Whether a derivative is to come through, backward or forward: bits have none."""
    return pixels.requires_grad or forward_ad.unpack_dual(pixels).tangent is not None


def resample(
    pixels: Float[Tensor, "n c h w"],
    rows: Float[Tensor, "n y h"],
    columns: Float[Tensor, "n x w"],
) -> Float[Tensor, "n c y x"]:
    """Each axis as a linear map of its own: output = rows @ pixels @ columns^T."""
    rows, columns = rows.to(pixels.dtype), columns.to(pixels.dtype)
    return rows[:, None] @ pixels @ columns[:, None].mT


def keep(images: Images, seen: Seen | None, share: Float[Tensor, "n"]) -> Seen:
    """The map where every pixel of a sample keeps the same share, in [0, 1], of its content."""
    share = share.float()[:, None, None, None]
    if seen is None:
        return share.expand(len(images), 1, *images.shape[-2:]).contiguous()
    return seen * share


def share_of_image(pixels: Int[Tensor, "n"], height: int, width: int) -> Float[Tensor, "n"]:
    """So many pixels as a share of the image, rounded as the mean of their map is."""
    seen = pixels.float()
    # A tensor as divisor: by a Python number, CUDA multiplies with the reciprocal and loses a bit.
    return seen / torch.full_like(seen, height * width)


def standard_normal(
    seed: Int[Tensor, "n"], shape: tuple[int, int, int]
) -> Float[Tensor, "n c h w"]:
    """Normal noise of mean 0 and std 1 that depends on each sample's seed and nothing else.

    seed: int64 [n], 0 or more; shape: C, H, W. A hash of the seed and a counter, so that what was
    drawn is one number, the same on every device, in every batch and however often it is used.
    """
    # 24 bits, centred: odd multiples of 2^-24, which float32 holds and which are never -1 or 1.
    bits = (random_bits(seed, shape) >> 8) & 0xFFFFFF
    uniform = (bits * 2 + (1 - 2**24)).float() / 2**24
    return math.sqrt(2) * uniform.erfinv()


def random_bits(seed: Int[Tensor, "n"], shape: tuple[int, int, int]) -> Int[Tensor, "n c h w"]:
    """32 random bits for every pixel, int32, by the hash of `standard_normal`."""
    counter = torch.arange(math.prod(shape), dtype=torch.int32, device=seed.device)
    x = _mixed(counter * _signed(0x9E3779B9) + seed.to(torch.int32)[:, None])
    return _mixed(x ^ (seed >> 32).to(torch.int32)[:, None]).view(-1, *shape)


def draw_seeds(n: int, generator: Generator | None) -> Int[Tensor, "n"]:
    """One seed for each sample, int64 [n] on the CPU, for what is made of it later."""
    return torch.randint(2**62, (n,), generator=generator)


def _mixed(x: Int[Tensor, "n m"]) -> Int[Tensor, "n m"]:
    """The finaliser of MurmurHash3 (Appleby, public domain), in the memory of x, int32.

    Products wrap. Shifts to the right repeat the sign, and the masks take that off.
    """
    x ^= (x >> 16) & 0xFFFF
    x *= _signed(0x85EBCA6B)
    x ^= (x >> 13) & 0x7FFFF
    x *= _signed(0xC2B2AE35)
    x ^= (x >> 16) & 0xFFFF
    return x


def _signed(bits: int) -> int:
    """32 bits as an int32 has them."""
    return bits - 2**32
