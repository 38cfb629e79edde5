"""The operations of torchvision's policies: how strong each gets, and where it moves pixels.

torchvision is imported on first use. n samples, c channels, h w pixels.
"""

import math
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from softaug.transforms.base import Images
from softaug.transforms.policies.confidences import LOSSY


class Use(NamedTuple):
    operation: str
    magnitude: float


class Strength(NamedTuple):
    """How far a policy goes: each operation in equal steps from nothing to this.

    bins: 2 or more steps; shear: a slope; a translation by shift pixels and shift_share of the
    side; factor: the change of Brightness, Color, Contrast and Sharpness; bits: those that
    Posterize leaves.
    """

    bins: int
    shear: float
    shift: float
    shift_share: float
    degrees: float
    factor: float
    bits: int


Choices: TypeAlias = list[list[tuple[Use, Use]]]  # [operation][bin][negative]

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")
SIGNED = (*GEOMETRIC, *FACTORS)
KEPT_PIXELS = 224**2  # where images move: it is not kept for larger ones
OPERATIONS = ("Identity", *GEOMETRIC, *LOSSY, "AutoContrast", "Equalize")


def check_range(images: Images) -> None:
    """A change of colour must know what black and white are, or it goes wrong in silence."""
    if images.dtype == torch.uint8 or images.numel() == 0 or torch.compiler.is_compiling():
        return
    if not images.is_floating_point():
        raise ValueError(f"policies take images of uint8 or float, got {images.dtype}")
    # Resampling and half precision leave [0, 1] by a rounding.
    least, most = -1e-3, 1 + 1e-3
    if images.device.type != "cpu":
        torch._assert_async(((images >= least) & (images <= most)).all())
        return
    low, high = (value.item() for value in images.aminmax())
    if not (least <= low and high <= most):
        inside = ((images >= least) & (images <= most)).flatten(1).all(dim=1)
        first = int((~inside).nonzero()[0])
        raise ValueError(
            f"policies take float images in [0, 1], got {low:.4g} to {high:.4g} (first in sample "
            f"{first}); put them before normalisation and noise, or scale or clamp the images"
        )


def choices(strength: Strength, height: int, width: int) -> Choices:
    """All that can be drawn for such images: from nothing to the strength, in equal steps."""
    bins, shear, shift, share, degrees, factor, bits = strength
    most = {
        "ShearX": shear,
        "ShearY": shear,
        "TranslateX": shift + share * width,
        "TranslateY": shift + share * height,
        "Rotate": degrees,
        **dict.fromkeys(FACTORS, factor),
        "Posterize": bits,
    }
    return [_bins(name, bins, most.get(name, 0.0)) for name in OPERATIONS]


@lru_cache(maxsize=1024)
def _bins(operation: str, bins: int, most: float) -> list[tuple[Use, Use]]:
    """Each bin of one operation, with either sign.

    In float32 as in torchvision: where a translation or a number of bits is rounded, the last bit
    decides.
    """
    if operation == "Posterize":
        values = (8 - torch.arange(bins) / ((bins - 1) / (8 - most))).round()
    elif operation == "Solarize":
        values = torch.linspace(1.0, 0.0, bins)
    else:
        values = torch.linspace(0.0, most, bins)
    sign = -1 if operation in SIGNED else 1
    return [(Use(operation, value), Use(operation, sign * value)) for value in values.tolist()]


def source(operation: str, magnitude: float, height: int, width: int) -> Int[Tensor, "h w"]:
    """Which pixel each output pixel shows: its number, counted from 1, or 0 for none; int32.

    torchvision moves an image of the numbers: on the CPU and in float32 whatever the images are, so
    that pixels and map, and all devices, agree. What it gives is kept, up to 62 MB of it: all moves
    of TrivialAugment for images of up to 224 x 224.
    """
    if height * width > 2**24:
        raise ValueError(f"{operation}: expected at most 2^24 pixels, got {height} x {width}")
    if height * width > KEPT_PIXELS:
        return _source(operation, magnitude, height, width)
    return _kept_source(operation, magnitude, height, width)


def show(pixels: Images, source: Int[Tensor, "n h w"], fill: Tensor) -> Images:
    """Pixels where `source` finds them, and fill, of shape [1,C,1,1] or [1,1,1,1], for none."""
    n, channels, *_ = pixels.shape
    nothing = fill.to(pixels.dtype).flatten(2).expand(n, channels, 1)
    index = source.flatten(1)[:, None].expand(-1, channels, -1)
    return torch.cat([nothing, pixels.flatten(2)], dim=2).gather(2, index).view_as(pixels)


def _source(operation: str, magnitude: float, height: int, width: int) -> Int[Tensor, "h w"]:
    from torchvision.transforms.v2 import functional as tv

    # What is kept must serve outside of inference mode and of autocast too.
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False):
        numbers = torch.arange(1, height * width + 1, dtype=torch.float32, device="cpu")
        numbers = numbers.view(1, height, width)
        if operation == "Rotate":
            return tv.rotate(numbers, magnitude)[0].int()
        shear, shift, center = [0.0, 0.0], [0.0, 0.0], None
        axis = "XY".index(operation[-1])
        if operation.startswith("Shear"):
            shear[axis], center = math.degrees(math.atan(magnitude)), [0.0, 0.0]
        else:
            shift[axis] = float(int(magnitude))
        return tv.affine(numbers, 0.0, shift, 1.0, shear, center=center)[0].int()


_kept_source = lru_cache(maxsize=310)(_source)
